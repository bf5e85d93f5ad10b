"""Smaller copies of the videos of an archive: fewer pixels, no sound, long ones in pieces, the same frame times."""

import json
import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from itertools import groupby
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from maskfeat_plugin.datasets.folders import VIDEO_ENDINGS, find_files, printable
from maskfeat_plugin.datasets.manifest import VIDEO, is_manifest, read_manifest
from maskfeat_plugin.datasets.transforms.decoding import DecodeClip, OpenVideo
from maskfeat_plugin.errors import ConfigError, WriteError, reading
from maskfeat_plugin.files import append_text, naming, writing

from .describing import check_whole, describe_problem, open_video, read_length
from .parallel import run_parallel
from .workspace import CRASHED

# Codec -> encoder, its preset, and its default quality (constant rate factor, smaller is better). libx265 is not
# offered: in PyAV's wheels it frees memory that it does not own when a process encodes a second file.
CODECS = {"h264": ("libx264", "veryfast", 23), "av1": ("libsvtav1", "8", 35)}
_ENDING = ".mp4"
# Files beside the copies: their settings, the list of finished videos, the list of left-out videos
_SETTINGS, _DONE, LEFT_OUT = ".shrink_settings.json", ".shrink_done.txt", "left_out.txt"
# Clips can begin anywhere, and decoding starts at the key frame before them
_KEY_FRAME_SECONDS = 2
# Number of files that a summary names; number of clips that are timed
_NAMED, _CLIPS = 5, 5


@dataclass(frozen=True)
class ShrinkSettings:
    """Settings of smaller copies of videos.

    Args:
        short_side (int): Maximum of the shorter side in pixels; smaller videos keep their size. Defaults to 256.
        max_seconds (float): Longer videos are cut into pieces of equal length, none of them longer. Defaults to 60.
        codec (str): A key of :data:`CODECS`. Defaults to "h264".
        quality (int, optional): Constant rate factor of the encoder, 0 to 51, smaller is better. Defaults to None, the
            value in :data:`CODECS`.

    Raises:
        ConfigError: If a setting is out of range.
    """

    short_side: int = 256
    max_seconds: float = 60.0
    codec: str = "h264"
    quality: int | None = None

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise ConfigError(f"--codec {self.codec}: this codec is unknown. Give one of {', '.join(CODECS)}.")
        if self.short_side < 16 or not self.max_seconds >= 1:
            raise ConfigError("--short-side is at least 16 pixels, and --max-seconds at least 1. Give larger values.")
        if self.quality is not None and not 0 <= self.quality <= 51:
            raise ConfigError(f"--quality {self.quality}: it is a constant rate factor. Give 0 to 51.")


@dataclass(frozen=True)
class ShrinkReport:
    """Result of shrinking an archive.

    Args:
        out (Path): The folder of the copies.
        pieces (dict[str, int]): Path of each video, relative to its folder, -> number of copies.
        problems (dict[str, str]): Path of each left-out video -> reason.
        read (int): Number of videos that were read now; the others were finished before.
        before (int): Bytes of the videos that were not left out.
        after (int): Bytes of their copies.
        milliseconds (tuple[float, float] | None): Processor time to decode a clip of the first video, before and after.
    """

    out: Path
    pieces: dict[str, int]
    problems: dict[str, str]
    read: int
    before: int
    after: int
    milliseconds: tuple[float, float] | None

    def summary(self) -> str:
        """Return lines with the counts, and the first of the left-out files."""
        count, share = sum(self.pieces.values()), 100 * self.after / max(self.before, 1)
        lines = [
            f"{len(self.pieces)} videos in {count} files, {self.read} read now; "
            f"{self.before / 1e6:.1f} MB became {self.after / 1e6:.1f} MB ({share:.0f} %)"
        ]
        if self.milliseconds is not None:
            before, after = self.milliseconds
            lines.append(
                f"decoding a clip of the first, every fourth of 64 frames: {before:.1f} ms became {after:.1f} ms"
            )
        if self.problems:
            lines.append(f"{len(self.problems)} left out, see {self.out / LEFT_OUT}:")
            lines += [f"  {printable(name)}: {reason}" for name, reason in list(self.problems.items())[:_NAMED]]
            lines += ["  ..."] * (len(self.problems) > _NAMED)
        return "\n".join(lines)


