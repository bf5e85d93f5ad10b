"""Functions that build the MovingDigits data set on disk."""

import glob
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from maskfeat_cli.folders import tools_folder
from maskfeat_plugin.files import move_into_place, naming
from maskfeat_plugin.locks import held_alone
from maskfeat_plugin.machine import usable_cores

from .backgrounds import photo_part
from .config import SPLITS, MovingDigitsConfig
from .labels import ClipLabels, LabelledFrame, class_map, image_name, write_class_names, write_labels
from .plan import ClipPlan, plan_clips, split_digits
from .render import RenderedClip, render_clip
from .sources import import_demo_package, load_digits, load_photos
from .video import check_size, check_video, write_video

VERSION = 3
"""Increased whenever the same settings give other data."""

METADATA = "metadata.json"

_NAME = "MovingDigits"
_CHUNK = 16


def build_moving_digits(
    root: str | os.PathLike[str],
    config: MovingDigitsConfig | None = None,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Build the data set, unless it exists already.

    It is built in a folder beside ``root`` and moved to ``root`` when it is complete. The same settings give the same
    bytes with any number of workers. Below ``root`` are: ``videos/{split}/000000.mp4``,
    ``frames/{split}/000000_000.png`` (clip and frame), ``masks/{split}/000000_000.png`` (the class of each pixel of
    this frame), ``annotations/`` and ``metadata.json``.

    Args:
        root: Folder of the data set, e.g. ``data/moving_digits``.
        config: Settings. Defaults to None, the default settings.
        workers: Number of processes. Defaults to None, the number of cores that this process may use.
        overwrite: Whether to replace a MovingDigits data set with other settings at ``root``.
        progress: Whether to show a progress bar with the remaining time on standard error.

    Returns:
        Path: The root.

    Raises:
        FileExistsError: If ``root`` has the data of other settings and ``overwrite`` is False, or if it has other
            files.
        ImportError: If a package of ``maskfeat_plugin[demo]`` is missing.
        RuntimeError: If a written video does not decode.
        WriteError: If the data set cannot be written, for example on a full disk. No part of it is left then.
        ValueError: If ``workers`` is not positive, if ``labelled`` asks for too many frames, or if mmaction2 cannot
            read videos of this ``size``.
    """
    root = Path(root)
    config = MovingDigitsConfig() if config is None else config
    workers = usable_cores() if workers is None else workers
    if workers < 1:
        raise ValueError(f"MovingDigits: workers must be at least 1, got {workers}")
    if _is_up_to_date(root, config, overwrite):
        if progress:
            print(f"{root}: {_NAME} is up to date")
        return root

    import_demo_package("av")  # report a missing package now, and not at the first video
    digits, labels = load_digits()
    photos = load_photos() if config.background == "photo" else ()
    plans = plan_clips(config, labels)
    with naming(root), _folder_beside(root) as folder:
        check_size(folder, config.num_frames, config.size, config.fps)
        for kind in ("videos", "frames", "masks"):
            for split in SPLITS:
                (folder / kind / split).mkdir(parents=True)
        writer = _ClipWriter(folder, config, digits, labels, photos)
        _write_all(folder, config, plans, writer, workers, progress)
        _write_metadata(folder, config, plans, split_digits(labels, config.seed))
        for split in SPLITS:
            check_video(folder / "videos" / split / f"{plans[split][0].name}.mp4", config.num_frames, config.size)
        move_into_place(folder, root)
    return root


def read_metadata(root: str | os.PathLike[str]) -> dict[str, Any]:
    """Read ``metadata.json``: the settings, the version, hashes, and the digit images of each split and clip.

    Raises:
        FileNotFoundError: If there is no MovingDigits data set at ``root``.
    """
    path = Path(root) / METADATA
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except Exception:  # the file is missing or is not JSON
        metadata = None
    if not isinstance(metadata, dict) or metadata.get("name") != _NAME:
        raise FileNotFoundError(
            f"{root} holds no {_NAME} data set ({METADATA} is missing or belongs to something else). "
            f"Build it with: python {tools_folder()}/data/moving_digits.py {root}"
        )
    return metadata


class _ClipWriter:
    """Function object that draws a clip, writes its files and returns its labels. Each worker gets it once."""

    def __init__(
        self,
        folder: Path,
        config: MovingDigitsConfig,
        digits: np.ndarray,
        labels: np.ndarray,
        photos: tuple[np.ndarray, ...],
    ) -> None:
        self.folder = folder
        self.config = config
        self.digits = digits
        self.labels = labels
        self.photos = {split: [photo_part(photo, split) for photo in photos] for split in SPLITS}

    def __call__(self, plan: ClipPlan) -> ClipLabels:
        rng = plan.rng(self.config.seed)
        clip = render_clip(self.digits[list(plan.digits)], plan.motion, self.config, rng, self.photos[plan.split])
        write_video(self.folder / "videos" / plan.split / f"{plan.name}.mp4", clip.frames, self.config.fps)
        images = _choose_frames(clip.visible, self.config.frames_per_clip, rng) if plan.upright else []
        classes = tuple(int(self.labels[digit]) for digit in plan.digits)
        for index in images:
            name = image_name(plan, index)
            frame = cv2.cvtColor(clip.frames[index], cv2.COLOR_RGB2BGR)
            _write_image(self.folder / "frames" / plan.split / name, frame)
            _write_image(self.folder / "masks" / plan.split / name, class_map(clip.owners[index], classes))
        return ClipLabels(
            plan=plan,
            classes=classes,
            light=tuple(bool(light) for light in clip.light),
            key_frame=_labelled_frame(clip, self.config.key_frame),
            images=tuple(_labelled_frame(clip, index) for index in images),
        )


def _write_image(path: Path, image: np.ndarray) -> None:
    _, encoded = cv2.imencode(path.suffix, image)
    path.write_bytes(encoded.tobytes())  # cv2.imwrite does not report a full disk


def _choose_frames(visible: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
    """Choose frames in which the least visible digit is about as visible as in its best frame."""
    worst = visible.min(axis=1)  # (T,)
    good = worst >= 0.9 * worst.max()
    noise = rng.random(len(worst))
    # Good frames first, in random order. Then the other frames, the most visible ones first.
    order = np.lexsort((np.where(good, noise, -worst), ~good))
    return sorted(order[:count].tolist())


def _labelled_frame(clip: RenderedClip, index: int) -> LabelledFrame:
    return LabelledFrame(index, clip.boxes[index], clip.areas[index], clip.visible[index])


# The writer of a worker process, set once when the worker starts. Sending it with every clip would copy the digits
# 4,200 times.
_worker_writer: _ClipWriter | None = None


def _start_worker(writer: _ClipWriter) -> None:
    global _worker_writer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends the build
    cv2.setNumThreads(0)
    _worker_writer = writer


def _run_in_worker(plan: ClipPlan) -> ClipLabels:
    assert _worker_writer is not None  # set by _start_worker
    return _worker_writer(plan)


def _write_all(
    folder: Path,
    config: MovingDigitsConfig,
    plans: dict[str, list[ClipPlan]],
    writer: _ClipWriter,
    workers: int,
    progress: bool,
) -> None:
    every = list(chain.from_iterable(plans.values()))
    written: dict[str, list[ClipLabels]] = {split: [] for split in SPLITS}
    with _mapped(writer, every, workers) as clips:
        interval = 0.1 if sys.stderr.isatty() else 5.0  # few lines for a log file
        for clip in tqdm(clips, total=len(every), desc=_NAME, unit="clip", mininterval=interval, disable=not progress):
            written[clip.plan.split].append(clip)
    annotations = folder / "annotations"
    annotations.mkdir()
    write_class_names(annotations, config)
    for split in SPLITS:
        write_labels(annotations, split, written[split], config)


@contextmanager
def _mapped(writer: _ClipWriter, plans: list[ClipPlan], workers: int) -> Iterator[Iterable[ClipLabels]]:
    """Apply the writer to every plan, in order, in this process or in worker processes."""
    if workers == 1:
        yield map(writer, plans)
        return
    # A forked worker starts at once. A spawned worker would have to import torch and all of OpenMMLab first.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    executor = ProcessPoolExecutor(
        workers, multiprocessing.get_context(method), initializer=_start_worker, initargs=(writer,)
    )
    try:
        yield executor.map(_run_in_worker, plans, chunksize=_CHUNK)
    finally:
        executor.shutdown(cancel_futures=True)


def _is_up_to_date(root: Path, config: MovingDigitsConfig, overwrite: bool) -> bool:
    """Check whether the root has the data of these settings.

    Raises:
        FileExistsError: If it has data that must not be replaced.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        metadata = read_metadata(root)
    except FileNotFoundError:
        raise FileExistsError(f"{root} exists and is no {_NAME} data set. Choose another root or remove it") from None
    if metadata["config_sha256"] == _config_hash(config):
        return True
    if overwrite:
        return False
    theirs, ours = metadata["config"], config.to_dict()
    changed = sorted(key for key in ours if ours[key] != theirs.get(key)) or ["version"]
    raise FileExistsError(
        f"{root} holds {_NAME} data of other settings ({', '.join(changed)}). Choose another root, or replace the data "
        "with overwrite=True (--overwrite on the command line)"
    )


def _config_hash(config: MovingDigitsConfig) -> str:
    settings = json.dumps({"version": VERSION, **config.to_dict()}, sort_keys=True)
    return hashlib.sha256(settings.encode()).hexdigest()


def _write_metadata(
    folder: Path, config: MovingDigitsConfig, plans: dict[str, list[ClipPlan]], pools: dict[str, np.ndarray]
) -> None:
    content = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content.update(path.relative_to(folder).as_posix().encode())
        content.update(path.read_bytes())
    metadata = {
        "name": _NAME,
        "version": VERSION,
        "config": config.to_dict(),
        "config_sha256": _config_hash(config),
        "content_sha256": content.hexdigest(),
        "fps": config.fps,
        "key_frame": config.key_frame,
        "digit_indices": {split: sorted(pools[split].tolist()) for split in SPLITS},
        "clips": {
            split: [{"motion": plan.motion, "digits": list(plan.digits)} for plan in plans[split]] for split in SPLITS
        },
    }
    (folder / METADATA).write_text(json.dumps(metadata) + "\n", encoding="utf-8")


@contextmanager
def _folder_beside(root: Path) -> Iterator[Path]:
    """Make a new folder beside the root, on the same file system. Remove it afterwards, unless it was moved.

    Folders of killed builds are removed first. Folders of running builds are kept: those builds hold a lock.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{root.name}-building-"
    for path in root.parent.glob(f"{glob.escape(prefix)}*"):
        with held_alone(path / "lock") as alone:
            if alone:
                shutil.rmtree(path, ignore_errors=True)
    outer = Path(tempfile.mkdtemp(prefix=prefix, dir=root.parent))
    lock = ExitStack()
    try:
        lock.enter_context(held_alone(outer / "lock"))
        # One level down, because mkdtemp's own folder cannot be read by other users, but the data set can.
        folder = outer / "data"
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(outer, ignore_errors=True)
        lock.close()
