"""The MaskFeat algorithm."""

from .maskfeat import MaskFeat
from .visible_maskfeat import VisibleMaskFeat

__all__ = ["MaskFeat", "VisibleMaskFeat"]
