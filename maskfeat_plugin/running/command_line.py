"""Functions that all command-line tools share."""

import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress

import torch

from maskfeat_cli.arguments import build_parser
from maskfeat_cli.given_files import PATIENCE
from maskfeat_plugin.errors import ConfigError, WriteError
from maskfeat_plugin.files import is_full_disk

from .distributed import describe_lost_contact, disconnect_processes, launched_rank

__all__ = ["build_parser", "chosen_device", "run_tool"]  # build_parser moved to maskfeat_cli; its old name stays valid


def chosen_device(device: str | None) -> str:
    """Return the device of a command line: the given one, otherwise the GPU if there is one, otherwise the CPU."""
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def run_tool(work: Callable[[], object], show_traceback: bool = False, hint: str = "") -> int:
    """Run the work of a tool. Print errors that the user can correct in one line.

    Args:
        work (Callable[[], object]): The work.
        show_traceback (bool): Whether to show the traceback of a :class:`ConfigError` too. Defaults to False.
        hint (str): Advice that is printed after an interruption. Defaults to "".

    Returns:
        int: The exit status: 0, 1 for a :class:`ConfigError` or a lost process, 130 if interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # print file names byte for byte, also if they are not UTF-8
    try:
        work()
        disconnect_processes()
        _flush_output()
    except ConfigError as error:
        if launched_rank() > 0:  # give the first process time to report an error that all processes have
            time.sleep(PATIENCE)
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
    except SystemExit:
        # srun sends SIGTERM to all processes as soon as one has exited. Each has to keep its own exit status
        with suppress(ValueError):  # signals are set by the main thread only
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    except KeyboardInterrupt:
        print("; ".join(filter(None, ("interrupted", hint))), file=sys.stderr)
        return 130
    return 0


def _flush_output() -> None:
    """Write the buffered output.

    Raises:
        WriteError: If the output is redirected to a disk that does not accept the data.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again when it exits
        raise WriteError(f"the standard output cannot be written: {error.strerror}. Redirect it elsewhere.") from error
