"""Checks that the files and folders of a command line exist. They run before the command's imports, which take seconds.

The functions return an error message, or None if nothing is missing. They check neither the contents of files nor URLs:
the command itself does this later.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

from .named_configs import describe_unknown, find_config

# Seconds that the processes of ranks above 0 wait before they print an error. Rank 0 has then printed the same error,
# and the launcher has stopped the others
PATIENCE = 15.0


def refuse(*problems: str | None) -> bool:
    """Print the first problem as the error of the command, and return whether there is a problem.

    Args:
        *problems (str, optional): Error messages. None means no problem.
    """
    problem = next(filter(None, problems), None)
    if problem is None:
        return False
    if int(os.environ.get("RANK", 0)) > 0:
        time.sleep(PATIENCE)
    print(f"error: {problem}", file=sys.stderr)
    return True


def missing_config(config: str | None) -> str | None:
    """Check that a config exists, given by its path or its name. None means that no config was given."""
    return None if config is None or find_config(config) else describe_unknown(config)


def missing_run(run: str | None) -> str | None:
    """Check that a work directory or a config exists. None means that neither was given."""
    return None if run is None or Path(run).is_dir() else missing_config(run)


def missing_folder(folder: str | Path) -> str | None:
    """Check that a folder of the user's files exists."""
    return None if Path(folder).exists() else f"FOLDER: {folder} does not exist. Give a folder of images or videos."


def missing_checkpoint(checkpoint: str | None) -> str | None:
    """Check that a checkpoint exists. None means that no checkpoint was given."""
    if _is_there(checkpoint):
        return None
    return f"The checkpoint {Path(str(checkpoint)).expanduser()} does not exist; give the path or URL of a file."


def missing_start(checkpoint: str | None) -> str | None:
    """Check that the checkpoint exists that a runner loads (``load_from``). None means that no checkpoint was given."""
    if _is_there(checkpoint):
        return None
    return (
        f"load_from={checkpoint!r}: the file is not there; give another file or a URL with --cfg-options "
        "load_from=FILE."
    )


def missing_input(path: str | Path) -> str | None:
    """Check that an input of a model exists: a file, a folder or a manifest."""
    if Path(path).suffix == ".parquet":
        return missing_manifest(path)
    return None if Path(path).exists() else f"the input {Path(path)} does not exist."


def missing_manifest(path: str | Path) -> str | None:
    """Check that a manifest of ``maskfeat index`` exists."""
    return None if Path(path).exists() else f"the manifest {path} does not exist. Write it with maskfeat index."


def _is_there(checkpoint: str | None) -> bool:
    if checkpoint is None or re.match(r"[a-zA-Z0-9+]{2,}:", checkpoint):  # a URL
        return True
    # a killed process may have left no folder of shards; reading the checkpoint then restores the previous one
    return checkpoint.rstrip("/").endswith(".sharded") or Path(checkpoint).expanduser().exists()
