"""Trainings that are done once for the tests of a page on them."""

from finished_trainings import finetuning, interrupted_training  # noqa: F401 (fixtures)
