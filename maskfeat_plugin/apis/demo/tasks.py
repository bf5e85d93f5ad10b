"""The demo's two pre-trainings and the four tasks that start from them."""

from dataclasses import dataclass
from pathlib import Path

from maskfeat_cli.folders import checkout, no_checkout

ROOT = checkout()
if ROOT is None:  # data and results would go into the folder of the installed packages
    raise RuntimeError(f"{__package__}: {no_checkout()}")
CONFIGS = ROOT / "configs" / "demo"
DATA_ROOT = ROOT / "data" / "moving_digits"
WORK_DIR = ROOT / "work_dirs" / "demo"
SEEDS = (0, 1, 2)

# How a fine-tuning run starts, in the order of the table.
SCRATCH, LIVE, SHIPPED = "from scratch", "pre-trained live", "shipped weights"


@dataclass(frozen=True)
class Pretraining:
    """A pre-training without labels, whose weights go into several tasks.

    Args:
        name (str): Short name, also of the folder of its run.
        config (str): File in ``configs/demo``.
        long_config (str): The same, long: the config of the shipped weights.
    """

    name: str
    config: str
    long_config: str

    @property
    def shipped_weights(self) -> Path:
        """The weights in the repository."""
        return CONFIGS / "weights" / f"{Path(self.config).stem}.pth"


@dataclass(frozen=True)
class Task:
    """A downstream task.

    Args:
        name (str): Short name, also of the folder of its runs.
        title (str): Name in the table.
        framework (str): Package that fine-tunes and evaluates.
        pretraining (Pretraining): Whose weights it starts from.
        finetune_config (str): File in ``configs/demo``.
        labels (int): Labelled samples to fine-tune on.
        annotation (str): Annotation file of the labelled samples below the data's root, with ``{labels}`` and
            ``{seed}``.
        measure (str): What is measured, for people.
        metric (str): The framework's name of it.
        scale (float): What makes a percentage of it.
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

    def annotation_file(self, seed: int) -> str:
        """Labelled samples of a seed, relative to the data's root."""
        return self.annotation.format(labels=self.labels, seed=seed)


IMAGE = Pretraining(
    name="image",
    config="maskfeat_vit-tiny_moving-digits.py",
    long_config="maskfeat_vit-tiny_moving-digits_long.py",
)
VIDEO = Pretraining(
    name="video",
    config="maskfeat_mvit-tiny_moving-digits.py",
    long_config="maskfeat_mvit-tiny_moving-digits_long.py",
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
        ),
    )
}
