"""Files of pictures and of animations."""

import io
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.files import writing

STILL = (".png", ".jpg", ".jpeg", ".webp")
MOVING = (".gif", ".mp4")


def check_ending(path: str | Path) -> str:
    """Check that the ending of a file belongs to a supported format.

    Args:
        path (str | Path): The file.

    Returns:
        str: The ending, in lower case.

    Raises:
        ConfigError: If the ending is neither in :data:`STILL` nor in :data:`MOVING`.
    """
    ending = Path(path).suffix.lower()
    if ending not in STILL + MOVING:
        raise ConfigError(
            f"{str(path)!r}: a picture cannot be written to a file that ends in {ending!r}. Use {', '.join(STILL)} for "
            f"a picture, {' or '.join(MOVING)} for an animation."
        )
    return ending


def write_frames(path: str | Path, frames: np.ndarray, fps: float = 4.0) -> Path:
    """Write a picture or an animation. The ending of the file sets the format. No incomplete file is left.

    Args:
        path (str | Path): The file; its folder is made if it is missing. Animated GIFs repeat forever, mp4 is H.264.
        frames (np.ndarray): RGB, uint8 (T, H, W, 3); a still picture has one frame.
        fps (float): Frames per second. Defaults to 4.0.

    Returns:
        Path: The file.

    Raises:
        ConfigError: If the ending is unknown, or PyAV, which mp4 needs, is missing.
        WriteError: If the file cannot be written, for example because the disk is full.
        ValueError: If there are several frames for a still picture.
    """
    path, ending = Path(path), check_ending(path)
    if ending in STILL and len(frames) != 1:
        raise ValueError(f"{path.name} is a still picture and needs one frame, got {len(frames)} frames.")
    with writing(path) as unfinished:
        if ending == ".mp4":
            _write_mp4(unfinished, frames, Fraction(round(fps)))
        else:
            pages = [Image.fromarray(frame) for frame in frames]
            moving = dict(save_all=True, append_images=pages[1:], duration=round(1000 / fps), loop=0)
            buffer = io.BytesIO()  # Pillow's JPEG writer raises no error if a full disk cuts the file short
            pages[0].save(buffer, Image.registered_extensions()[ending], **(moving if ending == ".gif" else {}))
            unfinished.write_bytes(buffer.getvalue())  # a view may crash Python before 3.12.2 (python/cpython#111049)
    return path


def write_video(path: str | Path, frames: Iterable[np.ndarray], rate: Fraction) -> Path:
    """Write frames one at a time to an mp4 file (H.264). No incomplete file is left.

    Args:
        path (str | Path): The file; its folder is made if it is missing.
        frames (Iterable[np.ndarray]): RGB, uint8 (H, W, 3) each, at least one. Odd sizes are padded to even sizes.
        rate (Fraction): Frames per second.

    Returns:
        Path: The file.

    Raises:
        ConfigError: If PyAV is missing.
        WriteError: If the file cannot be written, for example because the disk is full.
    """
    with writing(path) as unfinished:
        _write_mp4(unfinished, frames, rate)
    return Path(path)


def _write_mp4(path: Path, frames: Iterable[np.ndarray], rate: Fraction) -> None:
    try:
        import av  # only the demo requires this package
    except ImportError as error:
        raise ConfigError(
            ".mp4 needs PyAV. Install it with pip install av, or use a file that ends in .gif."
        ) from error
    frames = iter(frames)
    first = next(frames)
    height, width = first.shape[:2]
    # H.264 with 4:2:0 colour needs even sizes
    margin = ((0, height % 2), (0, width % 2), (0, 0))
    with av.open(str(path), mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        for frame in chain([first], frames):
            padded = np.pad(frame, margin, constant_values=255)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(padded, format="rgb24")))
        container.mux(stream.encode())
