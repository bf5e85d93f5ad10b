"""AVA-style data: mmaction2's data set, with proposals that need no pickle."""

import csv
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mmaction.datasets import AVADataset as _AVADataset
from mmaction.evaluation import read_labelmap

from maskfeat_plugin.registry import DATASETS

GROUND_TRUTH = "ground_truth"


@DATASETS.register_module()
class AVADataset(_AVADataset):
    """``mmaction.AVADataset`` whose proposals are a table of text, or the annotated boxes themselves.

    Raw frames or, with ``use_frames=False, start_index=0``, video files: ``data_prefix.img`` is the folder of either,
    and the first column of the annotations the name of the frames' folder or the video's file.

    Args:
        ann_file (str): Annotations in AVA's form, a row an action: video, timestamp in seconds, x1, y1, x2, y2 as
            fractions of the frame, action (counted from 1), person.
        pipeline (list[dict | Callable]): Transforms.
        proposal_file (str, optional): Where boxes are looked at: "ground_truth", the annotated ones; a ``.csv`` with
            the rows of AVA's detection results: video, timestamp, x1, y1, x2, y2, action or nothing, score; or a
            ``.pkl`` as for ``mmaction.AVADataset`` (read it only from who you trust: a pickle runs code). Defaults to
            "ground_truth".
        num_classes (int): Actions plus one. Defaults to 81.
        **kwargs: Everything else of ``mmaction.AVADataset``.

    Raises:
        ValueError: If a row of ``ann_file`` or ``proposal_file`` has another form, a box leaves the frame or an action
            is not below ``num_classes``.
    """

    def __init__(
        self,
        ann_file: str,
        pipeline: list[dict | Callable],
        proposal_file: str | None = GROUND_TRUTH,
        num_classes: int = 81,
        **kwargs,
    ) -> None:
        table = proposal_file if proposal_file and proposal_file.endswith(".csv") else None
        self._at_ground_truth = proposal_file in (None, GROUND_TRUTH)
        check_annotations(ann_file, num_classes)
        upstream = None if table or self._at_ground_truth else proposal_file
        super().__init__(ann_file, pipeline, proposal_file=upstream, num_classes=num_classes, **kwargs)
        if table:
            self.proposals = read_proposals(table)

    def get_data_info(self, idx: int) -> dict:
        """The sample, with its proposals."""
        info = super().get_data_info(idx)
        if self._at_ground_truth:
            info["proposals"] = info["gt_bboxes"].copy()
        return info


def check_annotations(path: str, num_classes: int) -> None:
    """Check the rows of an annotation file.

    Args:
        path (str): The file.
        num_classes (int): Actions plus one.

    Raises:
        ValueError: With the first row that does not fit.
    """
    for number, row in _rows(path, columns=8, kind="ann_file"):
        action = int(row[6]) if row[6].isdigit() else -1
        if not 1 <= action < num_classes:
            raise ValueError(
                f"{path}, line {number}: the action is {row[6]!r}; with num_classes={num_classes} of the data set "
                f"(actions plus one) it has to be 1 to {num_classes - 1}."
            )


def read_proposals(path: str) -> dict[str, np.ndarray]:
    """Read proposals from a table of text.

    Args:
        path (str): Rows of video, timestamp, x1, y1, x2, y2, action or nothing, score.

    Returns:
        dict[str, np.ndarray]: "video,timestamp" -> float32 (K, 5), x1, y1, x2, y2 as fractions of the frame and score,
        the best first; one row for a box that is there for several actions.

    Raises:
        ValueError: With the first row that does not fit.
    """
    found: dict[str, dict[tuple[float, ...], float]] = defaultdict(dict)
    for _, row in _rows(path, columns=8, kind="proposal_file"):
        box = tuple(float(corner) for corner in row[2:6])
        boxes = found[f"{row[0]},{int(row[1]):04d}"]
        boxes[box] = max(float(row[7]), boxes.get(box, 0.0))
    return {
        key: np.array(sorted((*box, score) for box, score in boxes.items()), np.float32)[
            np.argsort([-score for _, score in sorted(boxes.items())], kind="stable")
        ]
        for key, boxes in found.items()
    }


def read_label_map(path: str | Path) -> dict[int, str]:
    """Read the names of actions.

    Args:
        path (str | Path): AVA's label map (.pbtxt).

    Returns:
        dict[int, str]: Number of each action, counted from 1, and its name.
    """
    with open(path, encoding="utf-8-sig") as file:
        actions, _ = read_labelmap(file)
    return {action["id"]: action["name"] for action in actions}


def _rows(path: str, columns: int, kind: str) -> list[tuple[int, list[str]]]:
    """Rows of a table with their numbers, each checked for its box."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{kind}: there is no file {path}.")
    rows = []
    with open(path, newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file), start=1):
            try:
                x1, y1, x2, y2 = (float(corner) for corner in row[2:6])
                fits = len(row) == columns and row[1].isdigit()
            except ValueError:
                fits = False
            if not fits:
                raise ValueError(
                    f"{path}, line {number}: {','.join(row)!r} is no row of AVA's: video, timestamp in whole seconds, "
                    f"x1, y1, x2, y2 and 2 more columns."
                )
            if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
                raise ValueError(
                    f"{path}, line {number}: the box {row[2:6]} is not x1 < x2, y1 < y2 in fractions of the frame; "
                    "pixels have to be divided by its width and height."
                )
            rows.append((number, row))
    return rows
