"""Arguments that several commands share, and their types. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LEVELS = ("none", "fast", "full")  # those of maskfeat_plugin.preparation.readable
CONFIG_HELP = "config file, or the name of a config of this package: maskfeat --help says where they are"


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("has to be at least 1")
    return value


def positive_float(text: str) -> float:
    """Read a number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("has to be above 0")
    return value


def whole(text: str) -> int:
    """Read a whole number of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("has to be at least 0")
    return value


def share(text: str) -> float:
    """Read a number between 0 and 1."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError("has to be between 0 and 1")
    return value


class OptionAction(argparse.Action):
    """Action of ``--cfg-options``: mmengine's ``DictAction``, which refuses values that are not ``KEY=VALUE``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Read the values, or end the command with one line."""
        from mmengine.config import DictAction  # not before the option is given: --help needs no mmengine

        pairs = list(values or ())
        try:
            DictAction(self.option_strings, self.dest, self.nargs)(parser, namespace, pairs, option_string)
        except (ValueError, AssertionError, RecursionError) as error:
            parser.error(f"{option_string} {' '.join(pairs)[:200]}: {error}. Give KEY=VALUE, with balanced brackets.")


def build_parser(description: str | None, example: str, launcher: bool = True) -> argparse.ArgumentParser:
    """Build a parser with the arguments of training and testing: the config, and how to run it.

    Args:
        description (str, optional): First lines of ``--help``.
        example (str): Last lines of ``--help``.
        launcher (bool): Whether several processes can share the work, by ``--launcher``. Defaults to True.

    Returns:
        argparse.ArgumentParser: The caller adds its own arguments.
    """
    parser = argparse.ArgumentParser(
        description=description, epilog=example, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", metavar="CONFIG", help=CONFIG_HELP)
    parser.add_argument("--work-dir", help="where logs and checkpoints go (default: work_dirs/ and the config's name)")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=OptionAction,
        metavar="KEY=VALUE",
        help="settings to change in the config, such as train_dataloader.batch_size=8 or 'a.b=[1,2]'",
    )
    if launcher:
        parser.add_argument(
            "--launcher",
            choices=("none", "pytorch", "slurm", "mpi"),
            default="none",
            help="who starts the processes (default: none, a single one)",
        )
    parser.add_argument("--traceback", action="store_true", help="with an error in the config, show where it arose")
    return parser


def build_data_parser(description: str | None, example: str, root: str) -> argparse.ArgumentParser:
    """Build a parser with the arguments of every data set.

    Args:
        description (str, optional): First lines of ``--help``.
        example (str): Last lines of ``--help``.
        root (str): Where the configs expect the data.

    Returns:
        argparse.ArgumentParser: The caller adds its own arguments.
    """
    parser = argparse.ArgumentParser(
        description=description, epilog=example, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sources", metavar="SOURCE", type=Path, nargs="+", help="folders with the official downloads, unpacked or not"
    )
    parser.add_argument(
        "--root", type=Path, default=Path(root), help=f"where the prepared data go ({root}, as in the configs)"
    )
    parser.add_argument(
        "--check",
        choices=LEVELS,
        default="fast",
        help="how files are read: not at all; headers, first and last frames; or every pixel (%(default)s)",
    )
    parser.add_argument("--move", action="store_true", help="move the files to ROOT instead of linking to them")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if anything is missing or unreadable")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, write nothing")
    parser.add_argument(
        "--workers",
        type=positive,
        help="processes that read files (as many as there are cores)",
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    return parser
