"""The type of a token grid."""

Grid = tuple[int, ...]
"""Sizes of a token grid: (T', H', W'), with T' = 1 for an image. Mask generators for images use (H', W')."""
