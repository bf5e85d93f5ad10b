"""Benchmarks of a large archive: reading long files, loading long lists, and the part of pictures that crops cover."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import av
import numpy as np
from mmengine.registry import DefaultScope

from maskfeat_plugin.datasets import VideoReader
from maskfeat_plugin.datasets.manifest import VIDEO, as_table, write_manifest
from maskfeat_plugin.datasets.video_packets import ReadPackets
from maskfeat_plugin.registry import TRANSFORMS
from maskfeat_plugin.storage import FsspecBackend

_CLIP_LEN, _INTERVAL, _TARGET_FPS = 16, 4, 30
_PLACES = (0.03, 0.21, 0.48, 0.66, 0.9)
SHAPES = ((960, 2560), (1080, 3840), (240, 704), (1080, 1920), (240, 320))
"""Heights and widths of the pictures to crop."""


class Reading(NamedTuple):
    """Median time and median amount of data of one way to read a clip."""

    way: str
    seconds: float
    megabytes: float


def measure_long_file(path: Path) -> list[Reading]:
    """Measure three ways to read a clip of 16 frames in 64 / 30 s: a plain seek, the reader, and its former way.

    The former way reads all packets of the file first.

    Args:
        path (Path): The file.

    Returns:
        list[Reading]: Seconds and megabytes of each way, as medians over several places in the file.
    """
    ways = {"plain seek": _by_plain_seek, "the reader": _by_reader, "all packets": _by_all_packets}
    readings = []
    for way, function in ways.items():
        seconds, amounts = [], []
        for place in _PLACES[2:3] if way == "all packets" else _PLACES:
            before, start = _bytes_read(), time.perf_counter()
            function(str(path), place)
            seconds.append(time.perf_counter() - start)
            amounts.append((_bytes_read() - before) / 1e6)
        readings.append(Reading(way, median(seconds), median(amounts)))
    return readings


def measure_remote_file(address: str) -> Reading:
    """Measure how the reader reads clips of a file in object storage, one after the other.

    Args:
        address (str): Address of the file, such as ``s3://...``.

    Returns:
        Reading: Seconds and fetched megabytes of a clip, as medians over several places in the file.
    """
    backend = FsspecBackend()
    seconds, amounts = [], []
    for place in _PLACES:
        start = time.perf_counter()
        file = backend.open(address)
        reader = VideoReader(file, address)
        reader.read(_numbers(len(reader), reader.get_avg_fps() or 25, place).tolist())
        seconds.append(time.perf_counter() - start)
        amounts.append(file.fetched / 1e6)
    return Reading("the reader", median(seconds), median(amounts))


def _by_plain_seek(path: str, place: float) -> None:
    """Seek to the last key frame before the clip, and decode until its last frame."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        first = (stream.start_time or 0) + int(place * container.duration / av.time_base / stream.time_base)
        step = _INTERVAL / _TARGET_FPS / float(stream.time_base)
        container.seek(first, stream=stream)
        taken = 0
        for frame in container.decode(stream):
            if frame.pts >= first + taken * step:
                frame.to_ndarray(format="rgb24")
                taken += 1
                if taken == _CLIP_LEN:
                    return


def _by_reader(path: str, place: float) -> None:
    reader = VideoReader(path, path)
    reader.read(_numbers(len(reader), reader.get_avg_fps() or 25, place).tolist())


def _by_all_packets(path: str, place: float) -> None:
    with av.open(path) as container:
        stream = container.streams.video[0]
        ReadPackets(container, stream, path)
    _by_reader(path, place)


def _numbers(count: int, rate: float, place: float) -> np.ndarray:
    """Return the frame numbers of a clip."""
    steps = np.arange(_CLIP_LEN) * _INTERVAL * rate / _TARGET_FPS
    return np.minimum(int(place * count) + steps.astype(int), count - 1)


def _bytes_read() -> int:
    """Return the bytes that this process has read from files, cached or not (Linux)."""
    return int(Path("/proc/self/io").read_text().split()[1])


