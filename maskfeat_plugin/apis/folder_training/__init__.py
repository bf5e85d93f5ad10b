"""Training on a folder of files. The user needs no config: these functions build and write it."""

from .finetuning import finetuning_config
from .folder_contents import FolderContents, LabelledFiles, find_classes, look_into
from .pretraining import MODELS_OF, Settings, pretraining_config
from .run import resume_training, run_training
from .training_length import describe_duration, measure_step, set_length

__all__ = [
    "MODELS_OF",
    "FolderContents",
    "LabelledFiles",
    "Settings",
    "describe_duration",
    "find_classes",
    "finetuning_config",
    "look_into",
    "measure_step",
    "pretraining_config",
    "resume_training",
    "run_training",
    "set_length",
]
