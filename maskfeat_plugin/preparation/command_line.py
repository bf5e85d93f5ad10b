"""Common part of the command lines that prepare data sets."""

import argparse
from collections.abc import Callable

from maskfeat_cli.arguments import build_data_parser
from maskfeat_plugin.errors import ConfigError, describe
from maskfeat_plugin.machine import usable_cores
from maskfeat_plugin.running.command_line import run_tool

from .completeness import Report
from .workspace import DataSettings

__all__ = ["build_data_parser", "run_preparation"]


def run_preparation(prepare: Callable[[DataSettings], Report], args: argparse.Namespace) -> int:
    """Prepare a data set. Print the results, and errors in one line.

    Args:
        prepare (Callable[[DataSettings], Report]): The function that prepares the data set.
        args (argparse.Namespace): The result of a parser of :func:`build_data_parser`.

    Returns:
        int: The exit status: 0, 1 for an error or a problem with ``--strict``, 130 if interrupted.
    """
    settings = DataSettings(
        sources=tuple(args.sources),
        root=args.root,
        check=args.check,
        move=args.move,
        workers=args.workers or usable_cores(),
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

    return run_tool(work, hint="run the same command again to continue")
