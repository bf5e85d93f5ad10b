"""Look for the files and folders of a command line before the imports of its work, which take seconds.

The functions return the message of an error, None if nothing is missing. Files that are there but unfit are left to
the work, and so are URLs.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

from .named_configs import describe_unknown, find_config

# Of several processes that share the work, the first says what is wrong. The others wait for so many seconds before
# they say it too: the launcher has stopped them by then
PATIENCE = 15.0


def refuse(*problems: str | None) -> bool:
    """Print the first problem as the error of a command, and return whether there is one.

    Args:
        *problems (str, optional): Messages; None for what is right.
    """
    problem = next(filter(None, problems), None)
    if problem is None:
        return False
    if int(os.environ.get("RANK", 0)) > 0:
        time.sleep(PATIENCE)
    print(f"error: {problem}", file=sys.stderr)
    return True


def missing_config(config: str | None) -> str | None:
    """Look for a config, by its path or its name; None is none that was given."""
    return None if config is None or find_config(config) else describe_unknown(config)


def missing_run(run: str | None) -> str | None:
    """Look for the work directory of a training, a config or the name of one; None is none that was given."""
    return None if run is None or Path(run).is_dir() else missing_config(run)


def missing_folder(folder: str | Path) -> str | None:
    """Look for a folder of the user's files."""
    return None if Path(folder).exists() else f"FOLDER: {folder} does not exist. Give a folder of images or videos."


def missing_checkpoint(checkpoint: str | None) -> str | None:
    """Look for a checkpoint; None is none that was given."""
    if _is_there(checkpoint):
        return None
    return f"The checkpoint {Path(str(checkpoint)).expanduser()} does not exist; give the path or URL of a file."


def missing_start(checkpoint: str | None) -> str | None:
    """Look for the checkpoint that a runner starts from, ``load_from`` of its config; None is none that was given."""
    if _is_there(checkpoint):
        return None
    return (
        f"load_from={checkpoint!r}: the file is not there; give another file or a URL with --cfg-options "
        "load_from=FILE."
    )


def missing_input(path: str | Path) -> str | None:
    """Look for a file, folder or manifest that a model is to see."""
    if Path(path).suffix == ".parquet":
        return missing_manifest(path)
    return None if Path(path).exists() else f"the input {Path(path)} does not exist."


def missing_manifest(path: str | Path) -> str | None:
    """Look for a manifest of ``maskfeat index``."""
    return None if Path(path).exists() else f"the manifest {path} does not exist. Write it with maskfeat index."


def _is_there(checkpoint: str | None) -> bool:
    if checkpoint is None or re.match(r"[a-zA-Z0-9+]{2,}:", checkpoint):  # a URL
        return True
    # a folder of shards that a killed process was replacing is put back when it is read
    return checkpoint.rstrip("/").endswith(".sharded") or Path(checkpoint).expanduser().exists()
