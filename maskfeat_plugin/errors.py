"""The error that the user can mend."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ConfigError(ValueError):
    """A config, a command line or a data set that cannot work; the message names the key or file and what would do."""


class WriteError(ConfigError, OSError):
    """A file that cannot be written, as on a full disk; the message names it."""


def describe(error: Exception) -> str:
    """The message of an exception, or its type where it has none."""
    # the text of a KeyError is the repr of its message
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return str(text) or type(error).__name__


def whole_text(error: BaseException | None) -> str:
    """Join the messages of an exception and of those before it: torch names the signal in one, the process in another.

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
    """Turn whatever a parser raises about a file into one error that names it: damaged bytes end parsers in any way.

    Args:
        path (str | Path): The file.
        problem (str): What is wrong then, as in "is no table of text".
        advice (str): What to do. Defaults to "".

    Raises:
        ConfigError: If the block raises anything; its own ``ConfigError`` stays as it is.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__} "
        raise ConfigError(f"{path} {problem} ({kind}{describe(error)}).{advice and ' '}{advice}") from error
