"""The two tasks of the demo, and which configs and files they use."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ROOT / "configs" / "demo"
DATA_ROOT = ROOT / "data" / "moving_digits"
WORK_DIR = ROOT / "work_dirs" / "demo"
SEEDS = (0, 1, 2)

# How a fine-tuning run starts, in the order of the table.
SCRATCH, LIVE, SHIPPED = "from scratch", "pre-trained live", "shipped weights"


@dataclass(frozen=True)
class Task:
    """A downstream task and the pre-training for it.

    Args:
        name (str): Short name, also of the folder of its runs.
        title (str): Name in the table.
        framework (str): Package that fine-tunes and evaluates.
        pretrain_config (str): File in ``configs/demo``.
        long_config (str): The same, long: the config of the shipped weights.
        finetune_config (str): File in ``configs/demo``.
        labels (int): Labelled samples to fine-tune on.
        annotation (str): Stem of the annotation files of the labelled samples.
        metric (str): The framework's name of the accuracy.
        scale (float): What makes a percentage of it.
    """

    name: str
    title: str
    framework: str
    pretrain_config: str
    long_config: str
    finetune_config: str
    labels: int
    annotation: str
    metric: str
    scale: float

    @property
    def shipped_weights(self) -> Path:
        """The weights in the repository."""
        return CONFIGS / "weights" / f"{Path(self.pretrain_config).stem}.pth"

    def annotation_file(self, seed: int) -> str:
        """Labelled samples of a seed, relative to the data's root."""
        return f"annotations/{self.annotation}_{self.labels}_seed{seed}.txt"


TASKS = {
    task.name: task
    for task in (
        Task(
            name="digit",
            title="Which digit is it?",
            framework="mmpretrain",
            pretrain_config="maskfeat_vit-tiny_moving-digits.py",
            long_config="maskfeat_vit-tiny_moving-digits_long.py",
            finetune_config="vit-tiny_moving-digits-class.py",
            labels=1000,
            annotation="image_train",
            metric="accuracy/top1",
            scale=1.0,
        ),
        Task(
            name="motion",
            title="How does it move?",
            framework="mmaction2",
            pretrain_config="maskfeat_mvit-tiny_moving-digits.py",
            long_config="maskfeat_mvit-tiny_moving-digits_long.py",
            finetune_config="mvit-tiny_moving-digits-motion.py",
            labels=1000,
            annotation="motion_train",
            metric="acc/top1",
            scale=100.0,
        ),
    )
}
