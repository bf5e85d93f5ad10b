"""Preparation of data sets: converts official downloads on disk to the files that the configs read."""

from maskfeat_plugin.preparation.ava import prepare_ava
from maskfeat_plugin.preparation.coco import prepare_coco
from maskfeat_plugin.preparation.command_line import build_data_parser, run_preparation
from maskfeat_plugin.preparation.completeness import Report
from maskfeat_plugin.preparation.imagenet import prepare_imagenet
from maskfeat_plugin.preparation.kinetics import prepare_kinetics
from maskfeat_plugin.preparation.sthv2 import prepare_sthv2
from maskfeat_plugin.preparation.workspace import DataSettings

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
