"""From the official downloads on disk to the files that the configs read; nothing is downloaded."""

from .ava import prepare_ava
from .coco import prepare_coco
from .command_line import build_data_parser, run_preparation
from .imagenet import prepare_imagenet
from .kinetics import prepare_kinetics
from .report import Report
from .sthv2 import prepare_sthv2
from .workspace import DataSettings

__all__ = [
    "DataSettings",
    "Report",
    "build_data_parser",
    "prepare_ava",
    "prepare_coco",
    "prepare_imagenet",
    "prepare_kinetics",
    "prepare_sthv2",
    "run_preparation",
]
