"""Two pre-trainings of the demo, the five tasks that start from them, and the sizes of the demo."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from projects import ROOT

CONFIGS = ROOT / "configs" / "demo"
DATA_ROOT = ROOT / "data" / "moving_digits"
WORK_DIR = ROOT / "work_dirs" / "demo"
SEEDS = (0, 1, 2)

# Starts of a fine-tuning, in the order of the table.
SCRATCH, LIVE, SHIPPED = "from scratch", "pre-trained live", "shipped weights"


@dataclass(frozen=True)
class Pretraining:
    """Pre-training without labels. Several tasks start from its weights.

    Args:
        name (str): Short name, which is also the name of the run's folder.
        config (str): File in ``configs/demo``.
        long_config (str): File in ``configs/demo`` with a longer schedule. It gives the shipped weights.
        first_look (int): Number of steps after which the model predicts better than the mean. Its predictions are
            drawn for the first time then.
        seconds (float): Usual duration on one core, for the estimate of the time left.
    """

    name: str
    config: str
    long_config: str
    first_look: int
    seconds: float

    @property
    def shipped_weights(self) -> Path:
        """File of the weights in the repository."""
        return CONFIGS / "weights" / f"{Path(self.config).stem}.pth"


@dataclass(frozen=True)
class Task:
    """Downstream task.

    Args:
        name (str): Short name, which is also the name of the folder of its runs.
        title (str): Name in the table.
        framework (str): Package that fine-tunes and evaluates.
        pretraining (Pretraining): Pre-training whose weights the task starts from.
        finetune_config (str): File in ``configs/demo``.
        labels (int): Labelled samples to fine-tune on.
        annotation (str): Annotation file of the labelled samples below the data's root, with ``{labels}`` and
            ``{seed}``.
        measure (str): Name of the metric in the table.
        metric (str): Name of the metric in the framework.
        scale (float): Factor that turns the metric into a percentage.
        seconds (float): Usual duration of one fine-tuning and its test on one core, for the estimate of the time left.
    """

    name: str
    title: str
    framework: str
    pretraining: Pretraining
    finetune_config: str
    labels: int
    annotation: str
    measure: str
    metric: str
    scale: float
    seconds: float

    def annotation_file(self, seed: int) -> str:
        """Return the annotation file of a seed's labelled samples, relative to the data's root."""
        return self.annotation.format(labels=self.labels, seed=seed)


@dataclass(frozen=True)
class Plan:
    """Size of a demo: length of the pre-trainings, starts and seeds.

    Args:
        length (float): Length of each pre-training, as a share of its config's.
        starts (tuple[str, ...]): Starts of the fine-tunings of a task, in the order of the table.
        seeds (tuple[int, ...]): Seeds of each fine-tuning.
    """

    length: float
    starts: tuple[str, ...]
    seeds: tuple[int, ...]

    def seconds(self, pretraining: Pretraining, tasks: Sequence[Task]) -> list[float]:
        """Return the usual duration of each training of a part on one core, in order.

        Args:
            pretraining (Pretraining): The part's pre-training.
            tasks (Sequence[Task]): The tasks that start from it.

        Returns:
            list[float]: Seconds of the pre-training, then of each fine-tuning.
        """
        repeats = len(self.starts) * len(self.seeds)
        return [self.length * pretraining.seconds, *(task.seconds for task in tasks for _ in range(repeats))]


QUICK = Plan(length=0.5, starts=(LIVE,), seeds=SEEDS[:1])
"""Short demo, ``make demo``. It takes minutes."""
FULL = Plan(length=1.0, starts=(SCRATCH, LIVE, SHIPPED), seeds=SEEDS)
"""Full demo with three starts and three seeds, ``make demo-full``."""

IMAGE = Pretraining(
    name="image",
    config="maskfeat_vit-tiny_moving-digits.py",
    long_config="maskfeat_vit-tiny_moving-digits_long.py",
    first_look=250,
    seconds=150.0,
)
VIDEO = Pretraining(
    name="video",
    config="maskfeat_mvit-tiny_moving-digits.py",
    long_config="maskfeat_mvit-tiny_moving-digits_long.py",
    first_look=120,
    seconds=105.0,
)
PRETRAININGS = {pretraining.name: pretraining for pretraining in (IMAGE, VIDEO)}

TASKS = {
    task.name: task
    for task in (
        Task(
            name="digit",
            title="Which digit is it?",
            framework="mmpretrain",
            pretraining=IMAGE,
            finetune_config="vit-tiny_moving-digits-class.py",
            labels=1000,
            annotation="annotations/image_train_{labels}_seed{seed}.txt",
            measure="top-1 accuracy",
            metric="accuracy/top1",
            scale=1.0,
            seconds=33.0,
        ),
        Task(
            name="motion",
            title="How does it move?",
            framework="mmaction2",
            pretraining=VIDEO,
            finetune_config="mvit-tiny_moving-digits-motion.py",
            labels=1000,
            annotation="annotations/motion_train_{labels}_seed{seed}.txt",
            measure="top-1 accuracy",
            metric="acc/top1",
            scale=100.0,
            seconds=38.0,
        ),
        Task(
            name="ava",
            title="Who does what, where?",
            framework="mmaction2",
            pretraining=VIDEO,
            finetune_config="mvit-tiny_moving-digits-ava.py",
            labels=1000,
            annotation="annotations/ava_train_{labels}_seed{seed}.csv",
            measure="mAP, AVA's, at IoU 0.5",
            metric="mAP/overall",
            scale=100.0,
            seconds=40.0,
        ),
        Task(
            name="coco",
            title="Where is which digit?",
            framework="mmdet",
            pretraining=IMAGE,
            finetune_config="vit-tiny_moving-digits-coco.py",
            labels=1000,
            annotation="annotations/detection_train_{labels}_seed{seed}.json",
            measure="mAP, COCO's, at IoU 0.5 to 0.95",
            metric="coco/bbox_mAP",
            scale=100.0,
            seconds=32.0,
        ),
        Task(
            name="seg",
            title="Which pixels are which digit?",
            framework="mmseg",
            pretraining=IMAGE,
            finetune_config="vit-tiny_moving-digits-seg.py",
            labels=1000,
            annotation="annotations/segmentation_train_{labels}_seed{seed}.txt",
            measure="mIoU of 11 classes",
            metric="mIoU",
            scale=1.0,
            seconds=90.0,
        ),
    )
}


def default_tasks(plan: Plan) -> list[Task]:
    """Return the tasks of a demo whose tasks are not given: all, or in the short demo all except segmentation."""
    return [task for task in TASKS.values() if plan == FULL or task.name != "seg"]
