"""Files of features in the formats of numpy, parquet and lmdb. Writing never leaves an incomplete file."""

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from itertools import chain
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from maskfeat_plugin.errors import ConfigError, reading
from maskfeat_plugin.files import check_zip_directory, writing

from .table import UNKNOWN, FeatureTable

__all__ = ["UNKNOWN", "FeatureTable", "check_format", "read_features", "write_features"]


def check_format(path: Path) -> None:
    """Check that the format of a file is known and that the package for it is installed.

    Args:
        path (Path): The file. Its name must end in .npz, .parquet or .lmdb.

    Raises:
        ConfigError: If the ending is another one, or the package is not installed.
    """
    if path.suffix not in _WRITERS:
        raise ConfigError(f"{path}: the name of a file of features ends in {', '.join(_WRITERS)}.")
    if path.suffix == ".parquet":
        _import("pyarrow.parquet", path)
    elif path.suffix == ".lmdb":
        _import("lmdb", path)


def write_features(path: Path, parts: Iterable[FeatureTable], count: int) -> None:
    """Write features part by part, so that only one part at a time is in memory.

    - ``.npz``: arrays for ``numpy.load``: ``features``, ``names``, ``origin`` (a JSON text), and ``labels`` and
      ``times`` if any are known.
    - ``.parquet``: columns ``name``, ``label`` (null if not known), ``start`` and ``end`` in seconds if there are
      times, and ``features``, a list of fixed size. The metadata of the schema hold the shape of several tokens and
      ``origin``.
    - ``.lmdb``: one file (``lmdb.open(path, subdir=False)``). The key ``meta`` holds JSON with ``count``, ``shape``,
      ``dtype``, ``timed`` and ``origin``. Each sample has the keys ``features/00000000`` (little-endian bytes),
      ``names/00000000`` (UTF-8), and, if known, ``labels/00000000`` (a decimal number) and ``times/00000000`` (two
      numbers of 8 bytes).

    Args:
        path (Path): The file.
        parts (Iterable[FeatureTable]): The parts in order, at least one; either all have times or none has. The first
            part gives the type of the features and the origin.
        count (int): Number of samples of all parts.

    Raises:
        ConfigError: If the file cannot be written.
    """
    check_format(path)
    with writing(path) as unfinished:
        _WRITERS[path.suffix](unfinished, iter(parts), count)


def read_features(path: str | Path) -> FeatureTable:
    """Read a file that :func:`write_features` has written.

    Args:
        path (str | Path): The file.

    Returns:
        FeatureTable: The whole content.

    Raises:
        ConfigError: If the file does not exist, its format is not known, or it is damaged. Checksums detect damage
            anywhere in the file.
    """
    path = Path(path)
    check_format(path)
    if not path.is_file():
        raise ConfigError(f"{path} does not exist.")
    with reading(path, "is no file of features, or is damaged", "Write it again."):
        table = _READERS[path.suffix](path)
        times = np.zeros((len(table.names), 2)) if table.times is None else table.times
        if not len(table.names) == len(table.features) == len(table.labels) == len(times) or times.ndim != 2:
            raise ValueError(f"{len(table.names)} names, {len(table.labels)} labels, {len(table.features)} features")
        return table


def _write_npz(path: Path, parts: Iterator[FeatureTable], count: int) -> None:
    first = next(parts)
    names: list[str] = []
    labels: list[np.ndarray] = []
    times: list[np.ndarray] = []

    def features() -> Iterator[np.ndarray]:
        for part in chain([first], parts):
            names.extend(part.names)
            labels.append(part.labels)
            if part.times is not None:
                times.append(part.times)
            yield part.features

    with zipfile.ZipFile(path, "w") as archive:
        _write_array(archive, "features", _dtype(first), (count, *first.features.shape[1:]), features())
        whole = dict(names=np.array(names), labels=np.concatenate(labels), origin=np.array(json.dumps(first.origin)))
        if (whole["labels"] == UNKNOWN).all():
            del whole["labels"]
        if first.times is not None:
            whole["times"] = np.concatenate(times)
        for key, array in whole.items():
            _write_array(archive, key, array.dtype, array.shape, [array])


def _write_array(
    archive: zipfile.ZipFile, key: str, dtype: np.dtype, shape: tuple[int, ...], chunks: Iterable[np.ndarray]
) -> None:
    """Write an array like ``numpy.savez``, but in chunks and without the time of writing."""
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
            raise ValueError(f"the checksum of {damaged} does not match its content")
    with np.load(path, allow_pickle=False) as content:
        names = content["names"].tolist()
        labels = content["labels"] if "labels" in content else np.full(len(names), UNKNOWN)
        times = content["times"] if "times" in content else None
        origin = json.loads(str(content["origin"])) if "origin" in content else {}
        return FeatureTable(names, labels, content["features"], times, origin)


