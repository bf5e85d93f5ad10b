"""An archive to measure on: many short clips of mixed codecs, rates and shapes, some damaged, and a few long files."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.stream import VideoStream

# Ending, codec, frames a second, height and width of the short clips
CLIPS = (
    ("mp4", "libx264", 25, (240, 320)),
    ("mp4", "libx265", 30, (180, 320)),
    ("mp4", "libx264", 60, (240, 704)),
    ("mkv", "libx264", 5, (240, 320)),
    ("ts", "libx264", 15, (180, 640)),
    ("webm", "libvpx-vp9", 30, (320, 180)),
)
# Those of the long files
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
    """Files of an archive: the folder of the clips, and the long ones."""

    clips: Path
    long: list[Path]


def build_archive(folder: Path, clips: int, minutes: int, say: Callable[[str], None]) -> Archive:
    """Build an archive, or take what an earlier call with the same numbers has built.

    Args:
        folder (Path): Where it is made.
        clips (int): Number of short clips, of 3 s; one in a hundred is damaged.
        minutes (int): Length of the four long files.
        say (Callable[[str], None]): Told what is done.

    Returns:
        Archive: The files.
    """
    archive = Archive(folder / f"clips_{clips}", [folder / f"long_{minutes}.{spec[0]}" for spec in LONG])
    if not archive.clips.is_dir():
        say(f"{clips} clips are written to {archive.clips}")
        _write_clips(archive.clips, clips)
    for path, spec in zip(archive.long, LONG, strict=True):
        if not path.is_file():
            say(f"{path} is written")
            take = folder / f"take.{spec[0]}"
            _encode(take, _TAKE_SECONDS, *spec[1:])
            _repeat(take, path, 60 * minutes // _TAKE_SECONDS)
            take.unlink()
    return archive


def _write_clips(folder: Path, count: int) -> None:
    """Copies of one clip of each kind, in folders of a thousand."""
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
    unfinished.rename(folder)


def _encode(path: Path, seconds: int, codec: str, rate: int, size: tuple[int, int]) -> None:
    """Coloured blocks that move; a key frame every two seconds."""
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
    """Copy the packets of a file several times, one after the other."""
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
    unfinished.rename(path)
