"""Models of the registry scope ``maskfeat``. Importing this module registers them."""

from maskfeat_plugin.models.backbones import (
    ImageMViT,
    MaskableBackbone,
    MaskedBackbone,
    MaskedMViT,
    MaskedViT,
    MIMViT,
    MViT,
    TransformersBackbone,
    VisibleBackbone,
    VisibleMViT,
    VisibleViT,
    VisionTransformer,
    WindowedViT,
)
from maskfeat_plugin.models.data_preprocessors import MaskFeatDataPreprocessor
from maskfeat_plugin.models.heads import ClassificationHead, MultiTargetHead, RegressionHead
from maskfeat_plugin.models.losses import MaskedLoss
from maskfeat_plugin.models.necks import (
    LastFeatureMap,
    MAEDecoder,
    MultiTargetNeck,
    RegressionNeck,
    SimpleFeaturePyramid,
)
from maskfeat_plugin.models.roi_extractors import CentredRoIExtractor3D
from maskfeat_plugin.models.selfsup import MaskFeat, VisibleMaskFeat
from maskfeat_plugin.models.target_generators import (
    BaseTargetGenerator,
    HOGGenerator,
    LabelMapGenerator,
    MotionHOGGenerator,
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
    "MaskedBackbone",
    "MaskedLoss",
    "MaskedMViT",
    "MaskedViT",
    "MotionHOGGenerator",
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
    "TransformersBackbone",
    "VisibleBackbone",
    "VisibleMViT",
    "VisibleMaskFeat",
    "VisibleViT",
    "VisionTransformer",
    "WindowedViT",
]
