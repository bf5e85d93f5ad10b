"""Models of scope ``maskfeat``; importing registers them."""

from .backbones import (
    ImageMViT,
    MaskableBackbone,
    MaskedMViT,
    MaskedViT,
    MIMViT,
    MViT,
    VisibleMViT,
    VisibleViT,
    VisionTransformer,
    WindowedViT,
)
from .data_preprocessors import MaskFeatDataPreprocessor
from .heads import ClassificationHead, MultiTargetHead, RegressionHead
from .losses import MaskedLoss
from .necks import LastFeatureMap, MAEDecoder, MultiTargetNeck, RegressionNeck, SimpleFeaturePyramid
from .roi_extractors import CentredRoIExtractor3D
from .selfsup import MaskFeat, VisibleMaskFeat
from .target_generators import (
    BaseTargetGenerator,
    HOGGenerator,
    LabelMapGenerator,
    MultiTargetGenerator,
    PixelGenerator,
    PseudoLabelGenerator,
    SelfTeacherGenerator,
    TeacherGenerator,
    TokenGenerator,
)

__all__ = [
    "BaseTargetGenerator",
    "CentredRoIExtractor3D",
    "ClassificationHead",
    "HOGGenerator",
    "ImageMViT",
    "LabelMapGenerator",
    "LastFeatureMap",
    "MAEDecoder",
    "MIMViT",
    "MViT",
    "MaskFeat",
    "MaskFeatDataPreprocessor",
    "MaskableBackbone",
    "MaskedLoss",
    "MaskedMViT",
    "MaskedViT",
    "MultiTargetGenerator",
    "MultiTargetHead",
    "MultiTargetNeck",
    "PixelGenerator",
    "PseudoLabelGenerator",
    "RegressionHead",
    "RegressionNeck",
    "SelfTeacherGenerator",
    "SimpleFeaturePyramid",
    "TeacherGenerator",
    "TokenGenerator",
    "VisibleMViT",
    "VisibleMaskFeat",
    "VisibleViT",
    "VisionTransformer",
    "WindowedViT",
]
