"""Search for the packets of chosen video frames: by the index of the file, by time, or by reading the whole file."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import dropwhile, islice
from typing import NamedTuple, Protocol

import av
import numpy as np
from av.index import IndexEntries
from av.video.stream import VideoStream

# Containers that store the time at which each packet is shown. For other containers, libavformat may guess it.
TIMED_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
# Containers whose header lists every frame
_INDEXED_FORMAT = TIMED_FORMATS[0]
# Containers in which a time can be found without reading the file; they do not store the number of frames
_SEEKABLE_FORMATS = (TIMED_FORMATS[1], "mpegts")
# The packets of larger files are not kept in memory
_KEPT_BYTES = 64 << 20
# Larger files of the seekable formats are not read to count their frames
_COUNTED_BYTES = 8 << 20
# No codec shows a picture more than this number of pictures after pictures that follow it in the file
_REORDERED = 16
# Requested frames that are further apart are read by separate searches
_APART = 2.0  # seconds
# Number of frames whose times are checked for a variable rate
_PROBES = 64
# Approximate number of packets in memory at a time
_TOGETHER = 1000


class UnfitIndex(Exception):  # noqa: N818 (caught by the reader, no user sees it)
    """Signal that the packets of a file are not where its index says. The file has to be read."""


class Segment(NamedTuple):
    """Packets that start with a key frame, and the requested frames among them.

    Args:
        packets (Iterable[av.Packet]): The packets in the order of decoding.
        numbers (dict[int, list[int]]): Time at which a frame is shown -> frame numbers that mean this frame.
    """

    packets: Iterable[av.Packet]
    numbers: dict[int, list[int]]


class Packets(Protocol):
    """Frames of a file by number, without decoding."""

    is_timed: bool
    """True if the times of packets identify frames. Otherwise all frames have to be decoded and counted."""
    duration: float | None
    """Seconds from the first frame to the end of the last; None if the file does not contain it."""

    def __len__(self) -> int:
        """Return the number of frames."""

    def frame_times(self) -> np.ndarray | None:
        """Return when each frame is shown; None if the file does not contain it.

        Returns:
            np.ndarray | None: float64 (N, 2), the start and the end of each frame in seconds from the first frame on.
        """

    def segments(self, indices: Sequence[int]) -> Iterator[Segment]:
        """Find the packets of frames.

        Args:
            indices (Sequence[int]): Frame numbers in ascending order.

        Yields:
            Segment: Packets to decode, one segment after the other.

        Raises:
            UnfitIndex: If the packets are not where the index says.
        """

    def numbers_at(self, times: np.ndarray) -> np.ndarray:
        """Return the numbers of the frames that are shown at given times.

        Args:
            times (np.ndarray): float (N,), seconds from the first frame on.

        Returns:
            np.ndarray: int64 (N,); 0 for times before the first frame, the last number for times after the last frame.
        """


def find_packets(container: av.container.InputContainer, stream: VideoStream, name: str) -> Packets | None:
    """Return an object that finds packets by the file's index or by time, if the file allows one of them.

    Args:
        container (av.container.InputContainer): The open file.
        stream (VideoStream): Its video stream.
        name (str): The name of the file in messages.

    Returns:
        Packets | None: None if the whole file has to be read.

    Raises:
        ValueError: If the end of the file is missing.
    """
    if container.format.name == _INDEXED_FORMAT and _lists_all_frames(stream):
        packets = IndexedPackets(container, stream, name)
        # With a variable rate, the times of the index are less exact than the times of the packets
        return packets if container.size > _KEPT_BYTES or not has_variable_rate(packets) else None
    if container.format.name in _SEEKABLE_FORMATS and container.size > _COUNTED_BYTES:
        duration = _duration(container, stream)
        if duration and stream.average_rate and _can_seek(container, stream):
            return SoughtPackets(container, stream, duration)
    return None


def has_variable_rate(packets: Packets) -> bool:
    """Check whether a frame is shown more than one frame away from its place at a constant rate.

    Args:
        packets (Packets): The packets of the file.
    """
    count = len(packets)
    if not packets.duration or not count:
        return False
    numbers = np.linspace(0, count - 1, min(count, _PROBES)).round().astype(np.int64)
    return bool(np.abs(packets.numbers_at((numbers + 0.5) * packets.duration / count) - numbers).max() > 1)


class ReadPackets:
    """All packets of a file, found by reading it. For a file above 64 MiB, only the times of the frames are kept.

    Args:
        container (av.container.InputContainer): The open file.
        stream (VideoStream): Its video stream.
        name (str): The name of the file in messages.

    Raises:
        ValueError: If the end of the file is missing.
    """

    def __init__(self, container: av.container.InputContainer, stream: VideoStream, name: str) -> None:
        self._container, self._stream = container, stream
        packets = (packet for packet in container.demux(stream) if packet.size)
        self._kept = list(packets) if container.size <= _KEPT_BYTES else None
        is_corrupt = False
        self._packets = []
        for packet in packets if self._kept is None else self._kept:
            self._packets.append(_Packet(packet.pts, packet.duration, packet.is_keyframe, packet.is_discard))
            is_corrupt = packet.is_corrupt
        count, expected = len(self._packets), len(stream.index_entries)
        if not count or count < expected or is_corrupt:
            raise ValueError(f"{name} is cut short: it holds {count} of {max(expected, count)} frames.")
        # Time at which each frame is shown; None for frames that an edit list leaves out
        times = [None if packet.is_discard else packet.pts for packet in self._packets]
        self._positions = {time: i for i, time in enumerate(times) if time is not None}
        self._times = sorted(self._positions)
        self._length = count - sum(packet.is_discard for packet in self._packets)
        self.is_timed = container.format.name in TIMED_FORMATS and len(self._times) == self._length
        shown = self.frame_times()
        rate = stream.average_rate
        self.duration = float(shown[-1, 1]) if shown is not None else self._length / float(rate) if rate else None

    def __len__(self) -> int:
        return self._length

    def frame_times(self) -> np.ndarray | None:
        """Return when each frame is shown, see :class:`Packets`."""
        if len(self._times) < self._length:
            return None
        durations = [self._packets[self._positions[time]].duration or 0 for time in self._times]
        return _times(self._times, durations, self._stream)

    def numbers_at(self, times: np.ndarray) -> np.ndarray:
        """Return the numbers of the frames that are shown at given times, see :class:`Packets`."""
        shown = self.frame_times()
        if shown is None:
            return _at_rate(times, self._stream.average_rate or 0, self._length)
        return np.maximum(np.searchsorted(shown[:, 0], times, side="right") - 1, 0)

    def segments(self, indices: Sequence[int]) -> Iterator[Segment]:
        """Find the packets of frames, see :class:`Packets`."""
        wanted = {self._times[index]: [index] for index in indices}
        for start, stop in self._ranges(wanted):
            yield Segment(self._read(start, stop), wanted)

    def _read(self, start: int, stop: int) -> Iterable[av.Packet]:
        """Return the packets [start, stop). The first one is a key frame."""
        if self._kept is not None:
            return self._kept[start:stop]
        first = self._packets[start].pts
        self._container.seek(first, stream=self._stream)
        found = dropwhile(lambda packet: packet.pts != first, self._container.demux(self._stream))
        return islice((packet for packet in found if packet.size), stop - start)

    def _ranges(self, wanted: Iterable[int]) -> list[list[int]]:
        """Return the ranges [start, stop) of packets to decode, each from a key frame to the last requested packet."""
        keys = [(i, p.pts) for i, p in enumerate(self._packets) if p.is_keyframe and p.pts is not None]
        ranges = []
        for time in wanted:
            position = self._positions[time]
            # A picture that follows a key frame in the file but is shown before it may need the previous key frame
            start = max((i for i, shown in keys if i <= position and shown <= time), default=0)
            ranges.append([start, position + 1])
        merged: list[list[int]] = []
        for start, stop in sorted(ranges):
            if merged and (start == merged[-1][0] or start < merged[-1][1]):
                merged[-1][1] = max(merged[-1][1], stop)
            else:
                merged.append([start, stop])
        return merged


class IndexedPackets:
    """Packets of a file whose header lists all packets (mp4, mov). Only the requested packets are read.

    The index lists packets in the order of decoding. The number of a frame is its rank by time. Only pictures between
    two key frames are in another order, so the packets since the last key frame are enough to compute the number.

    Args:
        container (av.container.InputContainer): The open file.
        stream (VideoStream): Its video stream.
        name (str): The name of the file in messages.

    Raises:
        ValueError: If the end of the file is missing.
    """

    is_timed = True

    def __init__(self, container: av.container.InputContainer, stream: VideoStream, name: str) -> None:
        self._container, self._stream = container, stream
        self._entries = entries = stream.index_entries
        count = len(entries)
        if entries[-1].pos + entries[-1].size > container.size:
            whole = bisect_left(range(count), True, key=lambda i: entries[i].pos + entries[i].size > container.size)
            raise ValueError(f"{name} is cut short: it holds {whole} of {count} frames.")
        self._discarded = _discarded_first(entries)
        self.duration = float(stream.duration * stream.time_base) if stream.duration else None
        self._delay = 0  # time from decoding a key frame to showing it, in units of the file
        packet = self._packet_at(0)
        if packet is not None and packet.pts is not None and packet.dts is not None:
            self._delay = packet.pts - packet.dts

    def __len__(self) -> int:
        return len(self._entries) - self._discarded

    def frame_times(self) -> np.ndarray:
        """Return when each frame is shown, see :class:`Packets`. All packets are read."""
        packets = [packet for packet in (self._packet_at(0), *self._following) if packet is not None]
        if any(packet.pts is None for packet in packets):
            raise UnfitIndex
        shown = sorted((packet.pts, packet.duration or 0) for packet in packets if not packet.is_discard)
        if len(shown) != len(self):
            raise UnfitIndex
        begins, durations = zip(*shown, strict=True)
        return _times(begins, durations, self._stream)

    def numbers_at(self, times: np.ndarray) -> np.ndarray:
        """Return the numbers of the frames that are shown at given times, see :class:`Packets`.

        The index has the times of decoding. With a variable rate, the number can be wrong by the few reordered frames.
        """
        first = self._entries[self._discarded].timestamp
        ticks = np.floor(np.asarray(times, np.float64) / float(self._stream.time_base) + 1e-6).astype(np.int64) + first
        found = [self._entries.search_timestamp(int(tick), any_frame=True) for tick in ticks]
        return np.clip(np.array(found, np.int64) - self._discarded, 0, len(self) - 1)

    def segments(self, indices: Sequence[int]) -> Iterator[Segment]:
        """Find the packets of frames, see :class:`Packets`."""
        left = [int(index) for index in indices]
        while left:
            start = self._key_at(left[0] + self._discarded)
            stop = start
            group: list[int] = []
            for index in left:
                position = index + self._discarded
                if group and (self._key_at(position) > stop or stop - start > _TOGETHER):
                    break
                group.append(index)
                stop = position + 1 + _REORDERED
            yield self._segment(start, stop, group)
            del left[: len(group)]

    def _segment(self, start: int, stop: int, group: Sequence[int]) -> Segment:
        """Return packets [start, stop) up to the last requested frame, and earlier ones that the first frame needs."""
        while True:
            packets = self._read(start, stop)
            times = sorted(packet.pts for packet in packets)
            wanted = {times[index + self._discarded - start]: [index] for index in group}
            if start == 0 or min(wanted) >= packets[0].pts:
                break
            # A picture that follows a key frame in the file but is shown before it may need the previous key frame
            start = self._key_at(start - 1)
        last = max(i for i, packet in enumerate(packets) if packet.pts in wanted)
        return Segment(packets[: last + 1], wanted)

    def _read(self, start: int, stop: int) -> list[av.Packet]:
        packets = [] if (first := self._packet_at(start)) is None else [first]
        packets += islice(self._following, stop - start - 1)
        places = [self._entries[i].pos for i in range(start, min(stop, len(self._entries)))]
        if [packet.pos for packet in packets] != places or any(packet.pts is None for packet in packets):
            raise UnfitIndex
        return packets

    def _packet_at(self, position: int) -> av.Packet | None:
        """Return the packet of a key frame. Set ``_following`` to an iterator over the packets after it."""
        entry = self._entries[position]
        # Depending on its version, libavformat searches by the time of showing or by the time of decoding
        for time in (entry.timestamp + self._delay, entry.timestamp):
            self._container.seek(time, stream=self._stream)
            self._following = (packet for packet in self._container.demux(self._stream) if packet.size)
            for packet in self._following:
                if packet.pos == entry.pos:
                    return packet
                if packet.dts is None or packet.dts > entry.timestamp:
                    break
        return None

    def _key_at(self, position: int) -> int:
        """Return the position of the last key frame at or before a packet."""
        key = self._entries.search_timestamp(self._entries[position].timestamp)
        while key > 0 and (key > position or not self._entries[key].is_keyframe):
            key -= 1
        return max(key, 0)


class SoughtPackets:
    """Packets of a file that can be searched by time, but does not store its number of frames (mkv, ts).

    The search does not read the whole file. The duration is divided into equal parts. Frame n is the frame that is
    shown in the middle of part n. With a constant rate these are exactly the frames of the file.

    Args:
        container (av.container.InputContainer): The open file.
        stream (VideoStream): Its video stream.
        duration (float): Its duration in seconds.
    """

    is_timed = True

    def __init__(self, container: av.container.InputContainer, stream: VideoStream, duration: float) -> None:
        self._container, self._stream = container, stream
        self.duration: float | None = duration
        self._length = max(round(duration * stream.average_rate), 1)
        self._start = stream.start_time or 0

    def __len__(self) -> int:
        return self._length

    def frame_times(self) -> np.ndarray:
        """Return when each part is shown, see :class:`Packets`."""
        begins = np.arange(self._length) / float(self._stream.average_rate)
        return np.stack([begins, begins + 1 / float(self._stream.average_rate)], axis=1)

    def numbers_at(self, times: np.ndarray) -> np.ndarray:
        """Return the numbers of the frames that are shown at given times, see :class:`Packets`."""
        return _at_rate(times, self._stream.average_rate, self._length)

    def segments(self, indices: Sequence[int]) -> Iterator[Segment]:
        """Find the packets of frames, see :class:`Packets`."""
        left = [int(index) for index in indices]
        apart = _APART * self._stream.average_rate
        while left:
            group = [left[0]]
            for index in left[1:]:
                if index - group[-1] > apart or index - group[0] > _TOGETHER:
                    break
                group.append(index)
            packets = self._read(self._time(group[0]), self._time(group[-1]))
            times = sorted(packet.pts for packet in packets)
            numbers: dict[int, list[int]] = {}
            for index in group:
                shown = bisect_right(times, self._time(index)) - 1
                numbers.setdefault(times[max(shown, 0)], []).append(index)
            last = max(i for i, packet in enumerate(packets) if packet.pts in numbers)
            yield Segment(packets[: last + 1], numbers)
            del left[: len(group)]

    def _time(self, index: int) -> int:
        """Return the middle of a part, in units of the file."""
        return self._start + int((index + Fraction(1, 2)) / self._stream.average_rate / self._stream.time_base)

    def _read(self, first: int, last: int) -> list[av.Packet]:
        """Return the packets from the last key frame shown at or before one time, until another time."""
        # The first frame is decoded before it is shown, and a search uses the time of decoding
        step = int(2 / self._stream.time_base)
        # In Matroska a search finds key frames, in MPEG-TS any packet
        back = max(first - step, self._start) if self._container.format.name == "mpegts" else first
        while True:
            self._container.seek(back if back > self._start else self._start - step, stream=self._stream)
            found = (packet for packet in self._container.demux(self._stream) if packet.size and packet.pts is not None)
            packets: list[av.Packet] = []
            beyond = 0
            for packet in found:
                if packet.is_keyframe and packet.pts <= first:
                    packets.clear()
                if packets or packet.is_keyframe:
                    packets.append(packet)
                if back > self._start and (packets[0] if packets else packet).pts > first:
                    break  # the search ended too late in the file
                beyond += bool(packets) and packet.pts > last
                if beyond > _REORDERED:
                    break
            if packets and (packets[0].pts <= first or back <= self._start):
                return packets
            if back <= self._start:
                raise UnfitIndex
            back, step = max(back - step, self._start), 2 * step


class _Packet(NamedTuple):
    """Properties of a frame before it is decoded."""

    pts: int | None
    duration: int | None
    is_keyframe: bool
    is_discard: bool


def _lists_all_frames(stream: VideoStream) -> bool:
    """Check that the index has an entry for each frame, and that an edit list leaves out frames only at the start."""
    entries: IndexEntries = stream.index_entries
    count = len(entries)
    return 0 < count == stream.frames and entries[0].is_keyframe and not entries[count - 1].is_discard


def _discarded_first(entries: IndexEntries) -> int:
    """Count the frames that an edit list leaves out at the beginning, even if other frames are among them."""
    discarded, position, last = 0, 0, 0
    while position < min(last + 2 * _REORDERED, len(entries)):
        if entries[position].is_discard:
            discarded, last = discarded + 1, position
        position += 1
    return discarded


def _duration(container: av.container.InputContainer, stream: VideoStream) -> float | None:
    """Return the duration of a video in seconds; None if the file does not contain it."""
    text = stream.metadata.get("DURATION", "")  # Matroska: 00:01:30.000000000
    parts = text.split(":")
    if len(parts) == 3 and all(part.strip().replace(".", "", 1).isdigit() for part in parts):
        hours, minutes, seconds = map(float, parts)
        return 3600 * hours + 60 * minutes + seconds
    if container.format.name == "mpegts" and stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _can_seek(container: av.container.InputContainer, stream: VideoStream) -> bool:
    """Check that a time can be found. libavformat reads the index of a Matroska file, if any, at the first search."""
    if container.format.name == "mpegts":
        return True
    container.seek(stream.start_time or 0, stream=stream)
    return len(stream.index_entries) > 1


def _times(begins: Sequence[int], durations: Sequence[int], stream: VideoStream) -> np.ndarray:
    """Convert the times of frames from units of the file to seconds, (N, 2)."""
    shown = np.array(begins, np.float64) - begins[0]
    return np.stack([shown, shown + durations], axis=1) * float(stream.time_base)


def _at_rate(times: np.ndarray, rate: Fraction | int, length: int) -> np.ndarray:
    """Compute the frame numbers at given times for a constant rate."""
    return np.clip(np.floor(np.asarray(times) * float(rate) + 1e-6).astype(np.int64), 0, max(length - 1, 0))
