"""What the demo's fine-tuned detectors find, drawn on frames of the test split."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from mmengine.structures import BaseDataElement

from maskfeat_plugin.visualization import Picture, draw_boxes, pad_to_height
from maskfeat_plugin.visualization.boxes import FOUND_COLOR, TRUE_COLOR

from .tasks import DATA_ROOT, SEEDS, Task
from .train import finetuning_dir, load_config

LEAST_SCORE = 0.3


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image.

    Args:
        boxes (np.ndarray): (K, 4) x1, y1, x2, y2 in pixels.
        labels (list[str]): What each is.
    """

    boxes: np.ndarray
    labels: list[str]


@torch.no_grad()
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
    DefaultScope.get_instance(config.experiment_name, scope_name=config.default_scope)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    model = MODELS.build(config.model).eval()
    load_checkpoint(model, str(checkpoint), map_location="cpu", strict=True)
    read = READERS[task.name]
    found = []
    for index in indices:
        sample = dataset[index]
        inputs = sample["inputs"]
        result = model.test_step(pseudo_collate([sample]))[0]
        frame = inputs if inputs.ndim == 3 else inputs[:, inputs.shape[1] // 2]  # (3, H, W)
        frame = frame.permute(1, 2, 0).contiguous().numpy()
        if config.model.data_preprocessor.get("bgr_to_rgb"):
            frame = frame[..., ::-1].copy()
        found.append((frame, *read(result, frame.shape[:2], data_root)))
    return found


def _read_coco(result: BaseDataElement, size: tuple[int, int], data_root: Path) -> tuple[Boxes, Boxes]:
    names = (data_root / "annotations" / "image_classes.txt").read_text().split()
    # both are in pixels of the file
    scale = np.array([size[1] / result.ori_shape[1], size[0] / result.ori_shape[0]] * 2)
    pred, true = result.pred_instances, result.gt_instances
    pred = pred[pred.scores >= LEAST_SCORE]
    labels = [f"{names[i]}, score {score:.2f}" for i, score in zip(pred.labels, pred.scores, strict=True)]
    there = getattr(true.bboxes, "tensor", true.bboxes)
    return (
        Boxes(pred.bboxes.numpy() * scale, labels),
        Boxes(there.numpy() * scale, [names[i] for i in true.labels]),
    )


def _read_ava(result: BaseDataElement, size: tuple[int, int], data_root: Path) -> tuple[Boxes, Boxes]:
    lines = (data_root / "annotations" / "ava_action_list.pbtxt").read_text().splitlines()
    names = ["", *(line.split('"')[1] for line in lines if "name:" in line)]
    pixels = np.array([size[1], size[0]] * 2)
    labels = []
    for scores in result.pred_instances.scores:
        best = scores[1:].argsort(descending=True)[:3] + 1
        labels.append("\n".join(f"{names[i]}, score {scores[i]:.2f}" for i in best))
    true = ["\n".join(names[i] for i in row.nonzero()[:, 0]) for row in result.gt_instances.labels]
    return (
        Boxes(result.pred_instances.bboxes.numpy() * pixels, labels),
        Boxes(result.gt_instances.bboxes.numpy(), true),
    )


READERS: dict[str, Callable[[BaseDataElement, tuple[int, int], Path], tuple[Boxes, Boxes]]] = {
    "ava": _read_ava,
    "coco": _read_coco,
}
"""How the results of each task that has boxes are read."""


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
    checkpoint = Path(str((folder / "last_checkpoint").read_text()).strip())
    pictures = []
    for index, (frame, found, true) in zip(indices, find_boxes(task, checkpoint, indices, data_root), strict=True):
        left = draw_boxes(frame, found.boxes, found.labels, FOUND_COLOR)
        right = draw_boxes(frame, true.boxes, true.labels, TRUE_COLOR)
        panel = dict(zip(("found", "true"), pad_to_height([left, right]), strict=True))
        pictures.append(Picture(f"{task.title} Test sample {index}, fine-tuned {start}", panel))
    return pictures
