"""Boxes of persons in a video, read from a table or found by a detector."""

import logging
import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mmengine.config import Config

from maskfeat_plugin.config.input_pipeline import Input, InputPipeline, inference_pipeline, title_of
from maskfeat_plugin.config.sample_sizes import class_name
from maskfeat_plugin.datasets.ava_tables import Row, check_corners, read_table
from maskfeat_plugin.errors import ConfigError

from .class_names import read_class_names
from .fine_tuned import build_fine_tuned, run
from .model_outputs import to_array

PERSON = "person"


def read_boxes(path: str | Path, least_score: float) -> dict[float, np.ndarray]:
    """Read boxes of one video from a table.

    Args:
        path (str | Path): CSV with one row per box: time in seconds from the first frame, x1, y1, x2, y2 as fractions
            of the frame, and optionally a score. A first row without numbers is a header.
        least_score (float): Boxes with a smaller score are left out.

    Returns:
        dict[float, np.ndarray]: Time -> boxes, float64 (K, 4), in the order of the times.

    Raises:
        ConfigError: If the file does not exist, a line is wrong (the message names the first one), or no box is left.
    """
    found: dict[float, list[tuple[float, ...]]] = defaultdict(list)
    try:
        rows = read_table(path, "--boxes")
        if rows and not any(map(_is_number, rows[0].columns)):
            rows = rows[1:]
        for row in rows:
            time, box, score = _read_row(row, path)
            if score >= least_score:
                found[time].append(box)
    except (OSError, ValueError) as error:
        raise ConfigError(str(error)) from error
    if not found:
        few = f"none of its {len(rows)} boxes has a score of at least {least_score}"
        problem = few if rows else "the file has no boxes"
        raise ConfigError(f"--boxes: {path}: {problem}. Give other boxes, or a lower --least-score.")
    return {time: np.array(found[time]) for time in sorted(found)}


def choose_key_frames(
    boxes: Mapping[float, np.ndarray], count: int, rate: float, every: float, name: str
) -> dict[int, np.ndarray]:
    """Choose the key frames of a video: the frames whose boxes the model takes.

    Args:
        boxes (Mapping[float, np.ndarray]): Boxes by time, see :func:`read_boxes`.
        count (int): Number of frames of the video.
        rate (float): Frames per second.
        every (float): Smallest distance of two key frames in seconds; times in between are left out.
        name (str): Name of the video, for messages.

    Returns:
        dict[int, np.ndarray]: Number of each key frame -> its boxes.

    Raises:
        ConfigError: If all times are beyond the end of the video.
    """
    inside = {time: of_time for time, of_time in boxes.items() if time < count / rate}
    beyond = f"{len(boxes) - len(inside)} of {len(boxes)} times are beyond its end at {count / rate:.2f} s"
    if not inside:
        raise ConfigError(
            f"--boxes: {name}: {beyond}. Give the boxes of this video, with times in seconds instead of frames."
        )
    chosen: dict[int, np.ndarray] = {}
    for time, of_time in inside.items():
        number = min(round(time * rate), count - 1)
        if not chosen or number - max(chosen) >= every * rate - 0.5:
            chosen[number] = of_time
    if len(inside) < len(boxes):
        logging.getLogger(__name__).warning(f"--boxes: {name}: {beyond} and left out.")
    if len(chosen) < len(inside):
        logging.getLogger(__name__).warning(
            f"--boxes: {name}: {len(chosen)} of {len(inside)} times are used, {every:g} s or more apart (--every)."
        )
    return chosen


class PersonDetector:
    """A detector of mmdet that finds persons, or objects of another class that can act.

    Args:
        cfg (Config): Config of the detector.
        checkpoint (str | Path): Its weights.
        device (str): Device that the detector runs on.
        kind (str, optional): Name of the class whose boxes are used. Defaults to None: "person", or all classes if the
            detector has no class of this name.
        least_score (float): Boxes with a smaller score are left out. Defaults to 0.3.

    Raises:
        ConfigError: If the config is not a config of detection, the checkpoint does not fit, or there is no such class.
    """

    def __init__(
        self,
        cfg: Config,
        checkpoint: str | Path,
        device: str,
        kind: str | None = None,
        least_score: float = 0.3,
    ) -> None:
        self._title = title_of(cfg)
        steps = [step for step in inference_pipeline(cfg) if class_name(step) != "LoadAnnotations"]
        self._pipeline = InputPipeline(cfg, steps)
        if self._pipeline.kind.is_clip:
            raise ConfigError(f"--detector: {self._title} takes videos. Give a config of mmdet, which takes images.")
        self._names = read_class_names(cfg, checkpoint)
        known = [self._names[number] for number in range(len(self._names))]
        if kind is not None and known and kind not in known:
            raise ConfigError(
                f"--detector-class: {self._title} has no class {kind!r}; it has {', '.join(known[:20])}"
                f"{', ...' if len(known) > 20 else ''}."
            )
        self._kind = PERSON if kind is None and PERSON in known else kind
        self._least_score = least_score
        self._model = build_fine_tuned(cfg, checkpoint, device)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Find boxes.

        Args:
            frame (np.ndarray): RGB, uint8 (H, W, 3).

        Returns:
            np.ndarray: float64 (K, 4) x1, y1, x2, y2 as fractions of the frame.
        """
        result = run(self._model, self._pipeline(Input("a frame", frame), 0))
        if "pred_instances" not in result or "bboxes" not in result.pred_instances:
            raise ConfigError(f"--detector: the model of {self._title} gives no boxes. Give a config of detection.")
        found = result.pred_instances
        found = found[found.scores >= self._least_score]
        boxes = to_array(found.bboxes).astype(np.float64)
        if self._kind is not None:
            boxes = boxes[[self._names[label] == self._kind for label in found.labels.tolist()]]
        height, width = frame.shape[:2]
        boxes = (boxes.reshape(-1, 4) / [width, height, width, height]).clip(0, 1)
        return boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]


def _read_row(row: Row, path: str | Path) -> tuple[float, tuple[float, ...], float]:
    columns = row.columns
    if len(columns) not in (5, 6) or not all(map(_is_number, columns)) or float(columns[0]) < 0:
        raise ValueError(
            f"{path}, line {row.line}: {','.join(columns)!r} is not a box. Write the time in seconds, then x1, y1, x2, "
            "y2 as fractions of the frame, and optionally a score."
        )
    score = float(columns[5]) if len(columns) == 6 else 1.0
    if not 0 <= score <= 1:
        raise ValueError(f"{path}, line {row.line}: the score is {columns[5]!r}; it has to be a number from 0 to 1.")
    return float(columns[0]), check_corners(row, columns[1:5], path), score


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
