"""Studies that compare settings of MaskFeat. Small models are pre-trained, fine-tuned on few labels, and tested."""

from projects.study.data import build_data
from projects.study.planned_runs import Base, Plan, Run, choose, config_base, demo_base, describe_seconds, plan_runs
from projects.study.result_page import check_page, markdown, put_into_page, write_csv, write_page
from projects.study.run import do_run
from projects.study.schedule import Failure, default_workers, do_runs
from projects.study.settings import STUDIES, Setting, Study, own_target
from projects.study.step_times import PATTERNS, format_step_times, step_times

__all__ = [
    "PATTERNS",
    "STUDIES",
    "Base",
    "Failure",
    "Plan",
    "Run",
    "Setting",
    "Study",
    "build_data",
    "check_page",
    "choose",
    "config_base",
    "default_workers",
    "demo_base",
    "describe_seconds",
    "do_run",
    "do_runs",
    "format_step_times",
    "markdown",
    "own_target",
    "plan_runs",
    "put_into_page",
    "step_times",
    "write_csv",
    "write_page",
]
