"""What the command lines of the data sets share."""

import argparse
from collections.abc import Callable
from pathlib import Path

from maskfeat_cli.arguments import positive
from maskfeat_plugin.errors import ConfigError, describe
from maskfeat_plugin.machine import usable_cores
from maskfeat_plugin.running.command_line import run_tool

from .completeness import Report
from .readable import LEVELS
from .workspace import DataSettings


def build_data_parser(description: str, example: str, root: str) -> argparse.ArgumentParser:
    """A parser with the arguments of every data set.

    Args:
        description (str): First lines of ``--help``.
        example (str): Last lines of ``--help``.
        root (str): Where the configs expect the data.

    Returns:
        argparse.ArgumentParser: To be given its own arguments.
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
        default=usable_cores(),
        help="processes that read files (as many as there are cores)",
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    return parser


def run_preparation(prepare: Callable[[DataSettings], Report], args: argparse.Namespace) -> int:
    """Prepare a data set, print what was found and say what is wrong in one line.

    Args:
        prepare (Callable[[DataSettings], Report]): The work.
        args (argparse.Namespace): What a parser of :func:`build_data_parser` has read.

    Returns:
        int: The exit status: 0, 1 for an error or a problem with ``--strict``, 130 if interrupted.
    """
    settings = DataSettings(
        sources=tuple(args.sources),
        root=args.root,
        check=args.check,
        move=args.move,
        workers=args.workers,
        dry_run=args.dry_run,
        progress=not args.quiet,
    )

    def work() -> None:
        try:
            report = prepare(settings)
        except OSError as error:  # a full disk, a folder without permission
            raise ConfigError(describe(error)) from error
        print(report.summary())
        if args.strict and report.problems():
            raise ConfigError(f"--strict: {report.problems()[0]} (the first of {len(report.problems())} problems)")

    return run_tool(work, hint="the same command goes on from here")
