"""The error that the user can mend."""


class ConfigError(ValueError):
    """A config, a command line or a data set that cannot work; the message names the key or file and what would do."""


def describe(error: Exception) -> str:
    """The message of an exception, or its type where it has none."""
    # the text of a KeyError is the repr of its message
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return str(text) or type(error).__name__