def shrink_archive(
    source: str | Path,
    out: str | Path,
    settings: ShrinkSettings | None = None,
    *,
    workers: int = 1,
    retry: bool = False,
    progress: bool = True,
) -> ShrinkReport:
    """Write a smaller copy of each video below a folder, in the same sub-folders and without sound.

    ``a/b.mp4`` becomes ``a/b.mp4``. Names with other endings get ``.mp4`` appended. A video longer than ``max_seconds``
    becomes ``a/b.part000.mp4`` and so on. A copy gets its name only when it is complete. After any interruption, the
    same call continues: finished videos that have not changed are not read again.

    Args:
        source (str | Path): The folder, or a manifest of it, whose readable videos are used.
        out (str | Path): The folder of the copies.
        settings (ShrinkSettings, optional): The settings of the copies. Defaults to None, the default settings.
        workers (int): Number of processes. Defaults to 1.
        retry (bool): Whether to read videos again that were left out before. Defaults to False.
        progress (bool): Whether to show progress. Defaults to True.

    Returns:
        ShrinkReport: The result.

    Raises:
        ConfigError: If there are no videos, if ``out`` is inside the folder or has copies with other settings, if two
            videos would get the same name, or if a copy cannot be written.
            videos would get the same name, or a copy cannot be written.
    """
    settings, out = settings or ShrinkSettings(), Path(out)
    folder, names = _list_videos(source)
    if Path(folder).resolve() in (out.resolve(), *out.resolve().parents):
        raise ConfigError(f"OUT {out} is inside of {folder}. Name a folder outside of it.")
    _check_names(names)
    _check_settings(out / _SETTINGS, settings)
    known = _read_done(out / _DONE)
    signatures = {name: _signature(os.path.join(folder, name)) for name in names}
    done = {
        name: outcome
        for name, (signature, outcome) in known.items()
        if signatures.get(name) == signature and not (retry and isinstance(outcome, str))
    }
    todo = [name for name in names if name not in done]
    shrink = partial(_shrink_or_describe, folder=folder, out=str(out), settings=settings)
    results: Iterator[tuple[str, int | str]] = run_parallel(
        shrink, todo, crashed=CRASHED, workers=workers, title="Shrink", unit="video", chunk=1, progress=progress
    )
    for name, outcome in results:
        if isinstance(outcome, str):
            _remove_copies(out, name)
        with naming(out / _DONE):
            append_text(out / _DONE, json.dumps([name, signatures[name], outcome]) + "\n")
        done[name] = outcome
    return _report(folder, out, {name: done[name] for name in names}, len(todo))


def shrink_video(source: str, target: Path, settings: ShrinkSettings) -> int:
    """Write smaller copies of a video.

    Args:
        source (str): The file.
        target (Path): The copy; for a long video, see :func:`piece_path`.
        settings (ShrinkSettings): The settings of the copies.

    Returns:
        int: Number of copies.

    Raises:
        ValueError: If the video cannot be decoded to its end.
        WriteError: If a copy cannot be written.
    """
    with open_video(source) as (container, stream):
        check_whole(container, stream)
        seconds, _ = read_length(container, stream)
    count = max(math.ceil(round(seconds / settings.max_seconds, 3)), 1)
    with open_video(source) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        begin, length = stream.start_time or 0, seconds / count / stream.time_base

        def number(frame: av.VideoFrame) -> int:
            return min(max(int((frame.pts - begin) / length), 0), count - 1) if length else 0

        written = 0
        for i, frames in groupby(_decode(container, stream, rate), number):
            _encode(frames, piece_path(target, i) if count > 1 else target, rate, settings)
            written += 1
    if not written:
        raise ValueError("it has no frames that decode")
    return written


def piece_path(target: Path, number: int) -> Path:
    """Return the path of a piece of a long video.

    Args:
        target (Path): The path that a single copy would have.
        number (int): Number of the piece, from 0.
    """
    return target.with_name(f"{target.name.removesuffix(_ENDING)}.part{number:03d}{_ENDING}")


