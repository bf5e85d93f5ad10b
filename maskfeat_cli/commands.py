"""Commands of ``maskfeat``. Each command runs a file in ``tools/``, except for ``maskfeat doctor``."""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from . import doctor
from .folders import configs_folder, tools_folder


class Command(NamedTuple):
    """Command: the file in ``tools/`` whose ``main`` it runs (None for the doctor), and its line in the help."""

    tool: str | None
    help: str


COMMANDS = {
    "pretrain": Command("pretrain.py", "pre-train on a folder of images or videos; no config is needed"),
    "finetune": Command("finetune.py", "fine-tune a pre-trained model on a folder with classes"),
    "predict": Command("predict.py", "classify images or videos with a fine-tuned model"),
    "train": Command("train.py", "train a config: pre-training or fine-tuning"),
    "test": Command("test.py", "test a fine-tuned model with the metrics of its config"),
    "configs": Command("configs.py", "list the configs by name, or copy one to change it"),
    "convert": Command("convert_checkpoint.py", "convert a checkpoint from or to the format of another project"),
    "visualize": Command("visualize.py", "draw masks, targets, predictions, detections and actions"),
    "report": Command("report.py", "write an HTML page about a training: curves, samples, versions"),
    "index": Command("index_archive.py", "write a manifest of a folder of images and videos"),
    "deduplicate": Command("deduplicate_archive.py", "find near-duplicates and static videos in a manifest"),
    "shrink": Command("shrink_archive.py", "write smaller copies of videos, and cut long videos into pieces"),
    "shards": Command("data/to_shards.py", "write the samples of a config's data set to tar shards"),
    "knn": Command("knn.py", "evaluate the features of a checkpoint by k-NN classification"),
    "extract": Command("extract_features.py", "write features to npz, parquet or lmdb"),
    "search": Command("search_features.py", "find the images or clips that are most similar to a given one"),
    "export": Command("export_model.py", "export a model, or its backbone alone, to ONNX or torch.export"),
    "web": Command("web_demo.py", "serve a page on this machine that shows the predictions for an image or a clip"),
    "estimate": Command("estimate.py", "estimate parameters, FLOPs, memory and days of a training"),
    "doctor": Command(None, "check the installation and print remedies"),
}

# Targets of the Makefile, which exist in a checkout but not in an installation
_MADE = ("bench", "demo", "docs", "test")

_EXAMPLE = """example:
  maskfeat train maskfeat_vit-tiny_moving-digits --work-dir work_dirs/mine

Give a config file, or a name that maskfeat configs lists. The config files are in {configs}.
Build the data of the example first: python {tools}/data/moving_digits.py. The files beside it prepare other data.
maskfeat COMMAND --help shows the arguments of a command. Each command runs a tool: maskfeat train runs
{tools}/train.py."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments (Sequence[str], optional): Arguments after ``maskfeat``. Defaults to the arguments of this process.

    Returns:
        int: The exit status of the command; 2 if there is no command of this name.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments:
        print(format_help(), file=sys.stderr)
        return 2
    name, *rest = arguments
    if name in ("-h", "--help", "help"):
        print(format_help())
        return 0
    if name == "--version":
        print(_version())
        return 0
    command = COMMANDS.get(name)
    if command is None:
        print(_unknown(name), file=sys.stderr)
        return 2
    # argparse takes the name of the program from sys.argv; torch's launchers take the other arguments
    sys.argv = [f"maskfeat {name}", *rest]
    return (doctor.main if command.tool is None else load_main(tools_folder() / command.tool))()


def format_help() -> str:
    """Return the text that ``maskfeat --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    usage = "usage: maskfeat COMMAND [arguments]\n       maskfeat --version"
    example = _EXAMPLE.format(configs=configs_folder(), tools=tools_folder())
    return "\n".join([usage, "", "commands:", *lines, "", example])


def load_main(tool: Path) -> Callable[[], int]:
    """Import a tool and return its function ``main``.

    Args:
        tool (Path): File of the tool.

    Returns:
        Callable[[], int]: The function. It reads ``sys.argv`` and returns the exit status.
    """
    spec = importlib.util.spec_from_file_location(f"maskfeat_tool_{tool.stem}", tool)
    if spec is None or spec.loader is None:
        raise ImportError(f"{tool} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look modules up by name
    spec.loader.exec_module(module)
    return module.main


def _unknown(name: str) -> str:
    if name in _MADE:
        return f"error: maskfeat {name}: this is a make target of the repository. Run make {name} in a checkout."
    # users may type the name of a tool's file instead of the command
    names = {Path(command.tool).stem: known for known, command in COMMANDS.items() if command.tool}
    names.update((known, known) for known in COMMANDS)
    near = dict.fromkeys(names[match] for match in difflib.get_close_matches(name, names, cutoff=0.5))
    advice = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(COMMANDS)}."
    return f"error: maskfeat has no command {name!r}; {advice} maskfeat --help describes the commands."


def _version() -> str:
    try:
        return f"maskfeat_plugin {version('maskfeat_plugin')}"
    except PackageNotFoundError:
        return "maskfeat_plugin, not installed"
