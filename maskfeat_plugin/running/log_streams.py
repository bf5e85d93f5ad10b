"""Log streams that let a training continue on a full disk, and a context without log messages."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


def go_on_without_log(handler: logging.StreamHandler) -> None:
    """Make a handler drop the lines that it cannot write, with one warning on standard error.

    mmengine also writes to the stream of a handler directly. ``logging.Handler.handleError`` does not see those errors.

    Args:
        handler (logging.StreamHandler): A handler of a training's log, for a file or the terminal.
    """
    if not isinstance(handler.stream, _Stream):
        handler.setStream(_Stream(handler.stream))


class _Stream:
    """Text stream that drops the lines which cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._said = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._try(self._stream.write, text) or 0

    def flush(self) -> None:
        self._try(self._stream.flush)

    def close(self) -> None:
        self._try(self._stream.close)

    def _try(self, function: Callable, *args: str) -> Any:
        try:
            return function(*args)
        except OSError as error:
            if not self._said:
                self._said = True
                text = f"{getattr(self._stream, 'name', 'the log')} cannot be written: {error.strerror or error}"
                with suppress(OSError):  # standard error may be on the same full disk
                    print(f"warning: {text}. Training goes on without these lines of the log.", file=sys.stderr)


@contextmanager
def quiet() -> Iterator[None]:
    """Turn off log messages in the block, such as mmengine's lines about every parameter of a model that it builds."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
