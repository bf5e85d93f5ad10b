"""What the model saw, what it predicted and what was there, of one sample and any target."""

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
"""Least sides in pixels, of a drawn frame and of a drawn cell of HOG; smaller ones are enlarged by a whole factor."""

VISIBLE_BRIGHTNESS = 0.6


def draw_prediction(frames: ArrayLike, sample: BaseDataElement, target_generator: nn.Module) -> dict[str, np.ndarray]:
    """Picture the prediction of one sample beside its target and its input, step by step in time.

    How a target is drawn, :func:`.painter_of` knows: HOG as strokes, pixels as images, features of a teacher in the
    colours of their principal components, classes in a colour each. In "prediction" the masked tokens show what was
    predicted, framed in amber, and the visible ones, darkened, the true features. Without ``visible_features`` the
    latter are the frame itself in grey, darker still.

    Args:
        frames (ArrayLike): Frames as the model saw them, before normalisation, (T, H, W, C), T = 1 for an image, see
            :func:`unnormalize`; other channels than RGB are shown as :func:`.to_rgb` says. Of a clip the first frame of
            each time step of the token grid is shown, the one that the target is made of.
        sample (BaseDataElement): What :meth:`MaskFeat.predict` returns: ``mask`` (T', H', W'), ``pred_features`` and
            ``target_features`` of the M masked tokens, (M, D) or (M,), and ``visible_features`` of the others; of
            several targets dicts of them.
        target_generator (nn.Module): That of the model.

    Returns:
        dict[str, np.ndarray]: RGB frames, uint8 (T', height, width, 3), all of one size, in this order:

        - "masked input": the input with masked tokens grey.
        - "prediction": see above. Of several targets "NAME prediction" and "NAME target" of each.
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
    """A field of a sample, of several targets that of one of them; None if it is missing."""
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
    """Pictures of one target, uint8 (T', height, width, 3): "prediction" and "target"."""
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
    """Frame the masked region (T', h, w) of a picture (T', h, w, 3), on its outer side."""
    width = max(1, scale // 3)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    near = np.stack([cv2.dilate(step.astype(np.uint8), cross, iterations=width) > 0 for step in masked])
    return np.where((near & ~masked)[..., None], np.asarray(PREDICTED_COLOR, np.uint8), picture)
