"""What a training writes beside its checkpoints, and what an interrupted one leaves."""

import os
import shutil
from pathlib import Path

from maskfeat_plugin.files import remove_left_over, restore, whole_file

LAST = "last_checkpoint"
"""mmengine's name of the file that holds the path of the newest checkpoint."""


def write_last(folder: str | Path, path: str | Path) -> None:
    """Write mmengine's ``last_checkpoint``, which its runners resume from; never half of it.

    Args:
        folder (str | Path): The work directory.
        path (str | Path): Path of the newest checkpoint.

    Raises:
        OSError: If it cannot be written.
    """
    # complete, for whoever goes on from another folder
    text = str(path) if "://" in str(path) else os.path.abspath(path)
    with whole_file(Path(folder, LAST)) as unfinished:
        unfinished.write_bytes(os.fsencode(text))


def remove_unfinished(folder: str | Path) -> None:
    """Remove what an interrupted training was writing when it ended, but nothing that a process is writing."""
    restore_all(folder)
    remove_left_over(Path(folder))
    for ending in ("unfinished", "replaced"):
        for path in Path(folder).glob(f".*.{ending}"):
            if path.is_dir():
                shutil.rmtree(path)


def restore_all(folder: str | Path) -> None:
    """Call :func:`.restore` for all that is in a folder."""
    for path in Path(folder).glob(".*.replaced"):
        restore(path.with_name(path.name.removeprefix(".").removesuffix(".replaced")))
