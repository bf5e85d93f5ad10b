"""RoI extractors: features of boxes."""

from .centred import CentredRoIExtractor3D

__all__ = ["CentredRoIExtractor3D"]
