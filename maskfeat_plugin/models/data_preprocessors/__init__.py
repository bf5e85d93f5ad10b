"""Data preprocessors."""

from .maskfeat_data_preprocessor import MaskFeatDataPreprocessor

__all__ = ["MaskFeatDataPreprocessor"]
