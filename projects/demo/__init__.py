"""The demo: MaskFeat pre-trained on MovingDigits and fine-tuned into each task, against training from scratch."""

from .orchestrate import make_weights, run_demo
from .report import format_table
from .tasks import FULL, PRETRAININGS, QUICK, TASKS, Plan, Pretraining, Task
from .train import finetune, pretrain, run_part

__all__ = [
    "FULL",
    "PRETRAININGS",
    "QUICK",
    "TASKS",
    "Plan",
    "Pretraining",
    "Task",
    "finetune",
    "format_table",
    "make_weights",
    "pretrain",
    "run_demo",
    "run_part",
]
