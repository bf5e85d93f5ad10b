"""Descriptions of files for a manifest: size, time, perceptual hash and motion, without reading long files whole."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os.path import splitext

import av
import cv2
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation
from PIL import Image

from maskfeat_plugin.datasets.folders import VIDEO_ENDINGS, printable
from maskfeat_plugin.datasets.manifest import IMAGE, VIDEO
from maskfeat_plugin.datasets.transforms.loading import LoadWholeImage
from maskfeat_plugin.errors import describe

_SIDE = 32  # side of the small grey pictures that are compared
# Seconds between the frames of a pair; length of a video from which pairs are taken at three places instead of one
_STEP, _LONG = 2.0, 60.0
# Expected seconds between key frames in a file without an index of them
_KEY_FRAMES = 10
# Cosines of less than about a quarter of a grey level are noise and do not count for the hash
_NOISE = 4.0


def describe_file(path: str) -> dict:
    """Describe an image or a video.

    Args:
        path (str): The file, with an ending of :mod:`.folders`.

    Returns:
        dict: The columns of a manifest except the name, the bytes and the time. If training could not read the file,
        ``problem`` is the reason, and there is no hash.
    """
    kind = VIDEO if splitext(path)[1].lower() in VIDEO_ENDINGS else IMAGE
    row = dict(kind=kind)
    try:
        (_describe_video if kind == VIDEO else _describe_image)(path, row)
    except Exception as error:  # decoders can raise any error
        row["problem"] = describe_problem(error, path)
    return row


def describe_problem(error: Exception, path: str) -> str:
    """Return a decoder's reason for an error in one line, without the path.

    Args:
        error (Exception): The exception of the decoder.
        path (str): The file.
    """
    reason = error.strerror if isinstance(error, av.FFmpegError) else describe(error).replace(path, "it")
    return printable((reason.strip() or type(error).__name__).splitlines()[0].removesuffix("."))


def perceptual_hash(grey: np.ndarray) -> int:
    """Compute a 64-bit hash from the signs of a picture's lowest cosines. Similar pictures differ in few bits.

    Args:
        grey (np.ndarray): The picture, (32, 32).

    Returns:
        int: In [0, 2**64).
    """
    low = cv2.dct(grey.astype(np.float32))[:8, :8].ravel()
    low[abs(low) < _NOISE] = 0
    return int.from_bytes(np.packbits(low > np.median(low[1:])).tobytes(), "big")


def _describe_image(path: str, row: dict) -> None:
    """Decode an image as the configs do, and fill its row."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            row["codec"] = (image.format or "").lower()
    grey = LoadWholeImage(color_type="grayscale")(dict(img_path=path))["img"]
    row["height"], row["width"] = grey.shape
    row["hash"] = perceptual_hash(cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA))


def _describe_video(path: str, row: dict) -> None:
    """Read the header of a video, decode a few frames, and fill its row."""
    with open_video(path) as (container, stream):
        context, base = stream.codec_context, stream.time_base
        row.update(codec=context.name, width=context.width, height=context.height)
        check_whole(container, stream)
        first = next(iter(_decode_from_here(container, stream, [stream.start_time or 0])), None)
        if first is None:
            raise ValueError("it has no frames that decode")
        if first.rotation % 90:
            raise ValueError(f"it is turned by {first.rotation} degrees; re-encode it upright")
        if first.rotation % 180:
            row.update(width=context.height, height=context.width)
        duration, frames = read_length(container, stream)
        rate = stream.average_rate or (frames / duration if duration else None)
        row.update(duration=duration, frames=frames, fps=rate and float(rate))
        begin = (stream.start_time or 0) * base
        pictures, changes = [_grey(first)], [0.0]
        for place in (0.25, 0.5, 0.75) if duration >= _LONG else (0.5,):
            middle = float(begin) + duration * place
            times = [round(time / base) for time in (middle, middle + min(_STEP, duration / 4))]
            pair = [_grey(frame) for frame in _decode(container, stream, times)]
            if place == 0.5:
                row["hash"] = perceptual_hash(pair[0])
            pictures = pair if duration >= _LONG else [*pictures, *pair]
            changes += [np.abs(a - b).mean() / 255 for a, b in zip(pictures, pictures[1:], strict=False)]
        row["motion"] = float(max(changes))


