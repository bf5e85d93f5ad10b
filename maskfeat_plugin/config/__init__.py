"""Reads a config, checks it, and says which key is wrong."""

from .stages import check, check_built, knn_dataloaders

__all__ = ["check", "check_built", "knn_dataloaders"]
