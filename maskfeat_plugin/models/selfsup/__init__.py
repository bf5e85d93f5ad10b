"""The MaskFeat algorithm."""

from .maskfeat import MaskFeat

__all__ = ["MaskFeat"]
