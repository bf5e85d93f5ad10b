"""Target generators: the features that masked tokens have to predict."""

from .base import BaseTargetGenerator, TargetGenerator
from .hog import HOGGenerator
from .motion_hog import MotionHOGGenerator
from .multi import MultiTargetGenerator
from .pixel import PixelGenerator
from .pseudo_label import LabelMapGenerator, PseudoLabelGenerator
from .self_teacher import SelfTeacherGenerator
from .teacher import TeacherGenerator
from .token import TokenGenerator
from .whole_grid import WholeGridGenerator, as_target_generator

__all__ = [
    "BaseTargetGenerator",
    "HOGGenerator",
    "LabelMapGenerator",
    "MotionHOGGenerator",
    "MultiTargetGenerator",
    "PixelGenerator",
    "PseudoLabelGenerator",
    "SelfTeacherGenerator",
    "TargetGenerator",
    "TeacherGenerator",
    "TokenGenerator",
    "WholeGridGenerator",
    "as_target_generator",
]
