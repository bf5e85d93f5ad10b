"""Search for the images and clips of an archive that are most like a given one, by their features."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from maskfeat_plugin.config.input_pipeline import title_of
from maskfeat_plugin.config.load import load_config
from maskfeat_plugin.errors import ConfigError

from .clip_windows import ClipReader
from .computing import FeatureModel
from .extraction import describe_origin
from .files import read_features
from .sources import FileSource
from .table import FeatureTable

INDEXES = ("numpy", "faiss")
# Rows that are compared at once
_ROWS = 1 << 16


@dataclass(frozen=True)
class Neighbour:
    """A row of a file of features.

    Args:
        name (str): The file that it is of.
        similarity (float): Cosine similarity to the query, in [-1, 1].
        time (tuple[float, float], optional): Seconds at which the row starts and ends in its file; None if it is of
            all of the file.
    """

    name: str
    similarity: float
    time: tuple[float, float] | None


def search_features(
    features: str | Path,
    query: str | Path,
    at: float | None = None,
    config: str | Path | None = None,
    checkpoint: str | Path | None = None,
    count: int = 10,
    index: str = "numpy",
    device: str = "cpu",
    options: dict | None = None,
) -> list[Neighbour]:
    """Find the rows of a file of features that are most like an image or a clip.

    Args:
        features (str | Path): The file, see :func:`.extract_features`.
        query (str | Path): The image or video.
        at (float, optional): Middle of the clip in the video, in seconds. Defaults to None: as the config's pipeline
            takes it, the middle of the video.
        config (str | Path, optional): The config of the features. Defaults to None, the one that the file names.
        checkpoint (str | Path, optional): The checkpoint of the features. Defaults to None, the one that the file
            names.
        count (int): How many rows to find. Defaults to 10.
        index (str): One of :data:`INDEXES`: what compares the vectors, every one of them. Defaults to "numpy".
        device (str): Where the model is. Defaults to "cpu".
        options (dict, optional): Settings of the config that were changed for the features. Defaults to None.

    Returns:
        list[Neighbour]: The most alike first.

    Raises:
        ConfigError: If the features are of another config or checkpoint, are those of every token, or a file cannot be
            read.
    """
    if count < 1:
        raise ConfigError(f"count={count!r} has to be a whole number of at least 1.")
    nearest = _nearest_by_faiss if index == "faiss" else nearest_rows
    if index not in INDEXES:
        raise ConfigError(f"index={index!r} is not known; give one of {', '.join(INDEXES)}.")
    if index == "faiss":
        _import_faiss()
    table = read_features(features)
    if table.features.ndim != 2:
        raise ConfigError(f"{features} has the features of every token. Extract one vector a row, without --tokens.")
    vector = _query_vector(Path(features), table, query, at, config, checkpoint, device, options)
    similarities, rows = nearest(table.features, vector, count)
    return [
        Neighbour(
            table.names[row],
            float(similarity),
            None if table.times is None else (float(table.times[row, 0]), float(table.times[row, 1])),
        )
        for similarity, row in zip(similarities, rows, strict=True)
    ]


def nearest_rows(features: np.ndarray, query: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the vectors with the greatest cosine similarity to a query; every vector is compared.

    Args:
        features (np.ndarray): (N, C).
        query (np.ndarray): (C,).
        count (int): How many to find.

    Returns:
        tuple[np.ndarray, np.ndarray]: Similarities and row numbers, min(count, N) each, the most alike first; of equal
        ones the first row first.
    """
    query = _unit(query[None])[0]
    similarities, rows = np.zeros(0, np.float32), np.zeros(0, np.int64)
    for begin in range(0, len(features), _ROWS):
        chunk = _unit(features[begin : begin + _ROWS])
        similarities = np.append(similarities, chunk @ query)
        rows = np.append(rows, np.arange(begin, begin + len(chunk)))
        best = np.lexsort((rows, -similarities))[:count]
        similarities, rows = similarities[best], rows[best]
    return similarities, rows


def _nearest_by_faiss(features: np.ndarray, query: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    index = _import_faiss().IndexFlatIP(features.shape[1])
    for begin in range(0, len(features), _ROWS):
        index.add(_unit(features[begin : begin + _ROWS]))
    similarities, rows = index.search(_unit(query[None]), min(count, len(features)))
    return similarities[0], rows[0]


def _import_faiss() -> ModuleType:
    try:
        return import_module("faiss")
    except ImportError as error:
        raise ConfigError(
            "index='faiss' needs faiss, which is not installed: pip install 'maskfeat_plugin[search]'; or take "
            "index='numpy'."
        ) from error


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.ascontiguousarray(vectors, np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _query_vector(
    features: Path,
    table: FeatureTable,
    query: str | Path,
    at: float | None,
    config: str | Path | None,
    checkpoint: str | Path | None,
    device: str,
    options: dict | None,
) -> np.ndarray:
    if not table.origin:
        raise ConfigError(f"{features} does not say which checkpoint its features are of. Extract it again.")
    config, checkpoint = config or table.origin["config"], checkpoint or table.origin["weights"]
    cfg = load_config(config, options=options)
    origin = describe_origin(cfg, checkpoint)
    _check_same(features, table, origin)
    if at is None:
        source = FileSource(cfg, str(query))
        if len(source.keys) != 1:
            raise ConfigError(f"{query} has {len(source.keys)} files. Search is for one; give one of them.")
        rows: Sequence[dict] = [row.packed for row in source.read(0)]
    else:
        rows = [ClipReader(cfg).read_clip(str(query), at)]
    model = FeatureModel(cfg, checkpoint, device, False, None, "float32")
    model.load()
    vector = model(rows)[0][0]
    if vector.shape != table.features.shape[1:]:
        raise ConfigError(f"{features} has vectors of {table.features.shape[1]}, and {title_of(cfg)} of {len(vector)}.")
    return vector


def _check_same(features: Path, table: FeatureTable, origin: dict[str, str]) -> None:
    """Refuse a query by another model: its vectors could not be compared."""
    for key, what, option in (
        ("model", "config", "Give the one of the extraction with --config, and its --cfg-options."),
        ("checkpoint", "checkpoint", "Give the one of the extraction with --checkpoint."),
    ):
        if table.origin.get(key) != origin[key]:
            named = "config" if key == "model" else "weights"
            raise ConfigError(
                f"{features}: its features are of another {what} ({table.origin.get(named)}) than {origin[named]}, or "
                f"that has changed. {option}"
            )
