"""Writers of curves and pictures for mmengine's visualizer backends. Training continues if the disk is full."""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.fileio import dump
from mmengine.logging import print_log
from mmengine.visualization import LocalVisBackend, TensorboardVisBackend

from .errors import describe
from .files import append_text, whole_file


def say_lost(folder: str | Path, error: OSError) -> None:
    """Log a warning that curves or pictures are lost. The log shows the same warning once.

    Args:
        folder (str | Path): The folder that they would be written to.
        error (OSError): The error of the system, or an error raised from it.
    """
    cause = error if error.strerror or not isinstance(error.__cause__, OSError) else error.__cause__
    reason = cause.strerror or describe(cause)
    text = (
        f"Curves and pictures in {folder} cannot be written: {reason}. Training goes on without them. Make room there."
    )
    print_log(text, "current", logging.WARNING)


def append_record(self: LocalVisBackend, value_dict: dict, file_path: str, file_format: str) -> None:
    """Append a whole line to ``scalars.json``, or nothing. Replaces ``LocalVisBackend._dump``."""
    append_text(file_path, dump(value_dict, file_format=file_format) + "\n")


def add_image(self: LocalVisBackend, name: str, image: np.ndarray, step: int = 0, **_: Any) -> None:
    """Write a picture completely, or not at all. Replaces ``LocalVisBackend.add_image``."""
    encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    with whole_file(Path(self._img_save_dir, f"{name}_{step}.png")) as unfinished:
        unfinished.write_bytes(encoded.tobytes())


def add_config(self: LocalVisBackend, config: Config, **_: Any) -> None:
    """Write a config completely, or not at all. Replaces ``LocalVisBackend.add_config``."""
    with whole_file(self._config_save_file) as unfinished:
        unfinished.write_text(config.pretty_text, encoding="utf-8")


def going_on(method: Callable) -> Callable:
    """Wrap a method of a backend so that it logs an ``OSError`` as a warning and returns."""

    @functools.wraps(method)
    def wrapper(self: LocalVisBackend | TensorboardVisBackend, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except OSError as error:
            say_lost(self._save_dir, error)

    return wrapper
