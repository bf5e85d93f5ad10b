"""Backbones with and without a mask."""

from .image_mvit import ImageMViT
from .maskable_backbone import MaskableBackbone
from .masked_backbone import (
    MaskedBackbone,
    TokenGridBackbone,
    VisibleBackbone,
    all_tokens,
    check_masked_backbone,
    check_visible_backbone,
    has_methods_of,
    select_masked,
)
from .masked_mvit import MaskedMViT
from .masked_vit import MaskedViT
from .mim_vit import MIMViT
from .multi_layer import MultiLayerMaskedMViT, MultiLayerMaskedViT
from .mvit import MViT
from .transformers_backbone import TransformersBackbone
from .visible_mvit import VisibleMViT
from .visible_vit import VisibleViT
from .vision_transformer import VisionTransformer
from .windowed_vit import WindowedViT

__all__ = [
    "ImageMViT",
    "MIMViT",
    "MViT",
    "MaskableBackbone",
    "MaskedBackbone",
    "MaskedMViT",
    "MaskedViT",
    "MultiLayerMaskedMViT",
    "MultiLayerMaskedViT",
    "TokenGridBackbone",
    "TransformersBackbone",
    "VisibleBackbone",
    "VisibleMViT",
    "VisibleViT",
    "VisionTransformer",
    "WindowedViT",
    "all_tokens",
    "check_masked_backbone",
    "check_visible_backbone",
    "has_methods_of",
    "select_masked",
]
