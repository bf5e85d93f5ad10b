"""Manifest of an archive: one parquet file with a row for each image or video below a folder."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from mmengine.fileio import get_file_backend, get_local_path

from maskfeat_plugin.errors import ConfigError, reading
from maskfeat_plugin.files import writing

from .folders import as_utf8

if TYPE_CHECKING:
    import pyarrow

ENDING = ".parquet"
IMAGE, VIDEO = "image", "video"
# Name of a column -> its type, as pyarrow names it
COLUMNS = {
    "path": "string",  # relative to the folder; bytes that are not UTF-8 are escaped
    "path_bytes": "binary",  # the unescaped path; null if the path is UTF-8
    "bytes": "int64",  # size of the file
    "modified": "int64",  # nanoseconds since 1970
    "kind": "string",  # IMAGE or VIDEO
    "problem": "string",  # the reason why the file cannot be read; null if it can be read
    "width": "int32",  # pixels, after the rotation that the file asks for
    "height": "int32",
    "codec": "string",
    "duration": "float64",  # seconds; null for an image
    "frames": "int64",  # duration x fps if the file does not contain the number; null for an image
    "fps": "float64",  # on average; null for an image
    "hash": "uint64",  # perceptual hash of an image or of the middle frame; similar files differ in few bits
    "motion": "float32",  # largest mean difference between frames some seconds apart, in [0, 1]; null for an image
}
_FOLDER = b"maskfeat_folder"


@dataclass(frozen=True)
class Manifest:
    """Rows of a manifest.

    Args:
        folder (str): The folder that the paths are relative to.
        table (pyarrow.Table): All or some of :data:`COLUMNS`.
    """

    folder: str
    table: "pyarrow.Table"

    def __len__(self) -> int:
        return self.table.num_rows

    def readable(self, kind: str) -> "Manifest":
        """Return the rows of the readable images or videos.

        Args:
            kind (str): :data:`IMAGE` or :data:`VIDEO`.
        """
        compute = import_arrow("pyarrow.compute")
        wanted = compute.and_(compute.equal(self.table["kind"], kind), compute.is_null(self.table["problem"]))
        return Manifest(self.folder, self.table.filter(wanted))

    def paths(self, folder: str | None = None) -> list[str]:
        """Return the path of each file.

        Args:
            folder (str, optional): The current folder of the files. Defaults to None, the folder of the manifest.
        """
        prefix = os.path.join(self.folder if folder is None else folder, "")
        names, escaped = self.table["path"].to_pylist(), self.table["path_bytes"]
        if escaped.null_count == len(names):  # a fast path for millions of names
            return [prefix + name for name in names]
        raw_names = zip(names, escaped.to_pylist(), strict=True)
        return [prefix + (name if raw is None else os.fsdecode(raw)) for name, raw in raw_names]


def is_manifest(path: str | Path) -> bool:
    """Check whether a path is the path of a manifest, by its ending."""
    return str(path).endswith(ENDING)


def name_columns(name: str) -> dict[str, str | bytes | None]:
    """Return the columns ``path`` and ``path_bytes`` of a file.

    Args:
        name (str): The path relative to the folder, in the form in which Python returns it. It can have any bytes.
    """
    text = as_utf8(name)
    return dict(path=text, path_bytes=None if text == name else os.fsencode(name))


def write_manifest(path: str | Path, folder: str | Path, tables: Iterable["pyarrow.Table"]) -> None:
    """Write a whole manifest, or nothing.

    Args:
        path (str | Path): The file; its name ends in ``.parquet``.
        folder (str | Path): The folder that the paths are relative to.
        tables (Iterable[pyarrow.Table]): Parts of the manifest, see :func:`as_table`.

    Raises:
        ConfigError: If the file cannot be written, or if pyarrow is missing.
    """
    parquet = import_arrow("pyarrow.parquet")
    schema = _schema().with_metadata({_FOLDER: os.fsencode(os.path.abspath(folder))})
    with writing(path) as unfinished, parquet.ParquetWriter(unfinished, schema, write_page_checksum=True) as writer:
        for table in tables:
            writer.write_table(table.cast(schema))


def as_table(rows: Sequence[dict]) -> "pyarrow.Table":
    """Convert rows to a table with all of :data:`COLUMNS`.

    Args:
        rows (Sequence[dict]): Column -> value. Missing columns become null.
    """
    return import_arrow("pyarrow").Table.from_pylist(list(rows), _schema())


def read_manifest(path: str | Path, columns: Sequence[str] = tuple(COLUMNS)) -> Manifest:
    """Read a manifest.

    Args:
        path (str | Path): The file, or its address in object storage.
        columns (Sequence[str]): Columns to read, of :data:`COLUMNS`. Defaults to all.

    Returns:
        Manifest: All rows, in the order of their paths.

    Raises:
        ConfigError: If the file does not exist, is no manifest or is damaged, or if pyarrow is missing.
    """
    parquet = import_arrow("pyarrow.parquet")
    if not get_file_backend(path).isfile(path):
        raise ConfigError(f"the manifest {path} does not exist. Write it with maskfeat index.")
    with reading(path, "is no manifest, or is damaged", "Write it again with maskfeat index."):
        with get_local_path(path) as local, parquet.ParquetFile(local, page_checksum_verification=True) as file:
            folder = (file.schema_arrow.metadata or {}).get(_FOLDER)
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if folder is None or missing:
                raise ValueError(f"it lacks {', '.join(missing) or 'the folder of the files'}")
            table = file.read(list(columns))
        wanted = [field for field in _schema() if field.name in columns]
        return Manifest(os.fsdecode(folder), table.select([field.name for field in wanted]).cast(_schema(columns)))


def read_files(path: str | Path, kind: str, folder: str | None, column: str) -> tuple[list[str], list]:
    """Read the readable files of a manifest, for a data set.

    Args:
        path (str | Path): The manifest.
        kind (str): :data:`IMAGE` or :data:`VIDEO`.
        folder (str | None): The current folder of the files; "" or None for the folder of the manifest.
        column (str): A further column to read.

    Returns:
        tuple[list[str], list]: The paths, and the values of the column.

    Raises:
        ConfigError: If the manifest cannot be read, or has no such file.
    """
    manifest = read_manifest(path, ("path", "path_bytes", "kind", "problem", column))
    files = manifest.readable(kind)
    if not len(files):
        counts = " and ".join(f"{len(manifest.readable(other))} {other}s" for other in (IMAGE, VIDEO))
        raise ConfigError(
            f"ann_file: the manifest {path} has no {kind} that can be read; of its {len(manifest)} files, {counts} can."
            " Give another manifest."
        )
    paths, values = files.paths(folder or None), files.table[column].to_pylist()
    del manifest, files
    import_arrow("pyarrow").default_memory_pool().release_unused()  # a data set exists as long as its training
    return paths, values


def import_arrow(module: str) -> ModuleType:
    """Import a module of pyarrow. Manifests need pyarrow; the rest of the package does not.

    Args:
        module (str): The name of the module.

    Raises:
        ConfigError: If pyarrow is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            "a manifest needs pyarrow, which is not installed. Run pip install 'maskfeat_plugin[features]'."
        ) from error


def _schema(columns: Sequence[str] = tuple(COLUMNS)) -> "pyarrow.Schema":
    arrow = import_arrow("pyarrow")
    kinds = dict(string=arrow.string(), binary=arrow.binary(), float64=arrow.float64(), float32=arrow.float32())
    kinds.update(int32=arrow.int32(), int64=arrow.int64(), uint64=arrow.uint64())
    return arrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items() if name in columns])
