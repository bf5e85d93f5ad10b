"""HOG drawings, panels of samples, boxes and HTML reports."""

from .boxes import draw_boxes, pad_to_height
from .frames import unnormalize
from .hog_image import assemble_hog, draw_hog, unflatten_hog
from .panels import compose, make_panel, make_panel_frames
from .prediction import draw_prediction
from .report import Curve, Facts, Headline, Media, Notes, Picture, Section, Spread, Table, Text, write_report

__all__ = [
    "Curve",
    "Facts",
    "Headline",
    "Media",
    "Notes",
    "Picture",
    "Section",
    "Spread",
    "Table",
    "Text",
    "assemble_hog",
    "compose",
    "draw_boxes",
    "draw_hog",
    "draw_prediction",
    "make_panel",
    "make_panel_frames",
    "pad_to_height",
    "unflatten_hog",
    "unnormalize",
    "write_report",
]
