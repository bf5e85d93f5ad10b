"""The demo: MaskFeat pre-trained on MovingDigits and fine-tuned into two tasks, against training from scratch."""

from .orchestrate import make_weights, run_demo
from .report import format_table
from .tasks import TASKS, Task
from .train import finetune, pretrain, run_task

__all__ = ["TASKS", "Task", "finetune", "format_table", "make_weights", "pretrain", "run_demo", "run_task"]
