"""Pictures of masks, predictions, attention and boxes, and HTML reports."""

from .attention import attention_rollout, draw_heat
from .boxes import draw_boxes, pad_to_height
from .frames import unnormalize
from .hog_image import assemble_hog, draw_hog, unflatten_hog
from .panels import compose, strip
from .prediction import draw_prediction
from .report import Curve, Facts, Headline, Media, Notes, Picture, Section, Spread, Table, Text, write_report
from .visualizer import MaskFeatVisualizer

__all__ = [
    "Curve",
    "Facts",
    "Headline",
    "MaskFeatVisualizer",
    "Media",
    "Notes",
    "Picture",
    "Section",
    "Spread",
    "Table",
    "Text",
    "assemble_hog",
    "attention_rollout",
    "compose",
    "draw_boxes",
    "draw_heat",
    "draw_hog",
    "draw_prediction",
    "pad_to_height",
    "strip",
    "unflatten_hog",
    "unnormalize",
    "write_report",
]
