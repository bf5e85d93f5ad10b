"""Report of a training, finished or not, built from the files in its work directory."""

from maskfeat_plugin.training_report.page import write_training_report
from maskfeat_plugin.training_report.run_folders import Run, read_runs

__all__ = ["Run", "read_runs", "write_training_report"]
