"""Demo: MaskFeat is pre-trained on MovingDigits, fine-tuned for each task, and compared with training from scratch."""

from projects.demo.orchestrate import make_weights, run_demo
from projects.demo.report_page import format_table
from projects.demo.tasks import FULL, PRETRAININGS, QUICK, TASKS, Plan, Pretraining, Task
from projects.demo.train import finetune, pretrain, run_part

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
