"""Type of a token grid."""

Grid = tuple[int, ...]
"""Sizes of a token grid: (T', H', W'), T' = 1 for an image; of a mask generator for images (H', W')."""
