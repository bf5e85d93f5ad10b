"""Whether an image or a video can be read, by what reads it in training."""

import re
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from maskfeat_plugin.errors import describe

LEVELS = ("none", "fast", "full")
_BATCH = 16  # decoded frames that are in memory at a time


def check_image(path: str, level: str = "fast") -> str | None:
    """Read an image.

    Args:
        path (str): The file.
        level (str): "fast", its header; or "full", every pixel, by Pillow, which sees what is cut off, and by OpenCV,
            which the configs use. Defaults to "fast".

    Returns:
        str | None: Why it cannot be read, or None.
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
    except Exception as error:  # decoders fail in any way
        return describe(error)
    return None


def check_video(path: str, level: str = "fast") -> str | None:
    """Decode a video with decord, as the configs do.

    Args:
        path (str): The file.
        level (str): "fast", the first and the last frame; or "full", every frame. Defaults to "fast".

    Returns:
        str | None: Why it cannot be read, or None.
    """
    import decord  # an import at the top would start its threads before the processes are forked

    try:
        reader = decord.VideoReader(path, num_threads=1)
        count = len(reader)
        if count == 0:
            return "it has no frames"
        frames = list(range(count)) if level == "full" else sorted({0, count - 1})
        for start in range(0, len(frames), _BATCH):
            reader.get_batch(frames[start : start + _BATCH])
    except Exception as error:  # decoders fail in any way
        return describe_decoding(error)
    return None


def describe_decoding(error: Exception) -> str:
    """The first line of decord's message, without the time and the places in its own source."""
    return re.sub(r"\[\d\d:\d\d:\d\d\] \S+: ", "", describe(error).strip().splitlines()[0])
