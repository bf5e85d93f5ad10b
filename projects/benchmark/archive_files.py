"""Archive for benchmarks: many short clips of different codecs, rates and shapes, some damaged; and four long files."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.stream import VideoStream

from maskfeat_plugin.files import move_into_place

# Short clips: file ending, codec, frames per second, (height, width)
CLIPS = (
    ("mp4", "libx264", 25, (240, 320)),
    ("mp4", "libx265", 30, (180, 320)),
    ("mp4", "libx264", 60, (240, 704)),
    ("mkv", "libx264", 5, (240, 320)),
    ("ts", "libx264", 15, (180, 640)),
    ("webm", "libvpx-vp9", 30, (320, 180)),
)
# Long files: the same values
LONG = (
    ("mp4", "libx264", 30, (540, 960)),
    ("mkv", "libx264", 25, (540, 960)),
    ("ts", "libx264", 15, (240, 704)),
    ("mov", "libx265", 30, (540, 960)),
)
_CLIP_SECONDS, _TAKE_SECONDS = 3, 20
_DAMAGED = 0.01
_OPTIONS = {"libx264": {"preset": "veryfast"}, "libx265": {"preset": "ultrafast", "x265-params": "log-level=error"}}


class Archive(NamedTuple):
    """Files of an archive: the folder of the clips, and the long files."""

    clips: Path
    long: list[Path]


def build_archive(folder: Path, clips: int, minutes: int, say: Callable[[str], None]) -> Archive:
    """Build an archive, or reuse the files of an earlier call with the same numbers.

    Args:
        folder (Path): Folder of the archive.
        clips (int): Number of short clips of 3 s. One in a hundred is damaged.
        minutes (int): Length of the four long files.
        say (Callable[[str], None]): Prints lines of progress.

    Returns:
        Archive: The files.
    """
    archive = Archive(folder / f"clips_{clips}", [folder / f"long_{minutes}.{spec[0]}" for spec in LONG])
    if not archive.clips.is_dir():
        say(f"writing {clips} clips to {archive.clips}")
        _write_clips(archive.clips, clips)
    for path, spec in zip(archive.long, LONG, strict=True):
        if not path.is_file():
            say(f"writing {path}")
            take = folder / f"take.{spec[0]}"
            _encode(take, _TAKE_SECONDS, *spec[1:])
            _repeat(take, path, 60 * minutes // _TAKE_SECONDS)
            take.unlink()
    return archive


def _write_clips(folder: Path, count: int) -> None:
    """Write copies of one clip of each kind into folders of a thousand clips."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    sources = []
    for spec in CLIPS:
        path = unfinished / f"source.{spec[0]}"
        _encode(path, _CLIP_SECONDS, *spec[1:])
        sources.append((spec[0], path.read_bytes()))
        path.unlink()
    rng = random.Random(0)
    for i in range(count):
        ending, content = sources[i % len(sources)]
        if i % round(1 / _DAMAGED) == 7:  # cut short
            content = content[: rng.randrange(len(content) // 2)]
        path = unfinished / f"{i // 1000:04d}" / f"{i:06d}.{ending}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    move_into_place(unfinished, folder)


def _encode(path: Path, seconds: int, codec: str, rate: int, size: tuple[int, int]) -> None:
    """Write a video of moving coloured blocks with a key frame every two seconds."""
    height, width = size
    blocks = np.random.default_rng(0).integers(0, 256, (height // 10 + 1, width // 10 + 1, 3), dtype=np.uint8)
    picture = blocks.repeat(10, 0).repeat(10, 1)[:height, :width]
    with av.open(str(path), "w") as container:
        options = {**_OPTIONS.get(codec, {"deadline": "realtime", "cpu-used": "8"}), "g": str(2 * rate)}
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for i in range(seconds * rate):
            moved = np.roll(picture, (90 * i // rate, 150 * i // rate), (0, 1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
        container.mux(stream.encode())


def _repeat(source: Path, path: Path, times: int) -> None:
    """Write a video that repeats the packets of another file several times."""
    unfinished = path.with_name(f"unfinished_{path.name}")
    with av.open(str(unfinished), "w") as long:
        stream: VideoStream | None = None
        offset = 0
        for _ in range(times):
            with av.open(str(source)) as short:
                video = short.streams.video[0]
                stream = stream or long.add_stream_from_template(video)
                for packet in short.demux(video):
                    if packet.dts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                        long.mux(packet)
                offset += round(_TAKE_SECONDS / video.time_base)
    move_into_place(unfinished, path)
