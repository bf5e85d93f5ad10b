"""Chosen frames of a video file, for as little decoding as they need."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from itertools import chain, dropwhile, islice
from typing import NamedTuple

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter

# Opening a file looks into its frames for what the header of most containers says; these leave that out.
_QUICKLY = dict(skip_frame="all", threads="1", probesize="2048", fflags="noparse")
# Containers that store the time at which each packet is shown; of others libavformat may guess it.
_TIMED_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
# Formats of picture files: image2, jpeg_pipe, png_pipe, ...
_PICTURES = ("image2", "_pipe")
# Resizing equals Pillow's antialiased bilinear up to rounding. Without the last three, swscale rounds down and takes
# the nearest chroma sample, and HOG sees both.
# PyAV before 18 takes these flags of libswscale as a number, but has no names for them.
_ACCURATE_RND, _FULL_CHR_H_INT, _FULL_CHR_H_INP = 1 << 18, 1 << 13, 1 << 14
_RESIZING = int(Interpolation.BILINEAR) | _ACCURATE_RND | _FULL_CHR_H_INT | _FULL_CHR_H_INP
# Larger files are read a second time where they are decoded, instead of being held in memory
_KEPT_BYTES = 64 << 20


class _Packet(NamedTuple):
    """What is known of a frame before it is decoded."""

    pts: int | None
    duration: int | None
    is_keyframe: bool
    is_discard: bool


class VideoReader:
    """The frames of a video file, each by its number in the order in which they are shown.

    Opening it reads the file without decoding it; of one above 64 MiB it keeps no more than the times of the frames.
    Frames are decoded from the last key frame before them, on one thread and without those that neither are asked for
    nor are needed by others: in H.264 these are told by their header (``nal_ref_idc`` 0, about half of the frames of
    x264's default settings). What is returned is bit for bit what decoding every frame gives.

    Args:
        source (str | bytes): Path of the file, or its content.
        name (str): What to call it in messages.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is no video but sound, a picture or something else, or cut short. What is left of a cut
            Matroska, WebM or MPEG-TS file is a shorter video: it does not say how many frames it had.
    """

    def __init__(self, source: str | bytes, name: str) -> None:
        self._source = source
        self._name = name
        try:
            container, stream = self._open(_QUICKLY)
            self._timed = container.format.name in _TIMED_FORMATS
            if not self._timed:
                container, stream = self._open()
            packets = (packet for packet in container.demux(stream) if packet.size)
            self._kept = list(packets) if container.size <= _KEPT_BYTES else None
            is_corrupt = False
            self._packets = []
            for packet in packets if self._kept is None else self._kept:
                self._packets.append(_Packet(packet.pts, packet.duration, packet.is_keyframe, packet.is_discard))
                is_corrupt = packet.is_corrupt
        except av.FFmpegError as error:
            raise ValueError(f"{name} is no video file, or a broken one: {error}") from error
        self._container = container  # its streams live as long as it does
        self._stream = stream
        count, expected = len(self._packets), len(stream.index_entries)
        if not count or count < expected or is_corrupt:
            raise ValueError(f"{name} is cut short: it holds {count} of {max(expected, count)} frames.")
        # shown at; None of frames that an edit list leaves out
        times = [None if packet.is_discard else packet.pts for packet in self._packets]
        self._positions = {time: i for i, time in enumerate(times) if time is not None}
        self._times = sorted(self._positions)
        self._length = count - sum(packet.is_discard for packet in self._packets)
        self._timed &= len(self._times) == self._length

    def __len__(self) -> int:
        return self._length

    def get_avg_fps(self) -> float | None:
        """Frames a second over the whole file, None if the file does not tell; named as decord names it."""
        rate = self._stream.average_rate
        return None if rate is None else float(rate)

    def get_frame_times(self) -> np.ndarray:
        """Return when each frame is shown, counted from the first.

        Returns:
            np.ndarray: float64 (N, 2), seconds at which each frame begins and ends.

        Raises:
            ValueError: If the file tells neither times nor a rate.
        """
        if len(self._times) < self._length:
            rate = self.get_avg_fps()
            if not rate:
                raise ValueError(f"{self._name} does not say when its frames are shown.")
            begins = np.arange(self._length) / rate
            return np.stack([begins, begins + 1 / rate], axis=1)
        durations = [self._packets[self._positions[time]].duration or 0 for time in self._times]
        begins = np.array(self._times, np.float64) - self._times[0]
        return np.stack([begins, begins + durations], axis=1) * float(self._stream.time_base)

    def read(self, indices: Sequence[int], short_side: int | None = None) -> list[np.ndarray]:
        """Decode frames.

        Args:
            indices (Sequence[int]): Numbers of frames, in any order; one that comes twice is decoded once.
            short_side (int, optional): Pixels of the shorter side of the result, see :meth:`stream`. Defaults to None.

        Returns:
            list[np.ndarray]: uint8 (H, W, 3) RGB each, turned as the file's rotation says; no two share memory.

        Raises:
            ValueError: If there is no such frame, or it does not decode.
        """
        indices = [int(index) for index in indices]
        wanted = sorted(set(indices))
        frames = dict(zip(wanted, self.stream(wanted, short_side), strict=True))
        images, given = [], set()
        for index in indices:
            images.append(frames[index].copy() if index in given else frames[index])
            given.add(index)
        return images

    def stream(self, indices: Sequence[int], short_side: int | None = None) -> Iterator[np.ndarray]:
        """Decode frames one after the other, so that no more than one is in memory.

        Args:
            indices (Sequence[int]): Numbers of frames, each greater than the one before.
            short_side (int, optional): Pixels of the shorter side of the result. Frames are resized while their colours
                are converted, bilinear and antialiased; the longer side keeps the aspect ratio. Defaults to None: the
                size of the file.

        Yields:
            np.ndarray: uint8 (H, W, 3) RGB, turned as the file's rotation says.

        Raises:
            ValueError: If there is no such frame, or it does not decode.
        """
        left = [int(index) for index in indices]
        wrong = [index for index in left if not 0 <= index < self._length]
        if wrong:
            raise ValueError(f"{self._name} has {self._length} frames, there is no frame {wrong[0]}.")
        done = 0
        try:
            for index, image in self._decode(left, short_side) if self._timed else ():
                if index != left[done]:  # the times are wrong
                    break
                yield image
                done += 1
            if done < len(left):
                yield from self._decode_all(left[done:], short_side)
        except av.FFmpegError as error:
            raise ValueError(f"{self._name} does not decode: {error}") from error

    def _open(
        self, options: dict[str, str] | None = None
    ) -> tuple[av.container.InputContainer, av.video.stream.VideoStream]:
        source = BytesIO(self._source) if isinstance(self._source, bytes) else self._source
        try:
            container = av.open(source, options=options or {})
            stream = container.streams.best("video")
        except FileNotFoundError:
            raise FileNotFoundError(f"{self._name} is not there.") from None
        except IndexError:  # PyAV reads the time base of a stream that is not there
            stream = None
        if stream is None or stream.codec_context is None:
            raise ValueError(f"{self._name} holds no video that can be decoded.")
        if stream.disposition & Disposition.attached_pic or container.format.name.endswith(_PICTURES):
            raise ValueError(f"{self._name} holds a picture and no video.")
        stream.codec_context.thread_count = 1
        return container, stream

    def _decode(self, indices: Sequence[int], short_side: int | None) -> Iterator[tuple[int, np.ndarray]]:
        """Decode what is needed: numbers and frames, in the order in which they come out."""
        wanted = {self._times[index]: index for index in indices}
        segments = self._segments(wanted)
        context = self._stream.codec_context
        can_skip = context.name == "h264"
        convert = _Converter(self._name, short_side)
        for start, stop in segments:
            skips = None
            try:
                # None makes the decoder give what it holds back
                for packet in chain(self._read_packets(start, stop), [None]):
                    skip = can_skip and packet is not None and packet.pts not in wanted
                    if skip != skips:
                        context.skip_frame = "NONREF" if skip else "DEFAULT"
                        skips = skip
                    for frame in context.decode(packet):
                        index = wanted.pop(frame.pts, None)
                        if index is not None:
                            yield index, convert(frame)
            finally:
                context.flush_buffers()

    def _read_packets(self, start: int, stop: int) -> Iterable[av.Packet]:
        """Packets [start, stop), the first a key frame."""
        if self._kept is not None:
            return self._kept[start:stop]
        first = self._packets[start].pts
        self._container.seek(first, stream=self._stream)
        found = dropwhile(lambda packet: packet.pts != first, self._container.demux(self._stream))
        return islice((packet for packet in found if packet.size), stop - start)

    def _segments(self, wanted: Iterable[int]) -> list[list[int]]:
        """Ranges [start, stop) of packets to decode, each from a key frame to the last wanted packet behind it."""
        keys = [(i, packet.pts) for i, packet in enumerate(self._packets) if packet.is_keyframe]
        ranges = []
        for time in wanted:
            position = self._positions[time]
            # a picture that follows a key frame in the file but is shown before it may need the key frame before
            start = max((i for i, shown in keys if i <= position and shown <= time), default=0)
            ranges.append([start, position + 1])
        merged: list[list[int]] = []
        for start, stop in sorted(ranges):
            if merged and (start == merged[-1][0] or start < merged[-1][1]):
                merged[-1][1] = max(merged[-1][1], stop)
            else:
                merged.append([start, stop])
        return merged

    def _decode_all(self, indices: Sequence[int], short_side: int | None) -> Iterator[np.ndarray]:
        """Decode every frame from the first on and count them, as decord does."""
        convert = _Converter(self._name, short_side)
        left = deque(indices)
        container, stream = self._open()
        with container:
            for index, frame in enumerate(container.decode(stream)):
                if index == left[0]:
                    left.popleft()
                    yield convert(frame)
                    if not left:
                        return
        raise ValueError(f"{self._name} does not decode: frame {left[0]} does not come out.")


class _Converter:
    """From decoded frames to RGB arrays.

    Args:
        name (str): What to call the file in messages.
        short_side (int | None): Pixels of the shorter side of the arrays, None for the size of the frames.
    """

    def __init__(self, name: str, short_side: int | None) -> None:
        self._name = name
        self._short_side = short_side
        self._reformatter = VideoReformatter()  # one for all frames: it sets itself up for the first

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """A frame as uint8 (H, W, 3) RGB; its rows need not lie close together."""
        if frame.rotation % 90:
            raise ValueError(f"{self._name} is turned by {frame.rotation} degrees; re-encode it upright.")
        if self._short_side is None:
            rgb = self._reformatter.reformat(frame, format="rgb24", threads=1)
        else:
            scale = self._short_side / min(frame.width, frame.height)
            width, height = round(frame.width * scale), round(frame.height * scale)
            # swscale widens its bilinear filter where it makes frames smaller
            rgb = self._reformatter.reformat(frame, width, height, format="rgb24", interpolation=_RESIZING, threads=1)
        plane, height, width = rgb.planes[0], rgb.height, rgb.width
        rows = np.frombuffer(plane, np.uint8, height * plane.line_size).reshape(height, plane.line_size)
        image = rows[:, : 3 * width].reshape(height, width, 3)
        return np.ascontiguousarray(np.rot90(image, frame.rotation // 90)) if frame.rotation else image
