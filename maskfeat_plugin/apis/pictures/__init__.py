"""Looking at what a model makes of files or of its data: predictions, neighbours, classes, boxes."""

from .class_names import ClassNames, read_class_names
from .findings import Boxes, Classes, Located
from .fine_tuned import build_fine_tuned, find
from .look import CLIPS, Wishes, look
from .predictions import predict
from .subjects import SPLITS, Choice

__all__ = [
    "CLIPS",
    "SPLITS",
    "Boxes",
    "Choice",
    "ClassNames",
    "Classes",
    "Located",
    "Wishes",
    "build_fine_tuned",
    "find",
    "look",
    "predict",
    "read_class_names",
]
