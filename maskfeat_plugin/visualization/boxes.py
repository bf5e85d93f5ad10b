"""Drawing of boxes with labels, and of classes with scores, on a picture."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

FOUND_COLOR = (255, 196, 64)
TRUE_COLOR = (255, 255, 255)
DIM_COLOR = (160, 160, 160)
BAR_COLOR = (112, 82, 20)

_LINE_HEIGHT = 18


def draw_boxes(
    image: np.ndarray,
    boxes: ArrayLike,
    labels: Sequence[str],
    color: tuple[int, int, int] = FOUND_COLOR,
    min_side: int = 224,
) -> np.ndarray:
    r"""Draw boxes on an image, and write their texts into a band below the image, in the order of the boxes.

    The image is enlarged by an integer factor by repeating pixels. The lines are drawn on the enlarged image. If there
    are several boxes, they are numbered.

    Args:
        image (np.ndarray): RGB, uint8 (H, W, 3).
        boxes (ArrayLike): (K, 4) pixels of the image (x1, y1, x2, y2), x2 and y2 exclusive.
        labels (Sequence[str]): Text of each box; "\n" begins a new line.
        color (tuple[int, int, int]): Colour of the lines. Defaults to amber.
        min_side (int): Smallest length of the picture's shorter side in pixels. Defaults to 224.

    Returns:
        np.ndarray: RGB, uint8 (height, width, 3). The height depends on the labels.

    Raises:
        ValueError: If the numbers of boxes and labels differ, or the boxes are not (K, 4).
    """
    boxes = np.asarray(boxes, np.float64)
    if not boxes.size:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) != len(labels):
        raise ValueError(f"boxes must be ({len(labels)}, 4) for {len(labels)} labels, got {boxes.shape}.")
    enlarged = enlarge_to(image, min_side)
    scale = len(enlarged) // len(image)
    picture = Image.fromarray(enlarged)
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
    return add_caption(np.asarray(picture), lines or ["nothing"])


def draw_labelled_boxes(
    image: np.ndarray, boxes: np.ndarray, labels: Sequence[str], color: tuple[int, int, int] = FOUND_COLOR
) -> np.ndarray:
    r"""Draw boxes on a frame, each with its text above it, or below it if there is no room above.

    The frame keeps its size.

    Args:
        image (np.ndarray): RGB, uint8 (H, W, 3).
        boxes (np.ndarray): (K, 4) pixels of the image (x1, y1, x2, y2), x2 and y2 exclusive.
        labels (Sequence[str]): Text of each box; "\n" begins a new line.
        color (tuple[int, int, int]): Colour of the lines. Defaults to amber.

    Returns:
        np.ndarray: RGB, uint8 (H, W, 3).
    """
    height, width = image.shape[:2]
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    size = max(12, min(height, width) // 36)
    font, row = ImageFont.load_default(size), round(1.25 * size)
    corners = np.asarray(boxes).round().astype(int).tolist()
    for x1, y1, x2, y2 in corners:
        draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=color, width=max(2, size // 8))
    for (x1, y1, _, y2), label in zip(corners, labels, strict=True):  # after all boxes, so that no line crosses a text
        lines = [shorten(line, width - 8, font) for line in label.split("\n")]
        length, depth = max(map(font.getlength, lines)) + 8, row * len(lines) + 4
        left = max(0, min(x1, width - int(length)))
        below = y2 if y2 + depth <= height else max(0, min(y1, height - depth))
        top = y1 - depth if y1 >= depth else below
        draw.rectangle((left, top, left + length - 1, top + depth - 1), fill=BAR_COLOR)
        for number, line in enumerate(lines):
            draw.text((left + 4, top + 2 + number * row), line, fill=TRUE_COLOR, font=font)
    return np.asarray(picture)


def add_caption(picture: np.ndarray, lines: Sequence[str], dim: bool = False) -> np.ndarray:
    """Write lines of text into a black band below a picture. A line that is too long is cut and ends in dots.

    Args:
        picture (np.ndarray): RGB, uint8 (H, W, 3).
        lines (Sequence[str]): The lines.
        dim (bool): Whether the text is grey instead of white. Defaults to False.

    Returns:
        np.ndarray: RGB, uint8 (height, W, 3).
    """
    band, draw = _band(picture, len(lines))
    for row, line in enumerate(lines):
        _write(draw, row, line, DIM_COLOR if dim else TRUE_COLOR)
    return np.concatenate([picture, np.asarray(band)])


def add_scores(picture: np.ndarray, scores: Sequence[tuple[str, float]]) -> np.ndarray:
    """Write classes into a band below a picture, each on a bar whose length shows its score.

    Args:
        picture (np.ndarray): RGB, uint8 (H, W, 3).
        scores (Sequence[tuple[str, float]]): Classes and their scores from 0 to 1. The bar of the score 1 is as wide as
            the picture.

    Returns:
        np.ndarray: RGB, uint8 (height, W, 3).
    """
    band, draw = _band(picture, len(scores))
    for row, (name, score) in enumerate(scores):
        top = 3 + row * _LINE_HEIGHT
        length = round(min(max(score, 0.0), 1.0) * (band.width - 1))
        draw.rectangle((0, top, length, top + _LINE_HEIGHT - 3), fill=BAR_COLOR)
        _write(draw, row, f"{score:.2f}  {name}", TRUE_COLOR)
    return np.concatenate([picture, np.asarray(band)])


def enlarge_to(image: np.ndarray, min_side: int = 224) -> np.ndarray:
    """Enlarge a small image by an integer factor by repeating pixels.

    Args:
        image (np.ndarray): uint8 (H, W, 3).
        min_side (int): Smallest length of its shorter side afterwards, in pixels. Defaults to 224.

    Returns:
        np.ndarray: uint8 (H * factor, W * factor, 3).
    """
    scale = max(1, -(-min_side // min(image.shape[:2])))
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def pad_to_height(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Pad pictures with black at the bottom to the height of the highest picture.

    Args:
        pictures (Sequence[np.ndarray]): uint8 (H, W, 3) each.

    Returns:
        list[np.ndarray]: The padded pictures, all of one height.
    """
    height = max(len(picture) for picture in pictures)
    return [np.pad(picture, ((0, height - len(picture)), (0, 0), (0, 0))) for picture in pictures]


def shorten(text: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """Shorten a text to a width; a shortened text ends in dots.

    Args:
        text (str): The text.
        width (int): Width in pixels.
        font (ImageFont.ImageFont): Font of the text.

    Returns:
        str: The text, or its beginning with dots.
    """
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def _band(picture: np.ndarray, lines: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    band = Image.new("RGB", (picture.shape[1], _LINE_HEIGHT * lines + 6), "black")
    return band, ImageDraw.Draw(band)


def _write(draw: ImageDraw.ImageDraw, row: int, line: str, color: tuple[int, int, int]) -> None:
    font = ImageFont.load_default(14)
    draw.text((6, 3 + row * _LINE_HEIGHT), shorten(line, draw.im.size[0] - 12, font), fill=color, font=font)
