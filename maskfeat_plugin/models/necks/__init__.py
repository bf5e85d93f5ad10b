"""Necks: they predict features from tokens."""

from .last_feature_map import LastFeatureMap
from .mae_decoder import MAEDecoder
from .multi_layer_neck import MultiLayerNeck
from .multi_target_neck import MultiTargetNeck
from .regression_neck import RegressionNeck
from .simple_feature_pyramid import SimpleFeaturePyramid

__all__ = [
    "LastFeatureMap",
    "MAEDecoder",
    "MultiLayerNeck",
    "MultiTargetNeck",
    "RegressionNeck",
    "SimpleFeaturePyramid",
]
