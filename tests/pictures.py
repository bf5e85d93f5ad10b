"""Comparison of pictures that the tools draw with the pictures in the docs."""

import matplotlib
import numpy as np
from PIL import Image

# Versions of matplotlib before 3.11 draw letters differently and resample pictures.
IS_OLD_MATPLOTLIB = tuple(map(int, matplotlib.__version__.split(".")[:2])) < (3, 11)


def read(path):
    return np.asarray(Image.open(path).convert("RGB"))


def share_of_difference(one, other, letters=False):
    """Return the share of pixels in which two pictures differ.

    Args:
        one: File of a picture.
        other: File of a picture of the same size.
        letters: Whether to compare the means of blocks of 16 x 16 pixels, because versions of matplotlib draw letters
            differently. Only with an old matplotlib.
    """
    one, other = (read(path).astype(float) for path in (one, other))
    assert one.shape == other.shape
    if letters and IS_OLD_MATPLOTLIB:
        height, width = (length // 16 for length in one.shape[:2])
        one, other = (
            picture[: height * 16, : width * 16].reshape(height, 16, width, 16, 3).mean((1, 3))
            for picture in (one, other)
        )
    return (abs(one - other).max(-1) > 40).mean()
