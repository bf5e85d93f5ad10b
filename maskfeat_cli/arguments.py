"""Argument types and parsers that several commands share. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LEVELS = ("none", "fast", "full")  # the same as in maskfeat_plugin.preparation.readable
CONFIG_HELP = "config file, or the name of a config of this package (maskfeat configs lists the names)"


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
    """Action of ``--cfg-options``: mmengine's ``DictAction``, with one line of error for values of another form."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Read the values, or end the command with a one-line error."""
        from mmengine.config import DictAction  # imported here because --help must work without mmengine

        pairs = list(values or ())
        try:
            DictAction(self.option_strings, self.dest, self.nargs)(parser, namespace, pairs, option_string)
        except (ValueError, AssertionError, RecursionError) as error:
            parser.error(f"{option_string} {' '.join(pairs)[:200]}: {error}. Give KEY=VALUE, with balanced brackets.")


def build_parser(description: str | None, example: str, launcher: bool = True) -> argparse.ArgumentParser:
    """Build a parser with the arguments that training and testing share, such as the config and the work directory.

    Args:
        description (str, optional): First lines of ``--help``.
        example (str): Last lines of ``--help``.
        launcher (bool): Whether to add ``--launcher``, with which several processes share the work. Defaults to True.

    Returns:
        argparse.ArgumentParser: The parser. The caller adds its own arguments.
    """
    parser = argparse.ArgumentParser(
        description=description, epilog=example, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", metavar="CONFIG", help=CONFIG_HELP)
    parser.add_argument("--work-dir", help="folder of logs and checkpoints (default: work_dirs/ and the config's name)")
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
            help="program that starts the processes (default: none, for a single process)",
        )
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error in the config")
    return parser


def build_data_parser(description: str | None, example: str, root: str) -> argparse.ArgumentParser:
    """Build a parser with the arguments that the preparation of every data set shares.

    Args:
        description (str, optional): First lines of ``--help``.
        example (str): Last lines of ``--help``.
        root (str): Folder where the configs expect the data.

    Returns:
        argparse.ArgumentParser: The parser. The caller adds its own arguments.
    """
    parser = argparse.ArgumentParser(
        description=description, epilog=example, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sources", metavar="SOURCE", type=Path, nargs="+", help="folders with the official downloads, unpacked or not"
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(root),
        help=f"folder of the prepared data (default: {root}, as in the configs)",
    )
    parser.add_argument(
        "--check",
        choices=LEVELS,
        default="fast",
        help="parts of the files to read: none; fast, headers and the first and last frames; full, every pixel "
        "(default: %(default)s)",
    )
    parser.add_argument("--move", action="store_true", help="move the files to ROOT instead of linking to them")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 if anything is missing or unreadable")
    parser.add_argument("--dry-run", action="store_true", help="describe the work and write nothing")
    parser.add_argument(
        "--workers",
        type=positive,
        help="number of processes that read files (default: the number of cores)",
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    return parser
