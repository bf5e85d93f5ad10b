"""Functions that read a config, check it, and name the key that is wrong."""

from .stages import check, check_built, knn_dataloaders

__all__ = ["check", "check_built", "knn_dataloaders"]
