"""Features in files of numpy, parquet and lmdb; nothing is left half-written."""

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from maskfeat_plugin.errors import ConfigError, reading
from maskfeat_plugin.files import check_zip_directory
from maskfeat_plugin.writing import writing

UNKNOWN = -1
"""The label of a sample whose class is not known."""


@dataclass(frozen=True)
class FeatureTable:
    """Features of samples, in order.

    Args:
        names (Sequence[str]): Files of the N samples.
        labels (np.ndarray): Classes, int64 (N,), :data:`UNKNOWN` where not known.
        features (np.ndarray): float32 (N, C), or (N, L, C) of every token.
    """

    names: Sequence[str]
    labels: np.ndarray
    features: np.ndarray


def check_format(path: Path) -> None:
    """Check that a file's format is known and what writes it is installed.

    Args:
        path (Path): Its name ends in .npz, .parquet or .lmdb.

    Raises:
        ConfigError: If not.
    """
    if path.suffix not in _WRITERS:
        raise ConfigError(f"{path}: the name of a file of features ends in {', '.join(_WRITERS)}.")
    if path.suffix == ".parquet":
        _import("pyarrow.parquet", path)
    elif path.suffix == ".lmdb":
        _import("lmdb", path)


def write_features(path: Path, parts: Iterable[FeatureTable], count: int) -> None:
    """Write features part by part: no more than one of them is in memory.

    - ``.npz``: ``features``, ``names`` and, where any is known, ``labels``, for ``numpy.load``.
    - ``.parquet``: columns ``name``, ``label`` (null where not known) and ``features``, a list of fixed size; the shape
      of several tokens is in the metadata of the schema.
    - ``.lmdb``: one file (``lmdb.open(path, subdir=False)``) with the keys ``meta``, JSON with ``count``, ``shape`` and
      ``dtype``, and of each sample ``features/00000000``, little-endian bytes, ``names/00000000``, UTF-8, and, where
      known, ``labels/00000000``, a decimal number.

    Args:
        path (Path): The file.
        parts (Iterable[FeatureTable]): The parts in order, at least one.
        count (int): Number of samples of all of them.

    Raises:
        ConfigError: If the file cannot be written.
    """
    check_format(path)
    with writing(path) as unfinished:
        _WRITERS[path.suffix](unfinished, iter(parts), count)


def read_features(path: str | Path) -> FeatureTable:
    """Read what :func:`write_features` has written.

    Args:
        path (str | Path): The file.

    Returns:
        FeatureTable: All of it.

    Raises:
        ConfigError: If there is no such file, its format is not known, or it is damaged anywhere: checksums are
            compared.
    """
    path = Path(path)
    check_format(path)
    if not path.is_file():
        raise ConfigError(f"{path} does not exist.")
    with reading(path, "is no file of features, or is damaged", "Write it again."):
        table = _READERS[path.suffix](path)
        if len(table.names) != len(table.features) or table.labels.shape != (len(table.names),):
            raise ValueError(f"{len(table.names)} names, {len(table.labels)} labels, {len(table.features)} features")
        return table


def _write_npz(path: Path, parts: Iterator[FeatureTable], count: int) -> None:
    first = next(parts)
    names, labels = [], []

    def features() -> Iterator[np.ndarray]:
        part = first
        while part is not None:
            names.extend(part.names)
            labels.append(part.labels)
            yield part.features
            part = next(parts, None)

    with zipfile.ZipFile(path, "w") as archive:
        _write_array(archive, "features", np.dtype("<f4"), (count, *first.features.shape[1:]), features())
        whole = dict(names=np.array(names), labels=np.concatenate(labels))
        if (whole["labels"] == UNKNOWN).all():
            del whole["labels"]
        for key, array in whole.items():
            _write_array(archive, key, array.dtype, array.shape, [array])


def _write_array(
    archive: zipfile.ZipFile, key: str, dtype: np.dtype, shape: tuple[int, ...], chunks: Iterable[np.ndarray]
) -> None:
    """Write an array as ``numpy.savez`` does, but piece by piece, and without the time."""
    entry = zipfile.ZipInfo(f"{key}.npy")
    with archive.open(entry, "w", force_zip64=True) as file:
        header = dict(descr=np.lib.format.dtype_to_descr(dtype), fortran_order=False, shape=shape)
        np.lib.format.write_array_header_2_0(file, header)
        for chunk in chunks:
            file.write(np.ascontiguousarray(chunk, dtype).tobytes())


def _read_npz(path: Path) -> FeatureTable:
    with zipfile.ZipFile(path) as archive:
        check_zip_directory(archive)
        damaged = archive.testzip()
        if damaged:
            raise ValueError(f"the checksum of {damaged} is another")
    with np.load(path, allow_pickle=False) as content:
        names = content["names"].tolist()
        labels = content["labels"] if "labels" in content else np.full(len(names), UNKNOWN)
        return FeatureTable(names, labels, content["features"])


