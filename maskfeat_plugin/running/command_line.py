"""What the command lines of the tools share."""

import io
import os
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

__all__ = ["build_parser", "chosen_device", "run_tool"]  # build_parser was here before maskfeat_cli had it


def chosen_device(device: str | None) -> str:
    """Return the device of a command line: the one that was given, else the GPU, else the CPU."""
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


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
