"""Backbones, masked and plain."""

from .masked_mvit import MaskedMViT
from .masked_vit import MaskedViT
from .mvit import MViT

__all__ = ["MViT", "MaskedMViT", "MaskedViT"]