_START = """
import json, sys, time
import numpy as np
import maskfeat_plugin
from maskfeat_plugin.registry import DATASETS
from mmengine.registry import DefaultScope
from mmengine.logging import MMLogger
MMLogger.get_instance("archive", log_level="ERROR")

def memory(kind):
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024

DATASETS.get("maskfeat.VideoDataset")  # imports the package's data sets and mmaction2
before = memory("Rss:")
start = time.perf_counter()
settings = json.loads(sys.argv[1])
with DefaultScope.overwrite_default_scope("mmaction"):
    dataset = DATASETS.build(dict(type="maskfeat.VideoDataset", pipeline=[], **settings))
seconds, rank = time.perf_counter() - start, memory("Rss:") - before
import os
read, write = os.pipe()
if os.fork() == 0:
    own = memory("Private_")
    for index in np.random.default_rng(0).integers(0, len(dataset), 20000):
        dataset.get_data_info(int(index))
    os.write(write, str(memory("Private_") - own).encode())
    os._exit(0)
print(json.dumps(dict(count=len(dataset), seconds=seconds, rank=rank, worker=float(os.read(read, 99)))))
"""


class Start(NamedTuple):
    """Costs of a list of files before the first sample: seconds, megabytes of a rank, megabytes of each worker."""

    seconds: float
    rank: float
    worker: float


def measure_start(settings: dict, count: int) -> Start:
    """Measure the start of a data set of videos in a new process.

    Args:
        settings (dict): Arguments of ``maskfeat.VideoDataset``.
        count (int): Number of videos in the data set.

    Returns:
        Start: The costs. The worker is a forked process that looks up 20,000 samples.
    """
    command = [sys.executable, "-W", "ignore", "-c", _START, json.dumps(settings)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    if found.pop("count") != count:
        raise RuntimeError(f"the data set does not have {count} videos")
    return Start(**found)


def measure_columns(crop: dict, shape: tuple[int, int], draws: int = 400) -> float:
    """Measure the share of a picture's columns that random crops cover.

    Args:
        crop (dict): Config of a transform of clips.
        shape (tuple[int, int]): Height and width of the picture.
        draws (int): Number of crops. Defaults to 400.

    Returns:
        float: The share, in [0, 1].
    """
    with DefaultScope.overwrite_default_scope("mmaction"):
        transform = TRANSFORMS.build(crop)
    seen = np.zeros(shape[1], bool)
    first = transform.geometry[0]
    for _ in range(draws):
        left, _, right, _ = first.get_crop_bbox(shape, first.area_range, first.aspect_ratio_range)
        seen[left:right] = True
    return float(seen.mean())


def measure_command(command: Sequence[str], files: int) -> float:
    """Measure the files per second of a command.

    Args:
        command (Sequence[str]): The command line.
        files (int): Number of files that the command works on.

    Returns:
        float: Files per second, including the start of the process.
    """
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return files / (time.perf_counter() - start)


def write_long_lists(folder: Path, count: int) -> tuple[Path, Path]:
    """Write a list of names and a manifest of videos that do not exist.

    Args:
        folder (Path): Folder to write to.
        count (int): Number of videos.

    Returns:
        tuple[Path, Path]: The list and the manifest.
    """
    names, manifest = folder / f"{count}.txt", folder / f"{count}.parquet"
    if not names.is_file():
        names.write_text("".join(f"{_name(i)}\n" for i in range(count)))
    if not manifest.is_file():
        starts = range(0, count, 50_000)
        write_manifest(manifest, "/archive", (as_table(_rows(start, min(start + 50_000, count))) for start in starts))
    return names, manifest


def _name(number: int) -> str:
    return f"{number // 1000:05d}/camera_{number:08d}.mp4"


def _rows(start: int, stop: int) -> list[dict]:
    return [
        dict(path=_name(i), bytes=1 << 20, modified=i, kind=VIDEO, width=1920, height=1080, codec="h264")
        | dict(duration=10.0, frames=300, fps=30.0, hash=i, motion=0.1)
        for i in range(start, stop)
    ]
