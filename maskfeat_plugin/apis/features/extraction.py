"""Extraction of the features of files, folders or data sets into a file. It can be interrupted and continued."""

import hashlib
import inspect
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DefaultScope
from tqdm import tqdm

from maskfeat_plugin.checkpoints import CheckpointError, local_file
from maskfeat_plugin.config.input_pipeline import title_of
from maskfeat_plugin.config.origins import named_errors
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.files import sha256
from maskfeat_plugin.registry import MODELS

from .computing import Extractor, FeatureModel
from .files import check_format
from .parts import FeatureParts
from .reading import SampleReader
from .sources import SPLITS, DataSetSource, FileSource, Source, WindowSource

__all__ = ["PRECISIONS", "SPLITS", "TYPES", "Extraction", "describe_origin", "extract_features"]
PRECISIONS = ("bfloat16", "float16")
TYPES = ("float32", "float16")


@dataclass(frozen=True)
class Extraction:
    """The result of an extraction.

    Args:
        rows (int, optional): Number of rows of the file; None if the file was complete before, or if another process
            writes it.
        bad_files (int): Number of files that cannot be read.
        bad_list (Path): The list of these files.
        missing (int): Number of samples that other processes must process before the file is written.
    """

    rows: int | None
    bad_files: int
    bad_list: Path
    missing: int = 0


