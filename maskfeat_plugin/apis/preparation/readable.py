"""Whether an image or a video can be read, by what reads it in training."""

import re
import warnings
from pathlib import Path

import cv2
import numpy as np
from mmaction.datasets.transforms import DecordDecode
from PIL import Image

from maskfeat_plugin.datasets.transforms.decoding import open_by_mmaction
from maskfeat_plugin.errors import describe

LEVELS = ("none", "fast", "full")
_BATCH_BYTES = 32 << 20  # of decoded frames that are in memory at a time


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
    """Decode a video as the configs for fine-tuning do.

    Args:
        path (str): The file.
        level (str): "fast", the first and the last frame; or "full", every frame. Defaults to "fast".

    Returns:
        str | None: Why it cannot be read, or None.
    """
    try:
        opened, decode = open_by_mmaction(path), DecordDecode()
        count = opened["total_frames"]
        if count == 0:
            return "it has no frames"
        first = decode(dict(opened, frame_inds=np.array([0])))["imgs"][0]
        batch = max(_BATCH_BYTES // first.nbytes, 1)
        for start in range(1, count, batch) if level == "full" else (count - 1,):
            decode(dict(opened, frame_inds=np.arange(start, min(start + batch, count))))
    except Exception as error:  # decoders fail in any way
        return _describe_decoding(error)
    return None


def _describe_decoding(error: Exception) -> str:
    """Return the first line of a decoder's message, without the time and the places in its source that decord's has."""
    return re.sub(r"\[\d\d:\d\d:\d\d\] \S+: ", "", describe(error).strip().splitlines()[0])
