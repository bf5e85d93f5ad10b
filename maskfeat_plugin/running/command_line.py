"""What the command lines of the tools share."""

import argparse
import io
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress

from mmengine.config import DictAction

from maskfeat_plugin.errors import ConfigError, WriteError
from maskfeat_plugin.files import is_full_disk

from .distributed import describe_lost_contact, disconnect_processes, launched_rank

CONFIG_HELP = "config file, or the name of a config of this package: maskfeat --help says where they are"
# What the other processes leave to the first to say the launcher has stopped them before, in seconds
_PATIENCE = 15.0


class OptionAction(DictAction):
    """Action of ``--cfg-options`` that refuses values which are not ``KEY=VALUE``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        """Read the values, or end the command with one line."""
        try:
            super().__call__(parser, namespace, values, option_string)
        except (ValueError, AssertionError, RecursionError) as error:
            parser.error(f"{option_string} {' '.join(values)[:200]}: {error}. Give KEY=VALUE, with balanced brackets.")


def build_parser(description: str, example: str, launcher: bool = True) -> argparse.ArgumentParser:
    """A parser with the arguments of training and testing: the config, and how to run it.

    Args:
        description (str): First lines of ``--help``.
        example (str): Last lines of ``--help``.
        launcher (bool): Whether several processes can share the work, by ``--launcher``. Defaults to True.

    Returns:
        argparse.ArgumentParser: To be given its own arguments.
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


def run_tool(work: Callable[[], object], show_traceback: bool = False, hint: str = "") -> int:
    """Run the work of a tool, with one line for what the user can mend.

    Args:
        work (Callable[[], object]): The work.
        show_traceback (bool): Whether to show the traceback of a :class:`ConfigError` too. Defaults to False.
        hint (str): What to do after an interruption. Defaults to "".

    Returns:
        int: The exit status: 0, 1 for a :class:`ConfigError` or a lost process, 130 if interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files as the system gave them
    try:
        work()
        disconnect_processes()
        _flush_output()
    except ConfigError as error:
        if launched_rank() > 0:  # it is the first's to say, unless it is not its error
            time.sleep(_PATIENCE)
        if show_traceback:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if not is_full_disk(error):
            raise
        with suppress(WriteError):
            _flush_output()
        where = f"{error.filename or 'a file'} cannot be written: {error.strerror}. Make room on its disk"
        print("; ".join(filter(None, (f"error: {where}", hint))), file=sys.stderr)
        return 1
    except RuntimeError as error:
        lost = describe_lost_contact(error)
        if lost is None:
            raise
        print("; ".join(filter(None, (f"error: {lost}", hint))), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("; ".join(filter(None, ("interrupted", hint))), file=sys.stderr)
        return 130
    return 0


def _flush_output() -> None:
    """Write what was printed.

    Raises:
        WriteError: If the disk that the output is redirected to does not take it.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries again at its end
        raise WriteError(f"the standard output cannot be written: {error.strerror}. Redirect it elsewhere.") from error
