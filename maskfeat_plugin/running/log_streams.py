"""Logs that a full disk does not turn into the end of a training, and none where nobody reads them."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


def go_on_without_log(handler: logging.StreamHandler) -> None:
    """Have a handler lose what cannot be written, and say so once on standard error.

    mmengine writes to the stream of a handler too, which ``logging.Handler.handleError`` does not see.

    Args:
        handler (logging.StreamHandler): Of the log of a training, for a file or the terminal.
    """
    if not isinstance(handler.stream, _Stream):
        handler.setStream(_Stream(handler.stream))


class _Stream:
    """A stream that loses what cannot be written."""

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
                with suppress(OSError):  # the same disk
                    print(f"warning: {text}. Training goes on without these lines of the log.", file=sys.stderr)


@contextmanager
def quiet() -> Iterator[None]:
    """Without mmengine's lines about every parameter of what is built."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
