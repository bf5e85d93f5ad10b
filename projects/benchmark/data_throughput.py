"""Throughput of the data pipelines from files, tar shards and object storage, and of readers of videos."""

import math
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
import torch
from av.video.reformatter import Interpolation
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from torch.utils.data import DataLoader, Dataset

from maskfeat_cli.folders import configs_folder
from maskfeat_plugin.datasets.moving_digits.sources import load_photos
from maskfeat_plugin.datasets.tar_members import COPIES
from maskfeat_plugin.datasets.transforms import DecodeClip, OpenVideo, OpenVideoByTorchCodec
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.files import move_into_place
from maskfeat_plugin.preparation.shard_writing import ShardSettings, write_shards
from maskfeat_plugin.registry import DATASETS

from .data import draw_frame, write_kinetics_like
from .measuring import Comparison, Work

_VIDEO_SIZE, _IMAGE_SIZE = (320, 426), (375, 500)
_FILES = {"clips": 16, "images": 64}  # different paths; the clips have the same content
_BATCH = {"clips": 4, "images": 32}
_BASES = {"clips": "kinetics400_pretrain.py", "images": "imagenet_pretrain.py"}
_CLASSES = {"clips": "maskfeat.VideoDataset", "images": "maskfeat.ImageDataset"}
_LOADING = {"clips": 3, "images": 1}  # first transforms of the pipeline, which read and decode
_BUCKET, _COPIED = "maskfeat-benchmark", "tar shards in S3, local copies"


class Throughput(NamedTuple):
    """Samples per second from one source.

    Args:
        kind (str): "clips" or "images".
        source (str): Place of the files.
        workers (int): Workers of the dataloader.
        per_second (float): Samples per second of wall time, including the start of the workers.
        per_core (float): Samples per second of processor time of the workers.
    """

    kind: str
    source: str
    workers: int
    per_second: float
    per_core: float


class Loading(NamedTuple):
    """Processor time of a sample in one process: the whole, and the share of reading and decoding."""

    kind: str
    milliseconds: float
    share: float


class Reader(NamedTuple):
    """Time of a reader to decode a clip: every fourth of 64 frames, with a short side of 256.

    Args:
        name (str): Name of the reader.
        milliseconds (float): Wall time; NaN if the reader does not run here.
        processor_milliseconds (float): Processor time; NaN if the reader does not run here.
        reason (str): Reason why the reader does not run here. Defaults to "".
    """

    name: str
    milliseconds: float
    processor_milliseconds: float
    reason: str = ""


def shard_comparison(folder: Path) -> Comparison:
    """Compare images from tar shards with the same images from single files.

    Args:
        folder (Path): Folder for the files.

    Returns:
        Comparison: Reading, decoding, cropping and masking 64 images.
    """

    def build() -> tuple[Work, Work]:
        files = _write_files("images", folder)
        packed = _build("images", _write_shards(files, folder / "image_shards", "images"))
        plain = _build("images", files)
        order = [path.rpartition("/")[2] for path in (plain.get_data_info(i)["img_path"] for i in range(64))]
        places = {packed.get_data_info(i)["name"]: i for i in range(len(packed))}
        return lambda: _read(packed, [places[name] for name in order]), lambda: _read(plain, range(64))

    return Comparison("64 images of 500 x 375 from tar shards, decode, crop, flip, mask", "single files", build)


def measure_throughput(
    folder: Path, counts: dict[str, int], workers: Sequence[int] = (1, 2, 4)
) -> Iterator[Throughput]:
    """Measure the pre-training pipelines of Kinetics-400 and ImageNet with a dataloader.

    The sources are files and tar shards, on a disk and in an S3 server of moto on this machine. Shards in S3 are read
    with a range request for each sample, and with copies in ``MASKFEAT_SHARDS``, which each run makes when it first
    reads a shard. All are in the page cache, so the times of a disk or a network are not part of it.

    Args:
        folder (Path): Folder for the files.
        counts (dict[str, int]): Number of "clips" and "images" of a run.
        workers (Sequence[int]): Numbers of workers. Defaults to (1, 2, 4).

    Yields:
        Throughput: The result of each run.
    """
    with s3_server(folder) as upload:
        for kind, count in counts.items():
            files = _write_files(kind, folder)
            pattern = _write_shards(files, folder / f"{kind}_shards", kind)
            remote = upload(Path(pattern).parent)
            sources: dict[str, Path | str] = {
                "files": files,
                "files in S3": upload(files),
                "tar shards": pattern,
                "tar shards in S3": f"{remote}/{Path(pattern).name}",
                _COPIED: f"{remote}/{Path(pattern).name}",
            }
            for source, place in sources.items():
                for number in workers:
                    copies = folder / "copies"
                    shutil.rmtree(copies, ignore_errors=True)
                    os.environ[COPIES] = str(copies) if source == _COPIED else ""
                    names = dict(ann_file=str(_write_list(files))) if source == "files in S3" else {}
                    yield Throughput(kind, source, number, *_run(_build(kind, place, **names), kind, count, number))