def _write_parquet(path: Path, parts: Iterator[FeatureTable], count: int) -> None:
    arrow, parquet = _import("pyarrow", path), _import("pyarrow.parquet", path)
    first = next(parts)
    shape = first.features.shape[1:]
    timed = first.times is not None
    fields = [
        ("name", arrow.string()),
        ("label", arrow.int64()),
        *([("start", arrow.float64()), ("end", arrow.float64())] if timed else []),
        ("features", arrow.list_(arrow.from_numpy_dtype(first.features.dtype), prod(shape))),
    ]
    metadata = dict(shape=json.dumps(shape), origin=json.dumps(first.origin))
    schema = arrow.schema(fields, metadata=metadata)
    digest = _begin_digest(first.origin)
    with parquet.ParquetWriter(path, schema, write_page_checksum=True) as writer:
        for part in chain([first], parts):
            _update(digest, part)
            columns = [
                arrow.array(list(part.names), arrow.string()),
                arrow.array(part.labels, arrow.int64(), mask=part.labels == UNKNOWN),
                *([arrow.array(column) for column in part.times.T] if part.times is not None else []),
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
    timed = "start" in table.column_names
    times = np.stack([table["start"].to_numpy(), table["end"].to_numpy()], axis=1) if timed else None
    origin = json.loads(table.schema.metadata.get(b"origin", b"{}"))
    return _checked(FeatureTable(table["name"].to_pylist(), labels, features, times, origin), told)


def _write_lmdb(path: Path, parts: Iterator[FeatureTable], count: int) -> None:
    lmdb = _import("lmdb", path)
    first = next(parts)
    shape = first.features.shape[1:]
    # an upper bound of the size; the file grows as it is written. Values take whole pages, and the tree needs more.
    size = count * (4 * prod(shape) + 5 * 4096) + (64 << 20)
    dtype = _dtype(first)
    digest = _begin_digest(first.origin)
    with lmdb.open(str(path), map_size=size, subdir=False, lock=False) as file:
        number = 0
        for part in chain([first], parts):
            _update(digest, part)
            times = [None] * len(part.names) if part.times is None else part.times
            with file.begin(write=True) as transaction:
                for name, label, vector, time in zip(part.names, part.labels, part.features, times, strict=True):
                    transaction.put(_key("features", number), vector.astype(dtype).tobytes())
                    transaction.put(_key("names", number), name.encode())
                    if label != UNKNOWN:
                        transaction.put(_key("labels", number), str(label).encode())
                    if time is not None:
                        transaction.put(_key("times", number), time.astype("<f8").tobytes())
                    number += 1
        with file.begin(write=True) as transaction:
            meta = dict(count=count, shape=shape, dtype=dtype.name, sha256=digest.hexdigest())
            meta.update(timed=first.times is not None, origin=first.origin)
            transaction.put(b"meta", json.dumps(meta).encode())


def _read_lmdb(path: Path) -> FeatureTable:
    lmdb = _import("lmdb", path)
    _try_lmdb(path)
    with lmdb.open(str(path), subdir=False, lock=False, readonly=True) as file:
        with file.begin() as transaction:
            get = transaction.get
            meta = json.loads(get(b"meta"))
            numbers = range(meta["count"])
            dtype = np.dtype(meta["dtype"]).newbyteorder("<")
            vectors = [np.frombuffer(get(_key("features", i)), dtype).reshape(meta["shape"]) for i in numbers]
            names = [get(_key("names", i)).decode() for i in numbers]
            labels = [int(get(_key("labels", i), UNKNOWN)) for i in numbers]
            times = [np.frombuffer(get(_key("times", i)), "<f8") for i in numbers] if meta.get("timed") else None
    table = FeatureTable(
        names, np.array(labels), np.stack(vectors), None if times is None else np.stack(times), meta.get("origin", {})
    )
    return _checked(table, meta.get("sha256", ""))


def _try_lmdb(path: Path) -> None:
    """Read a whole lmdb file in another process: lmdb follows the page numbers in a damaged file and may crash."""
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
        raise ValueError("reading it did not end within an hour") from error
    if done.returncode:
        raise ValueError((done.stderr.strip() or "lmdb cannot read it").splitlines()[-1])


def _dtype(table: FeatureTable) -> np.dtype:
    """Return the type of the features in files, which is little-endian."""
    return table.features.dtype.newbyteorder("<")


def _begin_digest(origin: Mapping[str, str]) -> Any:
    return hashlib.sha256(json.dumps(origin, sort_keys=True).encode() if origin else b"")


def _update(digest: Any, table: FeatureTable) -> None:
    """Add samples to a digest, one after the other, so that the digest does not depend on the size of the parts."""
    dtype = _dtype(table)
    times = [b""] * len(table.names) if table.times is None else np.ascontiguousarray(table.times, "<f8")
    for name, label, vector, time in zip(table.names, table.labels, table.features, times, strict=True):
        digest.update(f"{name}\0{label}\0".encode())
        digest.update(np.ascontiguousarray(vector, dtype))
        digest.update(time)


def _checked(table: FeatureTable, told: str) -> FeatureTable:
    """Return the table after its digest was compared with the one in the file; files of version 0.1 have no digest."""
    digest = _begin_digest(table.origin)
    _update(digest, table)
    if told and digest.hexdigest() != told:
        raise ValueError("its checksum does not match its content")
    return table


def _key(kind: str, number: int) -> bytes:
    return f"{kind}/{number:08d}".encode()


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
