"""Search for the images and clips in a file of features that are most similar to a given image or clip."""

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
# Number of rows that are compared at once
_ROWS = 1 << 16


@dataclass(frozen=True)
class Neighbour:
    """A row of a file of features.

    Args:
        name (str): The image or video of the row.
        similarity (float): Cosine similarity to the query, in [-1, 1].
        time (tuple[float, float], optional): Seconds at which the row starts and ends in its video; None if the row is
            for the whole file.
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
    """Find the rows of a file of features that are most similar to an image or a clip.

    Args:
        features (str | Path): The file, see :func:`.extract_features`.
        query (str | Path): The image or video.
        at (float, optional): Middle of the clip in the video, in seconds. Defaults to None: the clip that the config's
            pipeline takes, from the middle of the video.
        config (str | Path, optional): Config of the features. Defaults to None: the config that the file names.
        checkpoint (str | Path, optional): Checkpoint of the features. Defaults to None: the checkpoint that the file
            names.
        count (int): Number of rows to find. Defaults to 10.
        index (str): One of :data:`INDEXES`, the library that compares the vectors. Both compare every vector. Defaults
            to "numpy".
        device (str): Device of the model. Defaults to "cpu".
        options (dict, optional): Settings of the config that were changed for the extraction. Defaults to None.

    Returns:
        list[Neighbour]: The rows, the most similar first.

    Raises:
        ConfigError: If the features come from another config or checkpoint, the file holds the features of every
            token, or a file cannot be read.
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
    """Find the vectors with the greatest cosine similarity to a query. Every vector is compared.

    Args:
        features (np.ndarray): Vectors (N, C).
        query (np.ndarray): Vector (C,).
        count (int): Number of vectors to find.

    Returns:
        tuple[np.ndarray, np.ndarray]: Similarities and row numbers, min(count, N) each, the most similar first. Rows of
        equal similarity are in the order of the file.
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
            "index='faiss' needs faiss, which is not installed. Install it with pip install 'maskfeat_plugin[search]', "
            "or use index='numpy'."
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
        raise ConfigError(f"{features} does not say which checkpoint its features come from. Extract it again.")
    config, checkpoint = config or table.origin["config"], checkpoint or table.origin["weights"]
    cfg = load_config(config, options=options)
    origin = describe_origin(cfg, checkpoint)
    _check_same(features, table, origin)
    if at is None:
        source = FileSource(cfg, str(query))
        if len(source.keys) != 1:
            raise ConfigError(f"{query} has {len(source.keys)} files. Search is for one file; give one of them.")
        rows: Sequence[dict] = [row.packed for row in source.read(0)]
    else:
        rows = [ClipReader(cfg).read_clip(str(query), at)]
    model = FeatureModel(cfg, checkpoint, device, False, None, "float32")
    model.load()
    vector = model(rows)[0][0]
    if vector.shape != table.features.shape[1:]:
        raise ConfigError(
            f"{features} has vectors of {table.features.shape[1]} numbers, but {title_of(cfg)} gives {len(vector)}. "
            "Give the config of the extraction with --config."
        )
    return vector


def _check_same(features: Path, table: FeatureTable, origin: dict[str, str]) -> None:
    """Refuse a query with another model, because its vectors could not be compared."""
    for key, what, option in (
        ("model", "config", "Give the config of the extraction with --config, and its --cfg-options."),
        ("checkpoint", "checkpoint", "Give the checkpoint of the extraction with --checkpoint."),
    ):
        if table.origin.get(key) != origin[key]:
            named = "config" if key == "model" else "weights"
            raise ConfigError(
                f"{features}: its features come from another {what} ({table.origin.get(named)}) than "
                f"{origin[named]}, or this {what} has changed since the extraction. {option}"
            )
