"""Pictures of test frames with the boxes that the demo's fine-tuned detectors find."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from maskfeat_plugin.apis.pictures import Boxes, Choice, Located, build_fine_tuned, find, read_class_names
from maskfeat_plugin.apis.pictures.fine_tuned import Samples
from maskfeat_plugin.checkpoints import newest_whole
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.visualization import Picture, draw_boxes, pad_to_height
from maskfeat_plugin.visualization.boxes import FOUND_COLOR, TRUE_COLOR

from .tasks import DATA_ROOT, SEEDS, Task
from .train import finetuning_dir, load_config

READERS = ("ava", "coco")
"""Tasks whose results have boxes."""


LEAST_SCORE = 0.3
"""Least score of a box that counts as found."""
_LOOKED_AT = 24
_SCORE = re.compile(r"score (\d\.\d+)")


def find_boxes(
    task: Task, checkpoint: Path, choice: Choice, data_root: Path = DATA_ROOT
) -> Iterator[tuple[str, np.ndarray, Boxes, Boxes]]:
    """Find boxes in samples with a fine-tuned detector.

    Args:
        task (Task): "ava" or "coco", or a task with samples of the same form.
        checkpoint (Path): Fine-tuned weights of the task.
        choice (Choice): The samples.
        data_root (Path): Root of MovingDigits. Defaults to the demo's.

    Yields:
        tuple[str, np.ndarray, Boxes, Boxes]: Split and number of the sample; the frame that the model receives, uint8
        (H, W, 3) in RGB (the key frame of a clip); found boxes; true boxes.
    """
    config = load_config(task.finetune_config, Path("find"), data_root)
    samples = Samples(config, (), choice)
    names = read_class_names(config, checkpoint)
    model = build_fine_tuned(config, checkpoint)
    for sample in samples:
        frames, finding = find(model, sample.read(), names, not samples.takes_clips, least_score=LEAST_SCORE)
        assert isinstance(finding, Located) and finding.true is not None  # a detector on data with annotations
        yield sample.title, frames[finding.key_frame or 0], finding.found, finding.true


def draw_findings(task: Task, work_dir: Path, start: str, count: int, data_root: Path = DATA_ROOT) -> list[Picture]:
    """Draw the boxes that a task's model finds, for one start and the first seed.

    Args:
        task (Task): One of :data:`READERS`.
        work_dir (Path): Folder of the demo's runs.
        start (str): The start.
        count (int): Largest number of pictures. They show samples of the test split with different classes, in which
            the model finds boxes.
        data_root (Path): Root of MovingDigits. Defaults to the demo's.

    Returns:
        list[Picture]: One picture per sample, with found boxes beside true boxes. If the model finds no box in any
        sample that it is given, the first of these samples.
    """
    folder = finetuning_dir(work_dir, task, start, SEEDS[0])
    checkpoint = newest_whole(folder)
    if checkpoint is None:
        raise ConfigError(f"{folder}: there is no checkpoint. Fine-tune the task first.")
    pictures: dict[str, Picture] = {}
    nothing: list[Picture] = []
    samples = find_boxes(task, Path(checkpoint), Choice("test", None, _LOOKED_AT), data_root)
    # the page already shows the first samples of the split; each task starts at a different sample
    for title, frame, found, true in itertools.islice(samples, 1 + READERS.index(task.name), None):
        left = draw_boxes(frame, found.boxes, found.labels, FOUND_COLOR)
        right = draw_boxes(frame, true.boxes, true.labels, TRUE_COLOR)
        panel = dict(zip(("found", "true"), pad_to_height([left, right]), strict=True))
        picture = Picture(f"{task.title} Sample {title}, fine-tuned {start}", panel)
        scores = [float(score) for label in found.labels for score in _SCORE.findall(label)]
        if max(scores, default=0.0) > LEAST_SCORE:
            pictures.setdefault(true.labels[0].partition("\n")[0] if true.labels else "", picture)
        else:
            nothing.append(picture)
        if len(pictures) == count:
            break
    return list(pictures.values()) or nothing[:1]
