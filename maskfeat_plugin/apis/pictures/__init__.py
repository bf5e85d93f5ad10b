"""Pictures of a model's outputs for files or for its data set: predictions, neighbours, classes, boxes."""

from .chosen_samples import SPLITS, Choice
from .class_names import ClassNames, read_class_names
from .fine_tuned import build_fine_tuned, find
from .model_outputs import Boxes, Classes, Located
from .predictions import predict
from .visualize import CLIPS, Wishes, visualize

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
    "predict",
    "read_class_names",
    "visualize",
]