def measure_loading(folder: Path, counts: dict[str, int]) -> Iterator[Loading]:
    """Measure the share of reading and decoding in the processor time of a sample, from files, in this process.

    Args:
        folder (Path): Folder for the files.
        counts (dict[str, int]): Number of "clips" and "images".

    Yields:
        Loading: The result for clips and images.
    """
    for kind, count in counts.items():
        dataset = _build(kind, _write_files(kind, folder))
        whole = loading = 0.0
        for number in range(-1, count):  # the first one warms up
            _seed(number + 1)
            begin = time.process_time()
            sample = dataset.get_data_info((number + 1) % len(dataset))
            for place, transform in enumerate(dataset.pipeline.transforms, 1):
                sample = transform(sample)
                if place == _LOADING[kind] and number >= 0:
                    loading += time.process_time() - begin
            whole += (time.process_time() - begin) * (number >= 0)
        yield Loading(kind, 1000 * whole / count, loading / whole)


def measure_readers(folder: Path, repeats: int) -> Iterator[Reader]:
    """Measure how long readers take for a clip in the middle of a video. One process reads one clip at a time.

    Args:
        folder (Path): Folder for the file.
        repeats (int): Clips of each reader, at different places.

    Yields:
        Reader: This package's reader, PyAV with one thread and with its own threads, and torchcodec. Without torchcodec
            or FFmpeg's libraries, its result has only the reason.
    """
    path = str(sorted(_write_files("clips", folder).iterdir())[0])
    readers: dict[str, Callable[[np.ndarray], object]] = {
        "maskfeat.OpenVideo and DecodeClip": lambda frames: _decode(OpenVideo(), path, frames),
        "PyAV, 1 thread": lambda frames: _decode_by_pyav(path, frames, 1),
        "PyAV, its own threads": lambda frames: _decode_by_pyav(path, frames, 0),
    }
    torchcodec, missing = "torchcodec, 1 thread", ""
    try:
        opener = OpenVideoByTorchCodec(device="cpu")
        _decode(opener, path, np.arange(1))
        readers[torchcodec] = lambda frames: _decode(opener, path, frames)
    except (ConfigError, ValueError) as error:  # it is not installed, or does not find FFmpeg's libraries
        missing = str(error)
    for name, read in readers.items():
        read(64 + 4 * np.arange(16))
        wall, processor = time.perf_counter(), time.process_time()
        for number in range(repeats):
            read((number * 37) % 230 + 4 * np.arange(16))
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        yield Reader(name, 1000 * wall / repeats, 1000 * processor / repeats)
    if missing:
        yield Reader(torchcodec, math.nan, math.nan, missing)


def format_throughput(rows: Sequence[Throughput]) -> str:
    """Format throughputs as a Markdown table."""
    lines = [
        "| samples | from | workers | per second | per second of a core |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row.kind} | {row.source} | {row.workers} | {row.per_second:.1f} | {row.per_core:.1f} |" for row in rows
    ]
    return "\n".join(lines)


def format_loading(rows: Sequence[Loading]) -> str:
    """Format the shares of decoding as a Markdown table."""
    lines = ["| samples | ms of a core for one | share of reading and decoding |", "| --- | ---: | ---: |"]
    return "\n".join([*lines, *(f"| {row.kind} | {row.milliseconds:.1f} | {row.share:.0%} |" for row in rows)])


def format_readers(rows: Sequence[Reader]) -> str:
    """Format the times of readers as a Markdown table, with a line for each reader that does not run here."""
    lines = ["| reader of a clip | ms | ms of a core |", "| --- | ---: | ---: |"]
    lines += [
        f"| {row.name} | {row.milliseconds:.1f} | {row.processor_milliseconds:.1f} |" for row in rows if not row.reason
    ]
    lines += [f"\n{row.name}: not measured. {row.reason}" for row in rows if row.reason]
    return "\n".join(lines)


class _Repeated(Dataset):
    """Data set that is read several times, so that a run is long enough."""

    def __init__(self, dataset: Any, count: int) -> None:
        self.dataset, self.count = dataset, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, idx: int) -> object:
        return self.dataset[idx % len(self.dataset)]


def _run(dataset: Any, kind: str, count: int, workers: int) -> tuple[float, float]:
    """Read samples with a dataloader. Return samples per second of wall time, and of the workers' processor time."""
    loader = DataLoader(
        _Repeated(dataset, count),
        batch_size=_BATCH[kind],
        num_workers=workers,
        collate_fn=pseudo_collate,
        worker_init_fn=_init_worker,
        multiprocessing_context="fork",
    )
    before, begin = _children_seconds(), time.perf_counter()
    found = sum(len(batch["inputs"]) for batch in loader)
    wall, processor = time.perf_counter() - begin, _children_seconds() - before
    if found != count:
        raise RuntimeError(f"the dataloader gave {found} of {count} samples")
    return count / wall, count / processor


