"""Target generators: the features that masked tokens have to predict."""

from .base import BaseTargetGenerator
from .hog import HOGGenerator

__all__ = ["BaseTargetGenerator", "HOGGenerator"]