def extract_features(
    cfg: Config,
    checkpoint: str | Path,
    out: str | Path,
    inputs: object = None,
    split: str | None = None,
    tokens: bool = False,
    batch_size: int = 32,
    workers: int = 0,
    device: str = "cpu",
    part_size: int | None = None,
    timeout: float | None = 120.0,
    share: tuple[int, int] = (0, 1),
    amp: str | None = None,
    dtype: str = "float32",
    every: float | None = None,
) -> Extraction:
    """Write the features of files or of a data set into a file.

    The features are the same as in k-NN evaluation, see :func:`.batch_features`. Samples go through the validation
    pipeline, or else through the training pipeline without its random transforms. Files that cannot be read are left
    out and listed in ``OUT.bad_files.txt``.

    Until the file is complete, its parts are in a hidden folder beside it. After an interruption, call the function
    again with the same arguments: it continues with the parts that are missing, and the file is the same. The parts are
    also used if files were added to the list or removed from it.

    Args:
        cfg (Config): Config of pre-training with MaskFeat, or of fine-tuning with mmpretrain or mmaction2; it is
            changed.
        checkpoint (str | Path): Checkpoint of any format of docs/checkpoints.md, pre-trained or fine-tuned.
        out (str | Path): The file, see :func:`.write_features`.
        inputs (object, optional): Files, folders, manifests or arrays, see :func:`.find_inputs`. Defaults to None: the
            data set of ``split``.
        split (str, optional): Data set of the config to use instead: "train", "val" or "test". Defaults to None.
        tokens (bool): Whether to write the features of every token instead of one vector for each sample. Defaults to
            False.
        batch_size (int): Number of samples that the model takes at once. Defaults to 32.
        workers (int): Number of processes that read the samples. Defaults to 0: this process reads them. Then a file
            that crashes its reader crashes this process.
        device (str): Device of the model. Defaults to "cpu".
        part_size (int, optional): Number of samples of a part, rounded up to whole batches. Defaults to None: 1024, or
            with ``every`` 16 files.
        timeout (float, optional): Longest time for reading a sample, in seconds. After this time the sample counts as
            one that cannot be read; None for no limit. Defaults to 120.
        share (tuple[int, int]): Number of this process's share of the work, from 0, and the number of shares. Other
            processes, on this machine or on machines with the same disk, process the other shares. The process that
            ends last writes the file, which is the same as without shares. Defaults to (0, 1): all of the work.
        amp (str, optional): One of :data:`PRECISIONS`. The model computes in this type wherever PyTorch's autocast
            uses it. Defaults to None: float32.
        dtype (str): Type of the features in the file, "float32" or "float16". Defaults to "float32".
        every (float, optional): Length of windows in seconds. For each window of a video, a row is written with the
            start and the end of the window, instead of one row for the file. The features are of the clip in the
            middle of the window. Defaults to None.

    Returns:
        Extraction: Numbers of rows and of bad files.

    Raises:
        ConfigError: If the file exists already, no file can be read, or an argument does not fit.
    """
    out = Path(out)
    check_format(out)
    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("workers", workers, 0),
        ("part_size", part_size or 1, 1),
    ):
        if not isinstance(value, int) or value < least:
            raise ConfigError(f"{name}={value!r} has to be a whole number of at least {least}.")
    for name, value in (("timeout", timeout), ("every", every)):
        if value is not None and not value > 0:
            raise ConfigError(f"{name}={value!r} has to be a number of seconds above 0, or None.")
    if not 0 <= share[0] < share[1]:
        raise ConfigError(f"shard {share[0]}/{share[1]} does not exist. For N shards give 0/N, 1/N, ..., (N-1)/N.")
    for name, value, known in (("amp", amp, (None, *PRECISIONS)), ("dtype", dtype, TYPES)):
        if value not in known:
            raise ConfigError(f"{name}={value!r} is not known; give one of {', '.join(map(repr, known))}.")
    if (inputs is None) == (split is None):
        raise ConfigError("give either files or the data set to extract the features of.")
    if not isinstance(cfg.get("model", {}).get("backbone"), dict):
        raise ConfigError(f"{title_of(cfg)} has no model.backbone, which gives the features. Give another config.")
    if tokens:
        _ask_for_tokens(cfg)
    if every is not None and split is not None:
        raise ConfigError(
            f"every={every:g} works only with video files, not with the data set {split!r}. Give the data set's files."
        )
    source: Source
    if split is not None:
        source = DataSetSource(cfg, split)
    elif every is None:
        source = FileSource(cfg, inputs)
    else:
        source = WindowSource(cfg, inputs, every)
    origin = describe_origin(cfg, checkpoint)
    settings = dict(
        model=origin["model"],
        checkpoint=origin["checkpoint"],
        data=_text_digest(source.settings),
        tokens=tokens,
        batch_size=batch_size,
        amp=amp,
        dtype=dtype,
        every=every,
    )
    parts = FeatureParts(out, settings, source.keys, origin, is_shared=share[1] > 1)
    if parts.is_done():
        parts.remove()
        return Extraction(None, 0, parts.bad_list)
    try:
        # at least one part for each share; whole batches, so that batches do not depend on the size of the parts
        size = min(part_size or source.part_size, -(-len(source.keys) // share[1]))
        if not source.is_timed:
            size = -(-size // batch_size) * batch_size
        missing = parts.count_missing()
        if missing:
            reader = SampleReader(source, batch_size, workers, timeout)
            with tqdm(
                total=len(source.keys), initial=len(source.keys) - missing, desc="Features", unit="sample"
            ) as bar:
                compute = FeatureModel(cfg, checkpoint, device, tokens, amp, dtype)
                Extractor(compute, reader, parts, bar).run(size, share)
            missing = parts.count_missing()
        merged = None if missing else parts.merge()
    finally:
        parts.close()
    if merged is None:
        return Extraction(None, 0, parts.bad_list, 0 if out.exists() else missing)
    return Extraction(*merged, parts.bad_list)


def describe_origin(cfg: Config, checkpoint: str | Path) -> dict[str, str]:
    """Return the origin of features, see :class:`.FeatureTable`.

    Args:
        cfg (Config): The config.
        checkpoint (str | Path): The checkpoint.

    Returns:
        dict[str, str]: ``config`` and ``weights``, as they were given, and digests of the ``model`` in the config and
        of the content of the ``checkpoint``.

    Raises:
        ConfigError: If the checkpoint does not exist.
    """
    return dict(
        config=str(cfg.filename or ""),
        weights=str(checkpoint),
        model=_text_digest(cfg.model.to_dict()),
        checkpoint=_digest(checkpoint),
    )


def _ask_for_tokens(cfg: Config) -> None:
    """Change the config of a backbone whose default output is one vector, so that it gives its feature map."""
    with named_errors(cfg, "cannot be built", ("model.backbone",)):
        with (
            DefaultScope.overwrite_default_scope(cfg.get("default_scope")),
            MODELS.switch_scope_and_registry(None) as registry,
        ):
            cls = registry.get(cfg.model.backbone.type)
    bases = inspect.getmro(cls) if inspect.isclass(cls) else ()
    if any("out_type" in inspect.signature(base.__init__).parameters for base in bases):  # type: ignore[misc]
        cfg.model.backbone.out_type = "featmap"


def _digest(checkpoint: str | Path) -> str:
    """Compute the digest of a checkpoint, which is a file or a folder of files."""
    try:
        path = local_file(checkpoint)
        return _digest_files(path)
    except (CheckpointError, OSError) as error:
        raise ConfigError(str(error)) from error


def _digest_files(path: Path) -> str:
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    digests = [sha256([file]) for file in files]
    return digests[0] if len(digests) == 1 else _text_digest(digests)


def _text_digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()
