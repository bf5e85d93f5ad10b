"""Files that a training writes beside its checkpoints, and removal of files that an interrupted training left."""

import os
import shutil
from pathlib import Path

from maskfeat_plugin.files import remove_left_over, restore, whole_file

LAST = "last_checkpoint"
"""mmengine's name for the file that holds the path of the newest checkpoint."""


def write_last(folder: str | Path, path: str | Path) -> None:
    """Write mmengine's ``last_checkpoint``, from which its runners resume. The file is never half written.

    Args:
        folder (str | Path): The work directory.
        path (str | Path): Path of the newest checkpoint.

    Raises:
        OSError: If it cannot be written.
    """
    # an absolute path, for runs that are started in another folder
    text = str(path) if "://" in str(path) else os.path.abspath(path)
    with whole_file(Path(folder, LAST)) as unfinished:
        unfinished.write_bytes(os.fsencode(text))


def remove_unfinished(folder: str | Path) -> None:
    """Remove files that an interrupted training did not finish, but no file that a process is still writing."""
    restore_all(folder)
    remove_left_over(Path(folder))
    for ending in ("unfinished", "replaced"):
        for path in Path(folder).glob(f".*.{ending}"):
            if path.is_dir():
                shutil.rmtree(path)


def restore_all(folder: str | Path) -> None:
    """Call :func:`.restore` for every checkpoint in a folder."""
    for path in Path(folder).glob(".*.replaced"):
        restore(path.with_name(path.name.removeprefix(".").removesuffix(".replaced")))
