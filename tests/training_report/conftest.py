"""Fixtures of trainings that run once for all tests of their report."""

from finished_trainings import finetuning, interrupted_training  # noqa: F401 (fixtures)
