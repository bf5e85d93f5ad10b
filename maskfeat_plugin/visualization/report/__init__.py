"""Reports. A report is one self-contained HTML page with tables, charts, pictures and texts."""

from .page import write_report
from .parts import Curve, Facts, Folded, Headline, Media, Notes, Picture, Section, Spread, Table, Text

__all__ = [
    "Curve",
    "Facts",
    "Folded",
    "Headline",
    "Media",
    "Notes",
    "Picture",
    "Section",
    "Spread",
    "Table",
    "Text",
    "write_report",
]
