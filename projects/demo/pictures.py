"""What the demo's fine-tuned detectors find, drawn on frames of the test split."""

from collections.abc import Sequence
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


def find_boxes(
    task: Task, checkpoint: Path, indices: Sequence[int], data_root: Path = DATA_ROOT
) -> list[tuple[np.ndarray, Boxes, Boxes]]:
    """Let a fine-tuned detector look at samples of the test split.

    Args:
        task (Task): "ava" or "coco", or a task with samples like theirs.
        checkpoint (Path): Its fine-tuned weights.
        indices (Sequence[int]): Samples of the test split.
        data_root (Path): Root of MovingDigits. Defaults to the demo's.

    Returns:
        list[tuple[np.ndarray, Boxes, Boxes]]: Frame as the model sees it, uint8 (H, W, 3) in RGB (of a clip the key
        frame), what is found and what is there.
    """
    config = load_config(task.finetune_config, Path("find"), data_root)
    samples = Samples(config, (), Choice("test", tuple(indices)))
    names = read_class_names(config, checkpoint)
    model = build_fine_tuned(config, checkpoint)
    found = []
    for sample in samples:
        frames, finding = find(model, sample.read(), names, not samples.takes_clips)
        assert isinstance(finding, Located) and finding.true is not None  # of a detector, with annotations
        found.append((frames[finding.key_frame or 0], finding.found, finding.true))
    return found


def draw_findings(
    task: Task, work_dir: Path, start: str, indices: Sequence[int], data_root: Path = DATA_ROOT
) -> list[Picture]:
    """Pictures of what a task's model of a start and the first seed finds.

    Args:
        task (Task): One of :data:`READERS`.
        work_dir (Path): Where the demo's runs have written.
        start (str): The start.
        indices (Sequence[int]): Samples of the test split.
        data_root (Path): Root of MovingDigits. Defaults to the demo's.

    Returns:
        list[Picture]: One a sample, what is found beside what is there.
    """
    folder = finetuning_dir(work_dir, task, start, SEEDS[0])
    checkpoint = newest_whole(folder)
    if checkpoint is None:
        raise ConfigError(f"{folder} has no checkpoint. Fine-tune the task first.")
    pictures = []
    for index, (frame, found, true) in zip(
        indices, find_boxes(task, Path(checkpoint), indices, data_root), strict=True
    ):
        left = draw_boxes(frame, found.boxes, found.labels, FOUND_COLOR)
        right = draw_boxes(frame, true.boxes, true.labels, TRUE_COLOR)
        panel = dict(zip(("found", "true"), pad_to_height([left, right]), strict=True))
        pictures.append(Picture(f"{task.title} Test sample {index}, fine-tuned {start}", panel))
    return pictures
