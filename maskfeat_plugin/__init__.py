"""MaskFeat (Wei et al., CVPR 2022) for the OpenMMLab stack. Importing this package makes all components available.

The components themselves are imported later: when one of mmengine's registries looks for a component, or when an
attribute of this module is used. Models, data sets and hooks take seconds to import, and many programs need few of
them.
"""

import importlib
from typing import TYPE_CHECKING

from . import compat

compat.apply()

from . import checkpoints, registry  # noqa: E402  (checkpoints: mmengine has no registry of its loaders)
from .version import __version__  # noqa: E402

if TYPE_CHECKING:
    from . import datasets, engine, evaluation, models

__all__ = ["__version__", "checkpoints", "datasets", "engine", "evaluation", "models", "registry"]


def __getattr__(name: str) -> object:
    """Import a part of the package when it is asked for.

    Raises:
        AttributeError: For any other name.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
