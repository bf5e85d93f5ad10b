"""Errors that the user can correct, and helpers for their messages."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ConfigError(ValueError):
    """Error in a config, a command line or a data set; the message names the key or file and says how to correct it."""


class WriteError(ConfigError, OSError):
    """Error of a file that cannot be written, for example on a full disk; the message names the file."""


def describe(error: Exception) -> str:
    """Return the message of an exception, or the name of its type if the message is empty."""
    # str() of a KeyError is the repr of its message
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return str(text) or type(error).__name__


def whole_text(error: BaseException | None) -> str:
    """Join the messages of an exception and of its causes. torch names the signal in one and the process in another.

    Args:
        error (BaseException, optional): The exception.
    """
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


@contextmanager
def reading(path: str | Path, problem: str, advice: str = "") -> Iterator[None]:
    """Turn any exception of a parser into one error that names the file. Damaged bytes can raise any exception.

    Args:
        path (str | Path): The file.
        problem (str): The problem that the message states, for example "is no table of text".
        advice (str): The advice at the end of the message. Defaults to "".

    Raises:
        ConfigError: If the block raises any exception. A ``ConfigError`` of the block itself passes unchanged.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__} "
        raise ConfigError(f"{path} {problem} ({kind}{describe(error)}).{advice and ' '}{advice}") from error
