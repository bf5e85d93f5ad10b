"""Labels of MovingDigits, in the public formats of the five tasks."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .config import DIGITS, KEY_SECOND, MovingDigitsConfig
from .plan import ClipPlan, draw_subset, has_image_label, subset_numbers

ATTRIBUTES = ("small", "large", "darker", "lighter")
"""AVA-style actions besides the motions. A digit is ``large`` if its box is at least half as long as the frame,
otherwise ``small``. It is ``lighter`` or ``darker`` than the mean background."""

LEAST_VISIBLE = 0.1
"""Visible share that a digit needs to get a box."""

_LARGE = 0.5


class LabelledFrame(NamedTuple):
    """Labels of one frame of a clip with n digits.

    Attributes:
        index: Number of the frame within the clip.
        boxes: (n, 4) pixels (x1, y1, x2, y2), x2 and y2 exclusive.
        areas: (n,) pixels of each digit.
        visible: (n,) visible share of each digit.
    """

    index: int  # type: ignore[assignment] # hides tuple.index
    boxes: np.ndarray
    areas: np.ndarray
    visible: np.ndarray


class ClipLabels(NamedTuple):
    """Labels of one clip, for all label files.

    Attributes:
        plan: The clip.
        classes: Class of each digit.
        light: Whether each digit is brighter than the mean background.
        key_frame: The frame for the AVA-style labels.
        images: The frames that are saved as images; none if the digits turn.
    """

    plan: ClipPlan
    classes: tuple[int, ...]
    light: tuple[bool, ...]
    key_frame: LabelledFrame
    images: tuple[LabelledFrame, ...]


def image_name(plan: ClipPlan, frame: int) -> str:
    """Return the file name of a frame of a clip."""
    return f"{plan.name}_{frame:03d}.png"


def class_map(owners: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Return the class of each pixel of a frame for semantic segmentation: 0 for the background, digit + 1 elsewhere.

    Args:
        owners: int8 (H, W), the number of the digit that each pixel shows, -1 for the background.
        classes: Class of each digit of the clip.

    Returns:
        np.ndarray: uint8 (H, W).
    """
    return np.array([0, *(digit + 1 for digit in classes)], np.uint8)[owners + 1]


def action_names(config: MovingDigitsConfig) -> tuple[str, ...]:
    """Return the names of the AVA-style actions. The id of an action is its index here plus one."""
    return (*config.motions, *ATTRIBUTES)


def write_labels(folder: Path, split: str, clips: Sequence[ClipLabels], config: MovingDigitsConfig) -> None:
    """Write the label files of a split into a folder.

    Args:
        folder: The ``annotations`` folder.
        split: Name of the split.
        clips: The clips of the split, in order.
        config: Settings.
    """
    images = [(clip, frame) for clip in clips if has_image_label(clip.plan) for frame in clip.images]
    image_rows = [f"{image_name(clip.plan, frame.index)} {clip.classes[0]}" for clip, frame in images]
    motions = [config.motions.index(clip.plan.motion) for clip in clips]
    motion_rows = [f"{clip.plan.name}.mp4 {label}" for clip, label in zip(clips, motions, strict=True)]
    _write_lines(folder / f"image_{split}.txt", image_rows)
    _write_lines(folder / f"motion_{split}.txt", motion_rows)
    _write_lines(folder / f"ava_{split}.csv", _ava_rows(clips, config))
    _write_lines(folder / f"ava_excluded_timestamps_{split}.csv", ())
    pictures = [(clip, frame) for clip in clips for frame in clip.images]
    _write_coco(folder / f"detection_{split}.json", split, pictures, config)
    _write_lines(folder / f"segmentation_{split}.txt", map(_stem, pictures))
    if split != "train":
        return
    # Action labels use the subsets of the motions. Boxes and masks use the subsets of the images.
    for stem, chosen in _subsets(motions, range(len(clips)), len(config.motions), config):
        _write_lines(folder / f"motion_{stem}.txt", [motion_rows[sample] for sample in chosen])
        _write_lines(folder / f"ava_{stem}.csv", _ava_rows([clips[sample] for sample in chosen], config))
    classes = [clip.classes[0] for clip, _ in images]
    groups = [clip.plan.index for clip, _ in images]
    for stem, chosen in _subsets(classes, groups, len(DIGITS), config) if images else ():
        _write_lines(folder / f"image_{stem}.txt", [image_rows[sample] for sample in chosen])
        _write_coco(folder / f"detection_{stem}.json", stem, [images[sample] for sample in chosen], config)
        _write_lines(folder / f"segmentation_{stem}.txt", (_stem(images[sample]) for sample in chosen))


def write_class_names(folder: Path, config: MovingDigitsConfig) -> None:
    """Write the class names of the tasks, one per line in the order of the labels, and the AVA label map."""
    _write_lines(folder / "image_classes.txt", DIGITS)
    _write_lines(folder / "motion_classes.txt", config.motions)
    label_map: list[str] = []
    for number, name in enumerate(action_names(config), start=1):
        label_map += ["label {", f'  name: "{name}"', f"  label_id: {number}", "}"]
    _write_lines(folder / "ava_action_list.pbtxt", label_map)


def _subsets(
    labels: Sequence[int], groups: Sequence[int], num_classes: int, config: MovingDigitsConfig
) -> Iterator[tuple[str, list[int]]]:
    """Yield the file stem of each labelled subset, such as ``train_200_seed0``, and its samples."""
    for count in config.labelled:
        for number in subset_numbers():
            yield (
                f"train_{count}_seed{number}",
                draw_subset(labels, groups, num_classes, count, config.seed, number),
            )


def _stem(picture: tuple[ClipLabels, LabelledFrame]) -> str:
    """Return the name of a saved frame without its ending, as lists of mmseg have it."""
    clip, frame = picture
    return image_name(clip.plan, frame.index).removesuffix(".png")


def _ava_rows(clips: Iterable[ClipLabels], config: MovingDigitsConfig) -> list[str]:
    ids = {name: number for number, name in enumerate(action_names(config), start=1)}
    rows = []
    for clip in clips:
        for entity, light in enumerate(clip.light):
            if clip.key_frame.visible[entity] < LEAST_VISIBLE or not clip.key_frame.areas[entity]:
                continue
            box = clip.key_frame.boxes[entity] / config.size
            longer = max(box[2] - box[0], box[3] - box[1])
            corners = ",".join(f"{corner:.4f}" for corner in box)
            actions = (clip.plan.motion, "large" if longer >= _LARGE else "small", "lighter" if light else "darker")
            rows += [f"{clip.plan.name}.mp4,{KEY_SECOND:04d},{corners},{ids[action]},{entity}" for action in actions]
    return rows


def _write_coco(
    path: Path, name: str, labelled: Iterable[tuple[ClipLabels, LabelledFrame]], config: MovingDigitsConfig
) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for clip, frame in labelled:
        images.append(
            {
                "id": len(images) + 1,
                "file_name": image_name(clip.plan, frame.index),
                "width": config.size,
                "height": config.size,
            }
        )
        for entity, digit in enumerate(clip.classes):
            if frame.visible[entity] < LEAST_VISIBLE or not frame.areas[entity]:
                continue
            x1, y1, x2, y2 = frame.boxes[entity].tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": digit + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": int(frame.areas[entity]),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number + 1, "name": name, "supercategory": "digit"} for number, name in enumerate(DIGITS)]
    info = {"description": f"MovingDigits, {name}", "version": "1"}
    content = {"info": info, "images": images, "annotations": annotations, "categories": categories}
    _write_lines(path, [json.dumps(content, separators=(",", ":"))])


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
