"""The commands of ``maskfeat``: each is a file in ``tools/``, or the doctor."""

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
    """A command: the file in ``tools/`` whose ``main`` it runs, None for the doctor, and its line of help."""

    tool: str | None
    help: str


COMMANDS = {
    "pretrain": Command("pretrain.py", "pre-train on a folder of images or videos; no config is needed"),
    "finetune": Command("finetune.py", "fine-tune a pre-trained model on a folder with classes"),
    "predict": Command("predict.py", "classify images or videos with a fine-tuned model"),
    "train": Command("train.py", "train a config: pre-training or fine-tuning"),
    "test": Command("test.py", "test a fine-tuned model: the metrics of its config"),
    "configs": Command("configs.py", "list the configs by name, or copy one to change it"),
    "convert": Command("convert_checkpoint.py", "convert a checkpoint of another project, or to its format"),
    "visualize": Command("visualize.py", "draw masks, targets, predictions, detections and actions"),
    "report": Command("report.py", "one HTML page of a training: curves, samples, versions"),
    "index": Command("index_archive.py", "write a manifest of a folder of images and videos"),
    "deduplicate": Command("deduplicate_archive.py", "find near-duplicates and static videos in a manifest"),
    "shrink": Command("shrink_archive.py", "write smaller copies of videos, long ones in pieces"),
    "knn": Command("knn.py", "k-NN accuracy of a checkpoint's features"),
    "extract": Command("extract_features.py", "write features to npz, parquet or lmdb"),
    "search": Command("search_features.py", "find the images or clips that are most like a given one"),
    "export": Command("export_model.py", "export a model, or its backbone alone, to ONNX or torch.export"),
    "web": Command("web_demo.py", "a page on this machine: drop an image or a clip, move the mask ratio"),
    "estimate": Command("estimate.py", "parameters, FLOPs, memory and days of a training, before it"),
    "doctor": Command(None, "check the installation and say what to do"),
}

# What the targets of the Makefile do, and no installation
_MADE = ("bench", "demo", "docs", "test")

_EXAMPLE = """example:
  maskfeat train maskfeat_vit-tiny_moving-digits --work-dir work_dirs/mine

Give a config as a file, or by a name that maskfeat configs lists. The files are in {configs}.
Make the example's data before: python {tools}/data/moving_digits.py; the other files of that folder make other data.
maskfeat COMMAND --help says more; each is a file of tools/: maskfeat train is python {tools}/train.py."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments (Sequence[str], optional): What follows ``maskfeat``. Defaults to those of this process.

    Returns:
        int: The exit status of the command; 2 if there is none of this name.
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
    # argparse takes the name of the program from here, torch's launchers the rest
    sys.argv = [f"maskfeat {name}", *rest]
    return (doctor.main if command.tool is None else load_main(tools_folder() / command.tool))()


def format_help() -> str:
    """What ``maskfeat --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    usage = "usage: maskfeat COMMAND [arguments]\n       maskfeat --version"
    example = _EXAMPLE.format(configs=configs_folder(), tools=tools_folder())
    return "\n".join([usage, "", "commands:", *lines, "", example])


def load_main(tool: Path) -> Callable[[], int]:
    """``main`` of a tool.

    Args:
        tool (Path): Its file.

    Returns:
        Callable[[], int]: Reads ``sys.argv``, returns the exit status.
    """
    spec = importlib.util.spec_from_file_location(f"maskfeat_tool_{tool.stem}", tool)
    if spec is None or spec.loader is None:
        raise ImportError(f"{tool} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look modules up by name
    spec.loader.exec_module(module)
    return module.main


def _unknown(name: str) -> str:
    if name in _MADE:
        return f"error: maskfeat {name}: it belongs to a checkout of the repository. Run make {name} there."
    # tools are known by their files too
    names = {Path(command.tool).stem: known for known, command in COMMANDS.items() if command.tool}
    names.update((known, known) for known in COMMANDS)
    near = dict.fromkeys(names[match] for match in difflib.get_close_matches(name, names, cutoff=0.5))
    advice = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(COMMANDS)} is meant."
    return f"error: maskfeat has no command {name!r}; {advice} maskfeat --help lists them."


def _version() -> str:
    try:
        return f"maskfeat_plugin {version('maskfeat_plugin')}"
    except PackageNotFoundError:
        return "maskfeat_plugin, not installed"
