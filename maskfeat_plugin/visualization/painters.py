"""Painters: one class for each kind of target, which draws the features of tokens."""

import colorsys
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from maskfeat_plugin.models.target_generators import HOGGenerator, PixelGenerator, TeacherGenerator
from maskfeat_plugin.models.target_generators.teacher import FEATURE_NORMS

from .frames import enlarge, to_rgb
from .hog_image import assemble_hog, draw_hog, to_numpy, unflatten_hog

PREDICTED_COLOR = (255, 196, 64)


@dataclass(frozen=True)
class Scene:
    """Frames, mask and sizes of the drawing of a sample.

    Args:
        frames (np.ndarray): RGB frames, uint8 (T', H, W, 3), one for each time step of the token grid.
        mask (np.ndarray): bool (T', H', W'), True where a token is masked.
        token (tuple[int, int]): Height and width of a token in pixels of the frames.
        scale (int): Number of times that a pixel is repeated in each direction.
        values (np.ndarray, optional): The frames of the model's input before normalisation, (T', H, W, C). Defaults to
            None, ``frames``.
    """

    frames: np.ndarray
    mask: np.ndarray
    token: tuple[int, int]
    scale: int
    values: np.ndarray | None = None


class TargetPainter:
    """Base class of painters, which draw the features of tokens of one target.

    :meth:`read` and :meth:`read_prediction` convert true and predicted features to rows of the same form. :meth:`fit`
    gets all true rows, and :meth:`paint` draws a grid of rows. Register a subclass for the class of its target
    generator with ``painter_of.register(Generator, Painter)``.

    Args:
        target_generator (nn.Module): The target generator.
        scene (Scene): Frames, mask and sizes of the drawing.
    """

    predicted_color = (255, 255, 255)  # the drawing of a prediction is multiplied by this colour / 255

    def __init__(self, target_generator: nn.Module, scene: Scene) -> None:
        self.target_generator = target_generator
        self.scene = scene

    def read(self, features: torch.Tensor) -> np.ndarray:
        """Convert true features (M, D) or classes (M,) to rows, float32 (M, D')."""
        return np.nan_to_num(to_numpy(features).astype(np.float32))  # principal components of NaN do not exist

    def read_prediction(self, features: torch.Tensor) -> np.ndarray:
        """Convert predicted features to rows, see :meth:`read`."""
        return self.read(features)

    def fit(self, rows: np.ndarray) -> None:
        """Choose the scale or the colours of the drawing from all true rows (N, D')."""

    def paint(self, grid: np.ndarray) -> np.ndarray:
        """Draw rows on the token grid, (T', H', W', D'), as RGB frames, uint8 (T', H * scale, W * scale, 3)."""
        raise NotImplementedError

    def fill_tokens(self, colors: np.ndarray) -> np.ndarray:
        """Fill each token with its colour. Colours are (T', H', W', 3), in [0, 1]."""
        pixels = (colors.clip(0, 1) * 255 + 0.5).astype(np.uint8)
        return enlarge(pixels, *(side * self.scene.scale for side in self.scene.token))


class FeaturePainter(TargetPainter):
    """Painter of features as colours: red, green and blue show the first three principal components.

    The components are computed from the true features. The prediction is projected onto the same components and scaled
    in the same way, so equal features have equal colours.
    """

    def fit(self, rows: np.ndarray) -> None:
        """Compute the components and the range of each."""
        self._mean = rows.mean(0)
        _, _, components = np.linalg.svd(rows - self._mean, full_matrices=False)
        components = components[:3]
        # the sign of a component is arbitrary: choose it so that the largest weight is positive
        largest = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], axis=1)
        self._components = components * np.sign(largest)
        self._low, self._high = np.percentile(self._project(rows), (2, 98), axis=0)

    def _project(self, rows: np.ndarray) -> np.ndarray:
        """Project rows (..., D) onto up to three components, and pad the result with zeros to (..., 3)."""
        projected = (rows - self._mean) @ self._components.T
        return np.pad(projected, [(0, 0)] * (rows.ndim - 1) + [(0, 3 - projected.shape[-1])])

    def paint(self, grid: np.ndarray) -> np.ndarray:
        """Draw rows on the token grid, see :class:`TargetPainter`."""
        spread = self._high - self._low
        flat = spread < 1e-6  # a component that is the same for all rows
        colors = np.where(flat, 0.5, (self._project(grid) - self._low) / np.where(flat, 1, spread))
        return self.fill_tokens(colors)


class TeacherPainter(FeaturePainter):
    """Painter of a teacher's features. If the targets have length 1, predictions are scaled to length 1 too.

    The cosine loss does not determine the length of predictions.
    """

    def read_prediction(self, features: torch.Tensor) -> np.ndarray:
        """Convert predicted features to rows, see :class:`TargetPainter`."""
        features = features.float()
        return self.read(FEATURE_NORMS["l2"](features) if self.target_generator.norm == "l2" else features)


