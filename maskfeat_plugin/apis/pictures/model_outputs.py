"""Outputs of fine-tuned models for a sample: classes, boxes of objects, or boxes of persons with their actions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.structures import BaseDataElement
from torch import Tensor

from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.visualization.frames import to_rgb

from .class_names import ClassNames


@dataclass(frozen=True)
class Classes:
    """Classes of an image or a clip.

    Args:
        best (list[tuple[str, float]]): The most likely classes and their probabilities.
        true (list[str]): The annotated classes; empty if the sample has no annotation.
    """

    best: list[tuple[str, float]]
    true: list[str]


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image.

    Args:
        boxes (np.ndarray): (K, 4) x1, y1, x2, y2 in pixels.
        labels (list[str]): Text about each box, such as its class.
    """

    boxes: np.ndarray
    labels: list[str]


@dataclass(frozen=True)
class Located:
    """Boxes that a model has found and, if the sample is annotated, the true boxes.

    Args:
        found (Boxes): Boxes that the model has found.
        true (Boxes, optional): Annotated boxes; None if the sample has no annotations.
        key_frame (int, optional): Number of the frame in a clip to which the boxes belong; None for an image.
    """

    found: Boxes
    true: Boxes | None
    key_frame: int | None = None


def read_result(
    result: BaseDataElement, frames: np.ndarray, names: ClassNames, top: int = 3, least_score: float = 0.3
) -> Classes | Located:
    """Convert the result of ``test_step`` for a sample. The model may be of mmpretrain, mmaction2 or mmdet.

    Args:
        result (BaseDataElement): The result.
        frames (np.ndarray): The frames that the model took, uint8 (T, H, W, 3), T = 1 for an image. For actions the
            frames may have another size; then the boxes are in pixels of this size.
        names (ClassNames): Names of the classes.
        top (int): Number of classes, or of actions of each person, to return. Defaults to 3.
        least_score (float): Boxes of objects with a smaller score are left out. Defaults to 0.3.

    Returns:
        Classes | Located: The classes or the boxes.

    Raises:
        ConfigError: If the result is of another kind.
    """
    if "pred_score" in result:
        return _read_classes(result, names, top)
    if "pred_instances" not in result or "bboxes" not in result.pred_instances:
        raise ConfigError(
            f"the model gives {', '.join(result.keys()) or 'nothing'}. Only classes (pred_score) and boxes "
            "(pred_instances.bboxes) can be drawn. Give a config of a classifier or a detector."
        )
    size = frames.shape[1:3]
    if result.pred_instances.scores.ndim == 2:
        return _read_actions(result, size, names, top, len(frames) // 2)
    return _read_objects(result, size, names, least_score)


def _read_classes(result: BaseDataElement, names: ClassNames, top: int) -> Classes:
    scores = result.pred_score.cpu()
    values, numbers = scores.topk(min(top, len(scores)))
    true = result.gt_label.flatten().tolist() if "gt_label" in result else []
    return Classes(
        [(names[number], float(value)) for number, value in zip(numbers, values, strict=True)],
        [names[number] for number in true if 0 <= number < len(scores)],  # -1 is an unknown class
    )


def _read_objects(result: BaseDataElement, size: tuple[int, int], names: ClassNames, least_score: float) -> Located:
    found = result.pred_instances
    found = found[found.scores >= least_score]
    labels = [f"{names[label]}, score {score:.2f}" for label, score in zip(found.labels, found.scores, strict=True)]
    # found and annotated boxes are in pixels of the file
    width, height = result.get("scale_factor") or (size[1] / result.ori_shape[1], size[0] / result.ori_shape[0])
    scale = np.array([width, height] * 2)
    true = None
    if "gt_instances" in result and "bboxes" in result.gt_instances:
        there = result.gt_instances
        true = Boxes(to_array(there.bboxes) * scale, [names[label] for label in there.labels])
    return Located(Boxes(to_array(found.bboxes) * scale, labels), true)


def _read_actions(
    result: BaseDataElement, size: tuple[int, int], names: ClassNames, top: int, key_frame: int
) -> Located:
    pixels = np.array([size[1], size[0]] * 2)
    labels = []
    for scores in result.pred_instances.scores.cpu():
        best = scores[1:].argsort(descending=True)[:top] + 1  # class 0 of mmaction2 is not an action
        labels.append("\n".join(f"{names[number]}, score {scores[number]:.2f}" for number in best))
    true = None
    if "gt_instances" in result and "labels" in result.gt_instances:
        there = result.gt_instances
        rows = ["\n".join(names[number] for number in row.nonzero()[:, 0]) for row in there.labels.cpu()]
        seen = result.get("img_shape", size)  # size of the model's frames, which may differ from the drawn ones
        true = Boxes(to_array(there.bboxes) * pixels / np.array([seen[1], seen[0]] * 2), rows)
    return Located(Boxes(to_array(result.pred_instances.bboxes) * pixels, labels), true, key_frame)


def frames_of(inputs: Tensor, bgr: bool) -> np.ndarray:
    """Return the frames of a packed sample that a model takes.

    Args:
        inputs (Tensor): An image (C, H, W), a clip (C, T, H, W) or several clips (V, C, T, H, W), not yet normalised.
            Of several clips the middle one is used.
        bgr (bool): Whether the channels are blue, green, red, as in image files that OpenCV reads.

    Returns:
        np.ndarray: RGB, uint8 (T, H, W, 3), T = 1 for an image; see :func:`.to_rgb`.
    """
    if inputs.ndim == 5:
        inputs = inputs[len(inputs) // 2]
    clip = inputs[:, None] if inputs.ndim == 3 else inputs
    frames = clip.permute(1, 2, 3, 0).numpy()
    return np.ascontiguousarray(to_rgb(frames[..., ::-1] if bgr and frames.shape[-1] == 3 else frames))


def to_array(boxes: Any) -> np.ndarray:
    """Return a tensor or mmdet's boxes (K, 4) as an array."""
    return getattr(boxes, "tensor", boxes).cpu().numpy()
