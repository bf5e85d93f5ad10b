"""HOG drawings, panels of samples and HTML reports."""

from .hog_image import assemble_hog, draw_hog, unflatten_hog
from .panels import compose, make_panel, make_panel_frames
from .report import Curve, Picture, Table, write_report

__all__ = [
    "Curve",
    "Picture",
    "Table",
    "assemble_hog",
    "compose",
    "draw_hog",
    "make_panel",
    "make_panel_frames",
    "unflatten_hog",
    "write_report",
]
