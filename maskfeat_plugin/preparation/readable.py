"""Checks that training can read images and videos, with the readers of training."""

import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from maskfeat_plugin.datasets import VideoReader
from maskfeat_plugin.errors import describe

LEVELS = ("none", "fast", "full")


def check_image(path: str, level: str = "fast") -> str | None:
    """Check whether an image can be read.

    Args:
        path (str): The file.
        level (str): "fast": read the header. "full": decode every pixel, with Pillow, which detects a missing end, and
            with OpenCV, which the configs use. Defaults to "fast".

    Returns:
        str | None: The reason why it cannot be read, or None.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if level == "full":
                    image.load()
                else:
                    image.verify()
        if level == "full" and cv2.imdecode(np.frombuffer(Path(path).read_bytes(), np.uint8), cv2.IMREAD_COLOR) is None:
            return "OpenCV does not decode it"
    except Exception as error:  # decoders can raise any error
        return describe(error)
    return None


def check_video(path: str, level: str = "fast") -> str | None:
    """Check whether a video can be decoded as the configs do.

    Args:
        path (str): The file.
        level (str): "fast": decode the first and the last frame. "full": decode every frame. Defaults to "fast".

    Returns:
        str | None: The reason why it cannot be read, or None.
    """
    try:
        reader = VideoReader(path, path)
        last = len(reader) - 1
        for _ in reader.stream(range(last + 1) if level == "full" else sorted({0, last})):
            pass
    except Exception as error:  # decoders can raise any error
        return describe(error).strip().splitlines()[0]
    return None
