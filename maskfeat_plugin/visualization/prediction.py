"""Pictures of the masked input, the prediction and the target of one sample, for any kind of target."""

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.structures import BaseDataElement
from numpy.typing import ArrayLike
from torch import nn

from maskfeat_plugin.models.target_generators import MultiTargetGenerator

from .frames import enlarge, frames_of_steps, to_rgb
from .hog_image import grid_mask
from .masks import hide_tokens
from .painters import PREDICTED_COLOR, Scene, TargetPainter, painter_of

MIN_SIDE = 224
MIN_CELL = 12
"""Smallest sides of a drawn frame and of a drawn HOG cell in pixels. Smaller ones are enlarged by an integer factor."""

VISIBLE_BRIGHTNESS = 0.6


def draw_prediction(frames: ArrayLike, sample: BaseDataElement, target_generator: nn.Module) -> dict[str, np.ndarray]:
    """Draw the input, the prediction and the target of one sample, with one picture for each time step.

    :func:`.painter_of` chooses the form of a target: HOG is drawn as strokes, pixels as images, features of a teacher
    as the colours of their principal components, and each class in a colour. In "prediction", masked tokens show the
    prediction, with an amber frame around them. Visible tokens show the true features, darkened. Without
    ``visible_features`` they show the frame in dark grey.

    Args:
        frames (ArrayLike): Frames of the model's input before normalisation, (T, H, W, C), T = 1 for an image, see
            :func:`unnormalize`. :func:`.to_rgb` describes how channels other than RGB are shown. Of a clip, the first
            frame of each time step of the token grid is shown, because the target is computed from it.
        sample (BaseDataElement): Result of :meth:`MaskFeat.predict`: ``mask`` (T', H', W'), ``pred_features`` and
            ``target_features`` of the M masked tokens, (M, D) or (M,), and ``visible_features`` of the other tokens.
            With several targets, each of the features is a dict by the name of the target.
        target_generator (nn.Module): Target generator of the model.

    Returns:
        dict[str, np.ndarray]: RGB frames, uint8 (T', height, width, 3), all of one size, in this order:

        - "masked input": the input with grey masked tokens.
        - "prediction": see above. With several targets: "NAME prediction" and "NAME target" for each target.
        - "target": the true features of all tokens.
        - "original": the input.

    Raises:
        ValueError: If frames, mask and features do not fit each other or the target generator.
    """
    mask = grid_mask(sample.mask)
    frames = frames_of_steps(frames, mask.shape)
    targets = {"": target_generator}
    if isinstance(target_generator, MultiTargetGenerator):
        targets = dict(target_generator.targets.items())
    token = frames.shape[1] // mask.shape[1], frames.shape[2] // mask.shape[2]
    values, frames = frames, to_rgb(frames)
    scene = Scene(frames, mask, token, _scale(frames, token, targets), values)
    original = enlarge(frames, scene.scale)
    pictures = {"masked input": hide_tokens(original, mask)}
    for name, generator in targets.items():
        pred, target, visible = (_of(sample, f"{part}_features", name) for part in ("pred", "target", "visible"))
        for title, picture in _draw_target(generator, scene, pred, target, visible).items():
            pictures[f"{name} {title}".strip()] = picture
    pictures["original"] = original
    return pictures


def _of(sample: BaseDataElement, key: str, name: str) -> Any:
    """Return a field of a sample, or with several targets its entry for one of them; None if the field is missing."""
    value = sample.get(key)
    if isinstance(value, Mapping):
        return value[name]
    return value


def _scale(frames: np.ndarray, token: tuple[int, int], targets: Mapping[str, nn.Module]) -> int:
    cell = min(getattr(generator, "cell_size", min(token)) for generator in targets.values())
    return max(1, math.ceil(MIN_SIDE / min(frames.shape[1:3])), math.ceil(MIN_CELL / cell))


def _draw_target(
    generator: nn.Module,
    scene: Scene,
    pred: torch.Tensor,
    target: torch.Tensor,
    visible: torch.Tensor | None,
) -> dict[str, np.ndarray]:
    """Draw the pictures of one target, uint8 (T', height, width, 3): "prediction" and "target"."""
    painter = painter_of(generator, scene)
    true = painter.read(target)
    known = true if visible is None else np.concatenate([true, painter.read(visible)])
    painter.fit(known)
    masked = enlarge(scene.mask, *(side * scene.scale for side in scene.token))[..., None]  # (T', h, w, 1)

    def paint(features: np.ndarray) -> np.ndarray:
        grid = np.zeros((*scene.mask.shape, features.shape[-1]), np.float32)
        grid[scene.mask] = features
        if visible is not None:
            grid[~scene.mask] = known[len(true) :]
        return painter.paint(grid)

    context = None
    if visible is None:
        grey = enlarge(scene.frames, scene.scale).mean(-1, keepdims=True) * VISIBLE_BRIGHTNESS**2
        context = grey.repeat(3, -1).astype(np.uint8)
    truth = paint(true)
    predicted = np.where(masked, _tint(paint(painter.read_prediction(pred)), painter), _darken(truth))
    if context is not None:
        truth, predicted = (np.where(masked, picture, context) for picture in (truth, predicted))
    return {"prediction": _outline(predicted, masked[..., 0], scene.scale), "target": truth}


def _tint(picture: np.ndarray, painter: TargetPainter) -> np.ndarray:
    return (picture * (np.asarray(painter.predicted_color, np.float32) / 255) + 0.5).astype(np.uint8)


def _darken(picture: np.ndarray) -> np.ndarray:
    return (picture * VISIBLE_BRIGHTNESS).astype(np.uint8)


def _outline(picture: np.ndarray, masked: np.ndarray, scale: int) -> np.ndarray:
    """Draw a frame around the masked region (T', h, w) of a picture (T', h, w, 3), on the outside of the region."""
    width = max(1, scale // 3)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    near = np.stack([cv2.dilate(step.astype(np.uint8), cross, iterations=width) > 0 for step in masked])
    return np.where((near & ~masked)[..., None], np.asarray(PREDICTED_COLOR, np.uint8), picture)