def _write_parquet(path: Path, parts: Iterator[FeatureTable], count: int) -> None:
    arrow, parquet = _import("pyarrow", path), _import("pyarrow.parquet", path)
    first = next(parts)
    shape = first.features.shape[1:]
    fields = [
        ("name", arrow.string()),
        ("label", arrow.int64()),
        ("features", arrow.list_(arrow.float32(), prod(shape))),
    ]
    schema = arrow.schema(fields, metadata=dict(shape=json.dumps(shape)))
    digest = hashlib.sha256()
    with parquet.ParquetWriter(path, schema, write_page_checksum=True) as writer:
        for part in _chain(first, parts):
            _update(digest, part)
            columns = [
                arrow.array(list(part.names), arrow.string()),
                arrow.array(part.labels, arrow.int64(), mask=part.labels == UNKNOWN),
                arrow.FixedSizeListArray.from_arrays(arrow.array(part.features.ravel()), prod(shape)),
            ]
            writer.write_table(arrow.table(columns, schema=schema))
        writer.add_key_value_metadata(dict(sha256=digest.hexdigest()))


def _read_parquet(path: Path) -> FeatureTable:
    parquet = _import("pyarrow.parquet", path)
    with parquet.ParquetFile(path, page_checksum_verification=True) as file:
        table = file.read()
        told = (file.metadata.metadata or {}).get(b"sha256", b"").decode()
    shape = json.loads(table.schema.metadata[b"shape"])
    features = table["features"].combine_chunks().flatten().to_numpy().reshape(-1, *shape)
    labels = table["label"].fill_null(UNKNOWN).to_numpy().astype(np.int64)
    return _checked(FeatureTable(table["name"].to_pylist(), labels, features), told)


def _write_lmdb(path: Path, parts: Iterator[FeatureTable], count: int) -> None:
    lmdb = _import("lmdb", path)
    first = next(parts)
    shape = first.features.shape[1:]
    # an upper bound of the file, which grows as it is written: values in whole pages, and the tree above them
    size = count * (4 * prod(shape) + 4 * 4096) + (64 << 20)
    digest = hashlib.sha256()
    with lmdb.open(str(path), map_size=size, subdir=False, lock=False) as file:
        number = 0
        for part in _chain(first, parts):
            _update(digest, part)
            with file.begin(write=True) as transaction:
                for name, label, vector in zip(part.names, part.labels, part.features, strict=True):
                    transaction.put(_key("features", number), vector.astype("<f4").tobytes())
                    transaction.put(_key("names", number), name.encode())
                    if label != UNKNOWN:
                        transaction.put(_key("labels", number), str(label).encode())
                    number += 1
        with file.begin(write=True) as transaction:
            meta = dict(count=count, shape=shape, dtype="float32", sha256=digest.hexdigest())
            transaction.put(b"meta", json.dumps(meta).encode())


def _read_lmdb(path: Path) -> FeatureTable:
    lmdb = _import("lmdb", path)
    _try_lmdb(path)
    with lmdb.open(str(path), subdir=False, lock=False, readonly=True) as file:
        with file.begin() as transaction:
            get = transaction.get
            meta = json.loads(get(b"meta"))
            numbers = range(meta["count"])
            vectors = [np.frombuffer(get(_key("features", i)), "<f4").reshape(meta["shape"]) for i in numbers]
            names = [get(_key("names", i)).decode() for i in numbers]
            labels = [int(get(_key("labels", i), UNKNOWN)) for i in numbers]
    return _checked(FeatureTable(names, np.array(labels), np.stack(vectors)), meta.get("sha256", ""))


def _try_lmdb(path: Path) -> None:
    """Read all of an lmdb file in another process, which damage can end: lmdb follows the page numbers in the file."""
    code = (
        "import lmdb, sys, zlib\n"
        "with lmdb.open(sys.argv[1], subdir=False, lock=False, readonly=True) as file, file.begin() as transaction:\n"
        "    for key, value in transaction.cursor():\n"
        "        zlib.crc32(value)\n"
        "        transaction.get(key)\n"
    )
    try:
        done = subprocess.run([sys.executable, "-I", "-c", code, path], capture_output=True, text=True, timeout=3600)
    except subprocess.TimeoutExpired as error:
        raise ValueError("reading it does not end") from error
    if done.returncode:
        raise ValueError((done.stderr.strip() or "lmdb cannot read it").splitlines()[-1])


def _update(digest: Any, table: FeatureTable) -> None:
    """Add samples to a digest, one after the other, so that the size of the parts does not matter."""
    for name, label, vector in zip(table.names, table.labels, table.features, strict=True):
        digest.update(f"{name}\0{label}\0".encode())
        digest.update(np.ascontiguousarray(vector, "<f4"))


def _checked(table: FeatureTable, told: str) -> FeatureTable:
    """The table, whose digest is that of the file; files of version 0.1 have none."""
    digest = hashlib.sha256()
    _update(digest, table)
    if told and digest.hexdigest() != told:
        raise ValueError("its checksum is another")
    return table


def _key(kind: str, number: int) -> bytes:
    return f"{kind}/{number:08d}".encode()


def _chain(first: FeatureTable, others: Iterator[FeatureTable]) -> Iterator[FeatureTable]:
    yield first
    yield from others


def _import(module: str, path: Path) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ConfigError(
            f"{path.name} needs {package}, which is not installed: pip install 'maskfeat_plugin[features]'; or write a "
            "file that ends in .npz."
        ) from error


_WRITERS: dict[str, Callable[[Path, Iterator[FeatureTable], int], None]] = {
    ".npz": _write_npz,
    ".parquet": _write_parquet,
    ".lmdb": _write_lmdb,
}
_READERS: dict[str, Callable[[Path], FeatureTable]] = {
    ".npz": _read_npz,
    ".parquet": _read_parquet,
    ".lmdb": _read_lmdb,
}
