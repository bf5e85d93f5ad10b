"""Layout of pictures side by side, with their titles."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def pick(length: int, max_frames: int | None = 4) -> np.ndarray:
    """Return the indices of the frames that a strip shows.

    Args:
        length (int): Number of frames.
        max_frames (int, optional): Largest number of frames. They are evenly spaced and include the first and the last
            frame. None for all frames. Defaults to 4.

    Returns:
        np.ndarray: Indices, in their order.
    """
    count = length if max_frames is None else min(length, max_frames)
    return np.linspace(0, length - 1, count).round().astype(int)


def strip(frames: np.ndarray, max_frames: int | None = 4, gap: int = 6) -> np.ndarray:
    """Put frames side by side.

    Args:
        frames (np.ndarray): uint8 (T, H, W, 3).
        max_frames (int, optional): See :func:`pick`. Defaults to 4.
        gap (int): Number of white pixels between two frames. Defaults to 6.

    Returns:
        np.ndarray: uint8 (H, width, 3).
    """
    picked = pick(len(frames), max_frames)
    border = np.full((frames.shape[1], gap, 3), 255, np.uint8)  # white, unlike a masked token
    parts = [frames[picked[0]]]
    for i in picked[1:]:
        parts += [border, frames[i]]
    return np.concatenate(parts, axis=1)


def compose(panel: Mapping[str, np.ndarray], gap: int = 8, columns: Sequence[str] = ()) -> np.ndarray:
    """Put the pictures of a panel into one labelled image. Images are in a row; wide strips are stacked.

    Args:
        panel (Mapping[str, np.ndarray]): Label -> picture, uint8 (H, W, 3), all of one size.
        gap (int): Number of white pixels around and between the pictures. Defaults to 8.
        columns (Sequence[str]): Labels of the frames of the strips, from left to right. They are written above the
            first strip. Defaults to ().

    Returns:
        np.ndarray: RGB image, uint8 (height, width, 3).

    Raises:
        ValueError: If the panel is empty or its pictures differ in size.
    """
    sizes = {picture.shape for picture in panel.values()}
    if len(sizes) != 1:
        raise ValueError(f"A panel needs pictures of one size, got {sorted(sizes)}.")
    height, width, _ = sizes.pop()
    font_size = 18
    line = font_size + gap
    in_a_row = width <= 2 * height
    across, rows = (len(panel), 1) if in_a_row else (1, len(panel))
    head = line if columns else 0
    size = (across * (width + gap) + gap, head + rows * (line + height + gap) + gap)
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(font_size)
    for i, label in enumerate(columns):
        draw.text((gap + i * width // len(columns), gap), label, fill="black", font=font)
    for i, (label, picture) in enumerate(panel.items()):
        left = gap + (i * (width + gap) if in_a_row else 0)
        top = gap + head + (0 if in_a_row else i * (line + height + gap))
        draw.text((left, top), label, fill="black", font=font)
        page.paste(Image.fromarray(picture), (left, top + line))
    return np.asarray(page)
