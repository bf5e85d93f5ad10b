"""MaskFeat (Wei et al., CVPR 2022) for the OpenMMLab stack; importing it registers every component."""

from . import compat

compat.apply()

from . import checkpoints, datasets, engine, evaluation, models  # noqa: E402
from .version import __version__  # noqa: E402

__all__ = ["__version__", "checkpoints", "datasets", "engine", "evaluation", "models"]