def _decode(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream, rate: Fraction
) -> Iterator[av.VideoFrame]:
    """Decode all frames. Each frame gets a later time than the frame before."""
    last, step = None, max(round(1 / (rate * stream.time_base)), 1)
    try:
        for frame in container.decode(stream):
            if frame.pts is None:
                frame.pts = frame.dts if frame.dts is not None else (0 if last is None else last + step)
            if last is None or frame.pts > last:
                last = frame.pts
                yield frame
    except av.FFmpegError as error:  # converted, because writing raises the same type
        raise ValueError(error.strerror) from error


def _encode(frames: Iterable[av.VideoFrame], path: Path, rate: Fraction, settings: ShrinkSettings) -> None:
    """Write frames to a file that begins with the first of them."""
    encoder, preset, quality = CODECS[settings.codec]
    options = dict(crf=str(quality if settings.quality is None else settings.quality), preset=preset)
    if settings.codec == "av1":
        options["svtav1-params"] = "lp=1"
        os.environ.setdefault("SVT_LOG", "1")  # log errors only; the library has no other setting for its log
    reformatter, stream, begin = VideoReformatter(), None, 0
    with (
        writing(path) as unfinished,
        av.open(str(unfinished), "w", format="mp4", options=dict(movflags="faststart")) as container,
    ):
        for frame in frames:
            if stream is None:
                stream, begin = container.add_stream(encoder, rate=rate, options=options), frame.pts
                if frame.rotation % 90:
                    raise ValueError(f"it is turned by {frame.rotation} degrees; re-encode it upright")
                width, height = _size(frame, settings.short_side)
                stream.width, stream.height = (height, width) if frame.rotation % 180 else (width, height)
                stream.pix_fmt = "yuv420p"
                context = stream.codec_context
                context.time_base, context.thread_count = frame.time_base, 1
                context.gop_size = max(round(_KEY_FRAME_SECONDS * rate), 1)
                context.colorspace, context.color_range = frame.colorspace, frame.color_range
            # average over all pixels that become one pixel: antialiased at any scale
            small = reformatter.reformat(frame, width, height, "yuv420p", interpolation=Interpolation.AREA, threads=1)
            if frame.rotation:
                small = _turn(small, frame.rotation // 90)
            small.pts, small.time_base = frame.pts - begin, frame.time_base
            small.pict_type = 0  # the encoder chooses the key frames
            container.mux(stream.encode(small))
        if stream is not None:
            container.mux(stream.encode(None))


def _turn(frame: av.VideoFrame, quarters: int) -> av.VideoFrame:
    """Rotate a frame, yuv420p of even size, counterclockwise by quarters of a circle."""
    planes, height, width = frame.to_ndarray(), frame.height, frame.width
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    turned = [np.rot90(plane, quarters).ravel() for plane in (planes[:height], *chroma)]
    return av.VideoFrame.from_ndarray(
        np.concatenate(turned).reshape(-1, height if quarters % 2 else width), format="yuv420p"
    )


def _size(frame: av.VideoFrame, short_side: int) -> tuple[int, int]:
    """Return the width and height of a copy. They are even, because the chroma planes of most decoders need it."""
    scale = min(short_side / min(frame.width, frame.height), 1)
    return tuple(max(2 * round(side * scale / 2), 2) for side in (frame.width, frame.height))


def _shrink_or_describe(name: str, folder: str, out: str, settings: ShrinkSettings) -> int | str:
    """Shrink a video. Return the number of copies, or the reason why there are none."""
    path = os.path.join(folder, name)
    try:
        _remove_copies(Path(out), name)  # copies of an earlier state of the file
        return shrink_video(path, _target(Path(out), name), settings)
    except WriteError:
        raise
    except Exception as error:  # decoders can raise any error
        return describe_problem(error, path)


def _target(out: Path, name: str) -> Path:
    return out / (name if name.endswith(_ENDING) else name + _ENDING)


def _copies(out: Path, name: str) -> Iterator[Path]:
    """Yield the existing copies of a video."""
    target = _target(out, name)
    if target.is_file():
        yield target
    number = 0
    while piece_path(target, number).is_file():
        yield piece_path(target, number)
        number += 1


def _remove_copies(out: Path, name: str) -> None:
    for path in list(_copies(out, name)):
        path.unlink()


def _list_videos(source: str | Path) -> tuple[str, list[str]]:
    """Return the folder of the videos, and the path of each video relative to the folder."""
    if is_manifest(source):
        manifest = read_manifest(source)
        folder, paths = manifest.folder, manifest.readable(VIDEO).paths()
    else:
        folder = os.path.abspath(source)
        if not os.path.isdir(folder):
            raise ConfigError(f"SOURCE {source} is not there. Give the folder with the videos, or a manifest of it.")
        paths = [str(path) for path in find_files(folder, VIDEO_ENDINGS).files]
    if not paths:
        raise ConfigError(f"SOURCE {source} has no video ({', '.join(VIDEO_ENDINGS)}) that can be read.")
    return folder, [os.path.relpath(path, folder) for path in paths]


def _check_names(names: Sequence[str]) -> None:
    """Check that no two videos get copies of the same name."""
    targets: dict[str, str] = {}
    for name in names:
        target = str(_target(Path(), name))
        other = targets.setdefault(target, name)
        if other != name:
            raise ConfigError(f"{printable(other)} and {printable(name)} would both become {target}. Rename one.")
    for target, name in targets.items():
        whole = re.sub(r"\.part\d{3,}\.mp4$", _ENDING, target)
        if whole != target and whole in targets:
            raise ConfigError(
                f"{printable(name)} may be the name of a piece of {printable(targets[whole])}. Rename one."
            )


def _check_settings(file: Path, settings: ShrinkSettings) -> None:
    """Compare the settings with the settings of the existing copies, or save them if there are no copies."""
    if file.is_file():
        with reading(file, "is damaged", f"Remove {file.parent}."):
            before = json.loads(file.read_text())
        different = [name for name, value in asdict(settings).items() if before.get(name) != value]
        if different:
            raise ConfigError(
                f"{file.parent} has copies with another {', '.join(different)}. Give the same, or another folder."
            )
        return
    with writing(file) as unfinished:
        unfinished.write_text(json.dumps(asdict(settings)))


def _read_done(file: Path) -> dict[str, tuple[list[int], int | str]]:
    """Read the finished videos: name -> size and time, and the number of copies or the reason why there are none."""
    if not file.is_file():
        return {}
    with reading(file, "is damaged", f"Remove {file.parent}."):
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        return {name: (signature, outcome) for name, signature, outcome in rows}


def _signature(path: str) -> list[int]:
    with suppress(OSError):  # a file that no longer exists is left out when it is read
        info = os.stat(path)
        return [info.st_size, info.st_mtime_ns]
    return [0, 0]


def _report(folder: str, out: Path, done: dict[str, int | str], read: int) -> ShrinkReport:
    """Write the list of the left-out videos, and add up the bytes."""
    problems = {name: outcome for name, outcome in done.items() if isinstance(outcome, str)}
    if problems or (out / LEFT_OUT).exists():
        with writing(out / LEFT_OUT) as unfinished:
            lines = [f"{printable(name)}\t{reason}\n" for name, reason in problems.items()]
            unfinished.write_text("".join(lines), "utf-8")
    pieces = {name: outcome for name, outcome in done.items() if not isinstance(outcome, str)}
    before = sum(os.path.getsize(os.path.join(folder, name)) for name in pieces)
    after = sum(path.stat().st_size for name in pieces for path in _copies(out, name))
    times = None
    for name in list(pieces)[:1]:
        times = _time_clip(os.path.join(folder, name)), _time_clip(str(next(_copies(out, name))))
    return ShrinkReport(out, pieces, problems, read, before, after, times)


def _time_clip(path: str) -> float:
    """Measure the median processor time, in ms, to decode a clip as the recipes do: every fourth of 64 frames."""
    times = []
    for position in np.linspace(0, 1, _CLIPS):
        begin = time.thread_time()
        sample = OpenVideo()(dict(filename=path))
        last = max(sample["total_frames"] - 1, 0)
        frames = np.minimum(int(position * max(last - 60, 0)) + 4 * np.arange(16), last)
        DecodeClip(short_side=256)(dict(sample, frame_inds=frames))
        times.append(1000 * (time.thread_time() - begin))
    return float(np.median(times))
