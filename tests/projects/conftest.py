"""Fixtures with finished trainings, which the tests of their pages share."""

from finished_trainings import finetuning, interrupted_training  # noqa: F401 (fixtures)
