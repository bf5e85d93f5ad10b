"""Models of scope ``maskfeat``; importing registers them."""

from .backbones import MaskedMViT, MaskedViT, MViT
from .data_preprocessors import MaskFeatDataPreprocessor
from .heads import RegressionHead
from .losses import MaskedLoss
from .necks import RegressionNeck
from .selfsup import MaskFeat
from .target_generators import BaseTargetGenerator, HOGGenerator

__all__ = [
    "BaseTargetGenerator",
    "HOGGenerator",
    "MViT",
    "MaskFeat",
    "MaskFeatDataPreprocessor",
    "MaskedLoss",
    "MaskedMViT",
    "MaskedViT",
    "RegressionHead",
    "RegressionNeck",
]
