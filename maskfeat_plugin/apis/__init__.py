"""What the tools are made of: reading, checking and running a config."""

from maskfeat_plugin.errors import ConfigError

from .checks import check_config
from .command_line import build_parser, run_tool
from .config import load_config
from .inferencer import MaskFeatInferencer
from .models import get_model, list_models
from .runs import build_tester, build_trainer, train

__all__ = [
    "ConfigError",
    "MaskFeatInferencer",
    "build_parser",
    "build_tester",
    "build_trainer",
    "check_config",
    "get_model",
    "list_models",
    "load_config",
    "run_tool",
    "train",
]
