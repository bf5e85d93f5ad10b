"""The demo: MaskFeat pre-trained on MovingDigits and fine-tuned into each task, against training from scratch."""

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