@contextmanager
def open_video(path: str) -> Iterator[tuple[av.container.InputContainer, av.video.stream.VideoStream]]:
    """Open a video file for decoding on one thread.

    Args:
        path (str): The file.

    Yields:
        tuple[av.container.InputContainer, av.video.stream.VideoStream]: The file and its video stream.

    Raises:
        ValueError: If the file has only sound, a picture, or nothing that can be decoded.
    """
    with av.open(path) as container:
        stream = container.streams.best("video") if container.streams.video else None
        if stream is None or stream.codec_context is None:
            raise ValueError("it holds no video that can be decoded")
        if stream.disposition & Disposition.attached_pic:
            raise ValueError("it holds a picture and no video")
        stream.codec_context.thread_count = 1
        yield container, stream


def check_whole(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> None:
    """Compare the end of the last frame, according to the index of an mp4 file, with the end of the file.

    Args:
        container (av.container.InputContainer): The file.
        stream (av.video.stream.VideoStream): Its video stream.

    Raises:
        ValueError: If the file ends too early.
    """
    last = stream.index_entries[-1] if len(stream.index_entries) else None
    if container.format.name.startswith("mov,") and last is not None and last.pos + last.size > container.size:
        raise ValueError(f"it is cut short: it holds {container.size} of at least {last.pos + last.size} bytes")


def read_length(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> tuple[float, int]:
    """Return the seconds and the number of frames, from the stream's header or from the times at the end of the file.

    Args:
        container (av.container.InputContainer): The file. Its position afterwards is undefined.
        stream (av.video.stream.VideoStream): Its video stream.

    Returns:
        tuple[float, int]: Both are above 0 if the file has a frame.
    """
    base, count = stream.time_base, stream.frames
    rate = stream.average_rate or stream.guessed_rate
    seconds = (stream.duration or 0) * base
    if not seconds:  # the container's duration can be the length of the sound, or the length before a file was cut
        begin = stream.start_time or 0
        ends: list[int] = []
        if container.duration and container.duration > 2 * _STEP * av.time_base:
            container.seek(container.duration - int(_STEP * av.time_base) + int(begin * base * av.time_base))
            ends = _ends(container, stream)
        if not ends:
            with av.open(container.name) as whole:
                ends = _ends(whole, whole.streams.best("video"))
            count = count or len(ends)
        seconds = (max(ends) - begin) * base if ends else 0
    if not seconds and rate:
        seconds = count / rate
    return float(seconds), count or max(round(seconds * rate) if rate else 1, 1)


def _ends(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> list[int]:
    """Return the time at which each frame from the current position on ends. Frames are not decoded."""
    packets = (packet for packet in container.demux(stream) if packet.size)
    return [(packet.dts or 0 if packet.pts is None else packet.pts) + (packet.duration or 0) for packet in packets]


def _decode(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream, times: Sequence[int]
) -> list[av.VideoFrame]:
    """Decode, for each time, a separate frame: the first one at or after that time.

    Raises:
        ValueError: If there is none. At the end of a video there may be fewer frames than times.
    """
    # MPEG-TS has no index: a seek can end anywhere, and decoding begins at the next key frame
    back = round(_KEY_FRAMES / stream.time_base) if container.format.name == "mpegts" else 0
    container.seek(times[0] - back, stream=stream)
    frames = _decode_from_here(container, stream, times)
    if not frames:  # there is no key frame after this position
        with av.open(container.name) as whole:
            stream = whole.streams.best("video")
            frames = _decode_from_here(whole, stream, times)
    if not frames:
        seconds = float((times[0] - (stream.start_time or 0)) * stream.time_base)
        raise ValueError(f"no frame decodes from {seconds:.1f} s on")
    return frames


def _decode_from_here(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream, times: Sequence[int]
) -> list[av.VideoFrame]:
    context, found, left, last = stream.codec_context, [], list(times), None
    try:
        for packet in container.demux(stream):
            # frames before the requested time that no other frames need are not decoded
            is_before = packet.pts is not None and packet.pts < left[0]
            context.skip_frame = "NONREF" if is_before else "DEFAULT"
            for last in context.decode(packet if packet.size else None):
                shown = last.dts if last.pts is None else last.pts
                if shown is None or shown >= left[0]:
                    found.append(last)
                    left.pop(0)
                if not left:
                    return found
    finally:
        context.skip_frame = "DEFAULT"
        context.flush_buffers()
    return found or [last] * (last is not None)


def _grey(frame: av.VideoFrame) -> np.ndarray:
    """Convert a frame to a small grey picture, float32 (32, 32), upright."""
    small = frame.reformat(_SIDE, _SIDE, "gray", interpolation=Interpolation.AREA).to_ndarray()
    return np.rot90(small, frame.rotation // 90).astype(np.float32)
