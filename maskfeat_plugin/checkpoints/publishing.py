"""Names that checkpoints get once the disk has them: a name stands for the old one or for the whole new one."""

import os
import shutil
from pathlib import Path

LAST = "last_checkpoint"
"""mmengine's name of the file that holds the path of the newest checkpoint."""


def unfinished_path(path: str | Path) -> Path:
    """Where a checkpoint is written before it is whole: in the same folder, under a name that nothing reads."""
    path = Path(path)
    return path.with_name(f".{path.name}.unfinished")


def replaced_path(path: str | Path) -> Path:
    """Return where a folder stands while another takes its name. No system replaces one folder by another at once."""
    path = Path(path)
    return path.with_name(f".{path.name}.replaced")


def publish(path: str | Path) -> None:
    """Give a checkpoint that is written at :func:`unfinished_path` its name, once the disk has it.

    Whatever happens, and whenever the machine stops, the name stands for the old file or for the whole new one. For a
    folder that replaces another this needs :func:`restore`.

    Args:
        path (str | Path): Its name, of a file or a folder.

    Raises:
        OSError: If the disk does not take it.
    """
    path, unfinished, replaced = Path(path), unfinished_path(path), replaced_path(path)
    for inner in [*unfinished.rglob("*"), unfinished]:
        _sync_folder(inner) if inner.is_dir() else sync(inner)
    restore(path)
    if path.is_dir():
        shutil.rmtree(replaced, ignore_errors=True)
        os.replace(path, replaced)
    os.replace(unfinished, path)
    _sync_folder(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def restore(path: str | Path) -> None:
    """Give a folder its name back if the process that replaced it ended in between.

    Args:
        path (str | Path): Its name.

    Raises:
        OSError: If it cannot be renamed.
    """
    path, replaced = Path(path), replaced_path(path)
    if replaced.is_dir() and not path.exists():
        try:
            os.replace(replaced, path)
        except FileNotFoundError:  # another process was faster
            pass


def write_last(folder: str | Path, path: str | Path) -> None:
    """Write mmengine's ``last_checkpoint``, which its runners resume from; never half of it.

    Args:
        folder (str | Path): The work directory.
        path (str | Path): Path of the newest checkpoint.
    """
    # complete, for whoever goes on from another folder
    text = str(path) if "://" in str(path) else os.path.abspath(path)
    unfinished_path(Path(folder, LAST)).write_bytes(os.fsencode(text))
    publish(Path(folder, LAST))


def remove_unfinished(folder: str | Path) -> None:
    """Remove what an interrupted training was writing when it ended."""
    restore_all(folder)
    for ending in ("unfinished", "replaced"):
        for path in Path(folder).glob(f".*.{ending}"):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def restore_all(folder: str | Path) -> None:
    """Call :func:`restore` for all that is in a folder."""
    for path in Path(folder).glob(".*.replaced"):
        restore(path.with_name(path.name.removeprefix(".").removesuffix(".replaced")))


def sync(file: str | Path) -> None:
    """Bring a file to the disk.

    Args:
        file (str | Path): A file that is written.

    Raises:
        OSError: If the disk does not take it.
    """
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    except OSError:  # some file systems of networks cannot, and need not
        pass
    finally:
        os.close(handle)
