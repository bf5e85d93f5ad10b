"""Arguments of the commands that train on a folder of the user."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import positive, positive_float, whole


def build_folder_parser(description: str | None, example: str) -> argparse.ArgumentParser:
    """Build a parser with the arguments of a training on a folder.

    Args:
        description (str, optional): First lines of ``--help``.
        example (str): Last lines of ``--help``.

    Returns:
        argparse.ArgumentParser: The parser. The caller adds its own arguments.
    """
    parser = argparse.ArgumentParser(
        description=description, epilog=example, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="folder of files, at any depth")
    parser.add_argument("--work-dir", type=Path, help="folder for the config, log, checkpoints and pictures")
    parser.add_argument("--kind", choices=("image", "video"), help="kind of files to use (default: the more frequent)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=positive, metavar="N", help="number of training steps")
    length.add_argument("--hours", type=positive_float, metavar="H", help="train for about H hours instead")
    parser.add_argument("--batch-size", type=positive, metavar="N", help="number of samples per step")
    parser.add_argument("--lr", type=positive_float, metavar="LR", help="learning rate")
    parser.add_argument(
        "--num-workers", type=whole, default=2, metavar="N", help="processes that read files (default: 2)"
    )
    parser.add_argument("--seed", type=whole, default=0, help="seed of the training (default: 0)")
    parser.add_argument(
        "--no-flip",
        dest="flip",
        action="store_false",
        help="do not mirror samples, for data where left and right differ",
    )
    parser.add_argument("--amp", action="store_true", help="train in mixed precision")
    parser.add_argument("--dry-run", action="store_true", help="write the config and print the plan, do not train")
    parser.add_argument("--resume", action="store_true", help="continue the interrupted training in --work-dir")
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    return parser


def read_folder_arguments(
    parser: argparse.ArgumentParser, arguments: list[str] | None, suffix: str
) -> argparse.Namespace:
    """Read a command line. End the command if the folder does not exist.

    Args:
        parser (argparse.ArgumentParser): Parser of :func:`build_folder_parser`.
        arguments (list[str], optional): The command line. None means the command line of this process.
        suffix (str): End of the name of the default work directory.

    Returns:
        argparse.Namespace: The arguments. The work directory is always set.
    """
    args = parser.parse_args(arguments)
    if not args.folder.is_dir():
        problem = "is a file" if args.folder.exists() else "does not exist"
        parser.error(f"FOLDER: {args.folder} {problem}. Give a folder of images or videos.")
    args.work_dir = args.work_dir or Path("work_dirs", f"{args.folder.resolve().name}_{suffix}")
    return args
