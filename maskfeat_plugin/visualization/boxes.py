"""Boxes with labels, drawn on a picture."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

FOUND_COLOR = (255, 196, 64)
TRUE_COLOR = (255, 255, 255)


def draw_boxes(
    image: np.ndarray,
    boxes: ArrayLike,
    labels: Sequence[str],
    color: tuple[int, int, int] = FOUND_COLOR,
    min_side: int = 224,
) -> np.ndarray:
    """Draw boxes on an image; the text of each is in a band below the image, in the order of the boxes.

    The image is enlarged by a whole factor, pixel by pixel, and the lines are drawn at the enlarged size. More than one
    box is numbered.

    Args:
        image (np.ndarray): RGB, uint8 (H, W, 3).
        boxes (ArrayLike): (K, 4) pixels of the image (x1, y1, x2, y2), x2 and y2 exclusive.
        labels (Sequence[str]): Text of each box; "\\n" begins a new line.
        color (tuple[int, int, int]): Of the lines. Defaults to amber.
        min_side (int): Least side of the picture in pixels. Defaults to 224.

    Returns:
        np.ndarray: RGB, uint8 (height, width, 3), of a height that the labels decide.

    Raises:
        ValueError: If boxes and labels are not of one number or the boxes are not (K, 4).
    """
    boxes = np.asarray(boxes, np.float64) if len(boxes) else np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) != len(labels):
        raise ValueError(f"boxes must be (K, 4) for {len(labels)} labels, got {boxes.shape}.")
    scale = max(1, -(-min_side // min(image.shape[:2])))
    picture = Image.fromarray(image.repeat(scale, axis=0).repeat(scale, axis=1))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(14)
    lines = []
    for number, (box, label) in enumerate(zip(boxes, labels, strict=True), start=1):
        x1, y1, x2, y2 = (box * scale).round().tolist()
        draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=color, width=3)
        name = f"{number}: " if len(boxes) > 1 else ""
        if name:
            draw.text((x1 + 5, y1 + 3), str(number), fill=color, font=font, stroke_width=2, stroke_fill="black")
        lines += (name + label).split("\n")
    return np.concatenate([np.asarray(picture), _text_band(lines or ["nothing"], picture.width, font)])


def pad_to_height(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Pad pictures below with black to the height of the highest.

    Args:
        pictures (Sequence[np.ndarray]): uint8 (H, W, 3) each.

    Returns:
        list[np.ndarray]: The same, all of one height.
    """
    height = max(len(picture) for picture in pictures)
    return [np.pad(picture, ((0, height - len(picture)), (0, 0), (0, 0))) for picture in pictures]


def _text_band(lines: Sequence[str], width: int, font: ImageFont.ImageFont, line_height: int = 18) -> np.ndarray:
    band = Image.new("RGB", (width, line_height * len(lines) + 6), "black")
    draw = ImageDraw.Draw(band)
    for row, line in enumerate(lines):
        draw.text((6, 3 + row * line_height), line, fill="white", font=font)
    return np.asarray(band)
