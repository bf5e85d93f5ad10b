"""Public functions and classes of the plugin: the tools of the command line and their parts, for use from Python."""

import warnings

from maskfeat_plugin.config.checks import check_config
from maskfeat_plugin.config.load import load_config
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.running import command_line
from maskfeat_plugin.running.training import build_tester, build_trainer, train

from .estimate import model_costs, plan_training
from .export import export_model
from .features.extraction import extract_features
from .features.files import read_features
from .features.search import search_features
from .inferencer import MaskFeatInferencer
from .knn_evaluation import evaluate_knn
from .model_loading import from_pretrained, get_model, list_models
from .pictures import visualize
from .prediction import predict
from .web_demo import serve as serve_web_demo

__all__ = [
    "ConfigError",
    "MaskFeatInferencer",
    "build_tester",
    "build_trainer",
    "check_config",
    "evaluate_knn",
    "export_model",
    "extract_features",
    "from_pretrained",
    "get_model",
    "list_models",
    "load_config",
    "model_costs",
    "plan_training",
    "predict",
    "read_features",
    "search_features",
    "serve_web_demo",
    "train",
    "visualize",
]


def __getattr__(name: str) -> object:
    """Return a function that was in this module in version 0.1 and is now in ``running.command_line``.

    Raises:
        AttributeError: For any other name.
    """
    if name not in ("build_parser", "run_tool"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{__name__}.{name} is {command_line.__name__}.{name} now", DeprecationWarning, stacklevel=2)
    return getattr(command_line, name)
