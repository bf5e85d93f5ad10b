"""Pictures of masks, predictions, attention and boxes, and parts of HTML reports."""

from maskfeat_plugin.visualization.attention import attention_rollout, draw_heat
from maskfeat_plugin.visualization.boxes import draw_boxes, pad_to_height
from maskfeat_plugin.visualization.frames import unnormalize
from maskfeat_plugin.visualization.hog_image import assemble_hog, draw_hog, unflatten_hog
from maskfeat_plugin.visualization.panels import compose, strip
from maskfeat_plugin.visualization.prediction import draw_prediction
from maskfeat_plugin.visualization.report import (
    Curve,
    Facts,
    Folded,
    Headline,
    Media,
    Notes,
    Picture,
    Section,
    Spread,
    Table,
    Text,
    write_report,
)
from maskfeat_plugin.visualization.visualizer import MaskFeatVisualizer

__all__ = [
    "Curve",
    "Facts",
    "Folded",
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