def _init_worker(number: int) -> None:
    cv2.setNumThreads(0)


def _children_seconds() -> float:
    """Return the processor time of the child processes that have ended."""
    used = os.times()
    return used.children_user + used.children_system


def _write_files(kind: str, folder: Path) -> Path:
    """Write the files of a kind, unless they exist. Return their folder."""
    place = folder / kind
    if place.is_dir():
        return place
    unfinished = folder / f"unfinished_{kind}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    if kind == "clips":
        write_kinetics_like(unfinished / "00.mp4", size=_VIDEO_SIZE)
        for number in range(1, _FILES[kind]):
            shutil.copy(unfinished / "00.mp4", unfinished / f"{number:02d}.mp4")
    else:
        photos, rng = load_photos(), np.random.default_rng(0)
        for number in range(_FILES[kind]):
            frame = draw_frame(photos, 4 * number, rng, _IMAGE_SIZE)
            cv2.imwrite(str(unfinished / f"{number:02d}.jpg"), frame[..., ::-1])
    move_into_place(unfinished, place)
    return place


def _write_list(files: Path) -> Path:
    """Write the names of the files of a folder to a list beside it."""
    path = files.with_suffix(".txt")
    path.write_text("".join(f"{file.name}\n" for file in sorted(files.iterdir())))
    return path


def _write_shards(files: Path, out: Path, kind: str) -> str:
    """Write the files to four shards and return their pattern."""
    settings = ShardSettings(samples=_FILES[kind] // 4)
    write_shards(_build(kind, files, pipeline=[]), out, settings, progress=False)
    return str(out / "shard-{000000..000003}.tar")


def _build(kind: str, place: Path | str, **settings: object) -> Any:
    """Build a data set of a folder, or of the pattern of tar shards, with the pipeline of a full-size config.

    A folder in S3 needs an ``ann_file``.
    """
    config = Config.fromfile(configs_folder() / "_base_" / "datasets" / _BASES[kind])
    settings = dict(type=_CLASSES[kind], pipeline=config.train_pipeline) | settings
    if kind == "images":
        settings["with_label"] = False
    if str(place).endswith(".tar"):
        settings["ann_file"] = place
    else:
        settings["data_prefix"] = str(place) if kind == "images" else dict(video=str(place))
    with DefaultScope.overwrite_default_scope(config.default_scope):
        return DATASETS.build(settings)


def _read(dataset: Any, numbers: Sequence[int]) -> list[torch.Tensor]:
    """Read samples with the same random numbers at each call."""
    samples = []
    for seed, number in enumerate(numbers):
        _seed(seed)
        samples.append(dataset[number]["inputs"])
    return samples


def _seed(number: int) -> None:
    random.seed(number)
    np.random.seed(number)


def _decode(opener: OpenVideo, path: str, frames: np.ndarray) -> list[np.ndarray]:
    return DecodeClip(short_side=256)(dict(opener(dict(filename=path)), frame_inds=frames))["imgs"]


def _decode_by_pyav(path: str, frames: np.ndarray, threads: int) -> list[np.ndarray]:
    """Decode from the key frame before a clip on, as PyAV's documentation does."""
    height, width = _VIDEO_SIZE
    size = dict(width=round(width * 256 / height), height=256, format="rgb24", interpolation=Interpolation.BILINEAR)
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = threads
        stream.thread_type = "AUTO" if threads == 0 else "NONE"
        rate = stream.average_rate or 30
        container.seek(int(frames[0] / rate / stream.time_base), stream=stream)
        images: list[np.ndarray] = []
        for frame in container.decode(stream):
            number = round((frame.pts or 0) * stream.time_base * rate)
            if number in frames:
                images.append(frame.reformat(**size).to_ndarray())
            if number >= frames[-1]:
                return images
    return images


@contextmanager
def s3_server(folder: Path) -> Iterator[Callable[[Path], str]]:
    """Run an S3 server of moto in its own process. fsspec finds it by the environment variables that are set here.

    Args:
        folder (Path): Folder for the server's log.

    Yields:
        Callable[[Path], str]: Function that uploads a file or a folder of files and returns its URL.
    """
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    access = dict(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", AWS_DEFAULT_REGION="us-east-1")
    os.environ.update(access, AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}")
    with open(folder / "server.txt", "w") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        import s3fs

        _wait_for(port, server)
        s3fs.S3FileSystem.clear_instance_cache()  # connections to an earlier server
        files = s3fs.S3FileSystem()
        files.mkdir(_BUCKET)

        def upload(source: Path) -> str:
            for path in [source] if source.is_file() else sorted(source.iterdir()):
                files.put_file(str(path), f"{_BUCKET}/{path.relative_to(source.parent)}")
            return f"s3://{_BUCKET}/{source.name}"

        yield upload
    finally:
        server.terminate()
        server.wait()


def _wait_for(port: int, server: subprocess.Popen) -> None:
    for _ in range(600):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError("the S3 server of moto did not start. Run pip install 'moto[s3,server]'.")