class ClassPainter(TargetPainter):
    """Painter of classes and discrete tokens: each has a colour and a number. Less likely classes are paler."""

    def read(self, features: torch.Tensor) -> np.ndarray:
        """Convert classes (M,) or distributions (M, K) to rows (class, probability); class -1 means no class."""
        if features.dim() == 1:
            return np.stack([to_numpy(features), np.ones(len(features))], axis=1).astype(np.float32)
        probability, index = features.float().max(1)
        index = torch.where(probability > 0, index, -1)
        return to_numpy(torch.stack([index.float(), probability], dim=1))

    def read_prediction(self, features: torch.Tensor) -> np.ndarray:
        """Convert logits (M, K) to rows (class, probability)."""
        return self.read(features.float().softmax(1))

    def paint(self, grid: np.ndarray) -> np.ndarray:
        """Draw rows on the token grid, see :class:`TargetPainter`."""
        index, probability = grid[..., 0].astype(int), grid[..., 1:]
        numbers, places = np.unique(index, return_inverse=True)
        colors = np.array([_class_color(number) for number in numbers])[places.reshape(index.shape)]
        weight = 0.3 + 0.7 * probability
        pictures = self.fill_tokens(weight * colors + (1 - weight) * 0.5)
        return np.stack([self._number(p, row) for p, row in zip(pictures, index, strict=True)])

    def _number(self, picture: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Write the classes (H', W') into the tokens of a picture, if the tokens are large enough."""
        height, width = (side * self.scene.scale for side in self.scene.token)
        digits = len(str(max(index.max(), 0)))
        size = min(height // 2, int(1.5 * width / digits) - 2)
        if size < 8:
            return picture
        page = Image.fromarray(picture)
        draw, font = ImageDraw.Draw(page), ImageFont.load_default(size)
        for (row, col), number in np.ndenumerate(index):
            if number >= 0:
                center = (col + 0.5) * width, (row + 0.5) * height
                draw.text(center, str(number), fill="black", font=font, anchor="mm")
        return np.asarray(page)


def _class_color(number: int) -> tuple[float, float, float]:
    """Return a light colour for a class; consecutive numbers have different colours, and -1 is grey."""
    if number < 0:
        return 0.5, 0.5, 0.5
    turn = number * 0.618034  # with the golden ratio, consecutive hues are never close to each other
    return colorsys.hsv_to_rgb(turn % 1, (0.55, 0.8, 0.65)[number % 3], (1.0, 0.9, 0.8)[number // 3 % 3])


@singledispatch
def painter_of(target_generator: nn.Module, scene: Scene) -> TargetPainter:
    """Build the painter of a target, depending on the class of its target generator.

    If no painter is registered for the class, :class:`ClassPainter` draws targets whose generator has ``num_classes``,
    and :class:`FeaturePainter` draws all others.

    Args:
        target_generator (nn.Module): The target generator.
        scene (Scene): Frames, mask and sizes of the drawing.

    Returns:
        TargetPainter: The painter.
    """
    painter = ClassPainter if getattr(target_generator, "num_classes", None) else FeaturePainter
    return painter(target_generator, scene)


painter_of.register(TeacherGenerator, TeacherPainter)


class HOGPainter(TargetPainter):
    """Painter of HOG as strokes, see :func:`draw_hog`. A cell is averaged over its colours and over its blocks."""

    target_generator: HOGGenerator
    predicted_color = PREDICTED_COLOR

    def fit(self, rows: np.ndarray) -> None:
        """Choose the value that is drawn at full brightness. It is the same for prediction and target."""
        generator = self.target_generator
        # Cells that are normalised on their own have values up to 1. Predictions are means of possible targets and
        # seldom exceed 0.8. For other cells, use the largest value of this sample.
        fixed = generator.block_size == 1 and generator.norm in ("l2", "l2-hys")
        self._max_value = 0.8 if fixed else max(float(unflatten_hog(rows, **self._sizes(rows)).mean(1).max()), 1e-6)

    def paint(self, grid: np.ndarray) -> np.ndarray:
        """Draw rows on the token grid, see :class:`TargetPainter`."""
        every = np.ones(grid.shape[:3], bool)
        frames = assemble_hog(grid.reshape(-1, grid.shape[-1]), every, **self._sizes(grid))
        pixels = self.target_generator.cell_size * self.scene.scale
        signed = self.target_generator.signed
        return np.stack([draw_hog(hog, pixels, max_value=self._max_value, signed=signed) for hog in frames])

    def _sizes(self, rows: np.ndarray) -> dict:
        """Return the sizes of the HOG of tokens (..., D). Positions within blocks count as channels."""
        generator, (height, width) = self.target_generator, self.scene.token
        cells = height // generator.cell_size, width // generator.cell_size
        channels = max(rows.shape[-1] // (generator.nbins * cells[0] * cells[1]), 1)
        return dict(nbins=generator.nbins, cells=cells, channels=channels)


painter_of.register(HOGGenerator, HOGPainter)


class PixelPainter(TargetPainter):
    """Painter of pixels as an image. Normalised tokens are scaled back with mean and deviation of the true pixels."""

    target_generator: PixelGenerator

    def paint(self, grid: np.ndarray) -> np.ndarray:
        """Draw rows on the token grid, see :class:`TargetPainter`."""
        frames, (height, width) = self.scene.values, self.scene.token
        if frames is None:
            frames = self.scene.frames
        steps, rows, cols = grid.shape[:3]
        channels, depth = frames.shape[-1], frames.dtype
        # (T', H, W, C) -> (T', H', W', C, h, w) -> (L, C, h, w)
        true = (
            frames.reshape(steps, rows, height, cols, width, channels)
            .transpose(0, 1, 3, 5, 2, 4)
            .reshape(-1, channels, height, width)
            .astype(np.float32)
        )
        pixels = self.target_generator.to_pixels(torch.from_numpy(grid).flatten(0, 2), torch.from_numpy(true))
        pixels = to_numpy(pixels).clip(0, np.iinfo(depth).max).reshape(steps, rows, cols, channels, height, width)
        pixels = (pixels.transpose(0, 1, 4, 2, 5, 3).reshape(frames.shape) + 0.5).astype(depth)
        return enlarge(to_rgb(pixels), self.scene.scale)


painter_of.register(PixelGenerator, PixelPainter)
