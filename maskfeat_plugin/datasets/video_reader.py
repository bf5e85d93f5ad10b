"""Reader of chosen frames of a video file that decodes as little as possible."""

from collections import deque
from collections.abc import Iterator, Sequence
from io import BytesIO, RawIOBase
from itertools import chain
from typing import NamedTuple

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter

from .video_packets import TIMED_FORMATS, ReadPackets, UnfitIndex, find_packets, has_variable_rate

# By default, opening decodes some frames for data that most headers contain anyway, and reads the end of a ts file
# for its duration. These options turn that off.
_QUICKLY = dict(skip_frame="all", threads="1", probesize="2048", fflags="noparse", skip_estimate_duration_from_pts="1")
# Formats of picture files: image2, jpeg_pipe, png_pipe, ...
_PICTURES = ("image2", "_pipe")
# With these flags, resizing equals Pillow's antialiased bilinear resizing up to rounding. Without the last three,
# swscale rounds down and takes the nearest chroma sample, and HOG is sensitive to both.
# PyAV before 18 accepts these flags of libswscale as a number, but has no names for them.
_ACCURATE_RND, _FULL_CHR_H_INT, _FULL_CHR_H_INP = 1 << 18, 1 << 13, 1 << 14
_RESIZING = int(Interpolation.BILINEAR) | _ACCURATE_RND | _FULL_CHR_H_INT | _FULL_CHR_H_INP


class VideoReader:
    """Frames of a video file by their numbers, counted in the order in which they are shown.

    For an mp4 or mov file, opening reads only the header. For an mkv, webm or ts file above 8 MiB, opening does not
    read the file either. Such a file does not store its number of frames. So its duration is divided into equal parts,
    and frame n is the frame in the middle of part n. With a constant rate this is the n-th frame. Other files are read
    without decoding.

    Decoding starts at the last key frame before a requested frame and uses one thread. Frames that are neither
    requested nor needed by other frames are not decoded. In H.264 their headers mark them (``nal_ref_idc`` 0, about
    half of the frames with x264's default settings). The result is bit for bit the same as after decoding every frame.

    Args:
        source (str | bytes | RawIOBase): Path of the file, its content, or a file that can be searched.
        name (str): The name of the file in messages.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is no video but sound, a picture or something else, or if its end is missing. A
            Matroska, WebM or MPEG-TS file without its end counts as a shorter video, because it does not store its
            frame count.
    """

    def __init__(self, source: str | bytes | RawIOBase, name: str) -> None:
        self._source = source
        self._name = name
        try:
            container, stream = self._open(_QUICKLY)
            if container.format.name not in TIMED_FORMATS:
                container, stream = self._open()
            packets = find_packets(container, stream, name)
            if packets is None and container.format.name in TIMED_FORMATS:  # the search has changed its position
                container, stream = self._open(_QUICKLY)
            self._packets = ReadPackets(container, stream, name) if packets is None else packets
        except av.FFmpegError as error:
            raise ValueError(f"{name} is no video file, or a broken one: {error}") from error
        self._container = container  # its streams are valid as long as the container exists
        self._stream = stream

    def __len__(self) -> int:
        return len(self._packets)

    def get_avg_fps(self) -> float | None:
        """Return the average frames per second; None if the file does not contain it. decord uses the same name."""
        rate = self._stream.average_rate
        return None if rate is None else float(rate)

    @property
    def duration(self) -> float | None:
        """Seconds from the first frame to the end of the last; None if the file does not contain it."""
        return self._packets.duration

    def get_frame_times(self) -> np.ndarray:
        """Return when each frame is shown, counted from the first frame.

        Returns:
            np.ndarray: float64 (N, 2), the start and the end of each frame in seconds.

        Raises:
            ValueError: If the file contains neither times nor a rate.
        """
        try:
            shown = self._packets.frame_times()
        except UnfitIndex:
            self._packets = self._read_packets()
            shown = self._packets.frame_times()
        if shown is not None:
            return shown
        rate = self.get_avg_fps()
        if not rate:
            raise ValueError(f"{self._name} does not say when its frames are shown.")
        begins = np.arange(len(self)) / rate
        return np.stack([begins, begins + 1 / rate], axis=1)

    def numbers_at(self, times: np.ndarray) -> np.ndarray:
        """Return the numbers of the frames that are shown at given times, without reading a long file.

        Args:
            times (np.ndarray): float (N,), seconds from the first frame on.

        Returns:
            np.ndarray: int64 (N,); 0 for times before the first frame, the last number for times after the last frame.
        """
        return self._packets.numbers_at(np.asarray(times, np.float64))

    def has_variable_rate(self) -> bool:
        """Check whether a frame is shown more than one frame away from its place at the average rate."""
        return has_variable_rate(self._packets)

    def read(self, indices: Sequence[int], short_side: int | None = None) -> list[np.ndarray]:
        """Decode frames.

        Args:
            indices (Sequence[int]): Frame numbers in any order. A number that occurs twice is decoded once.
            short_side (int, optional): Pixels of the shorter side of the result, see :meth:`stream`. Defaults to None.

        Returns:
            list[np.ndarray]: One uint8 (H, W, 3) RGB array per number, rotated as the file's metadata say. No two
                arrays
            share memory.

        Raises:
            ValueError: If a frame does not exist, or if it does not decode.
        """
        indices = [int(index) for index in indices]
        wanted = sorted(set(indices))
        frames = dict(zip(wanted, self.stream(wanted, short_side), strict=True))
        images, given = [], set()
        for index in indices:
            images.append(frames[index].copy() if index in given else frames[index])
            given.add(index)
        return images

    def get_batch(self, indices: Sequence[int]) -> "FrameBatch":
        """Decode frames with decord's interface, which mmaction2's ``DecordDecode`` and so its inferencer call.

        Args:
            indices (Sequence[int]): Frame numbers.
        """
        return FrameBatch(self.read(indices))

    def stream(self, indices: Sequence[int], short_side: int | None = None) -> Iterator[np.ndarray]:
        """Decode frames one after the other, so that only one is in memory.

        Args:
            indices (Sequence[int]): Frame numbers in ascending order.
            short_side (int, optional): Pixels of the shorter side of the result. Frames are resized together with the
                conversion of their colours, bilinear and antialiased, and keep the aspect ratio. Defaults to None: the
                size in the file.

        Yields:
            np.ndarray: uint8 (H, W, 3) RGB, rotated as the file's metadata say.

        Raises:
            ValueError: If a frame does not exist, or if it does not decode.
        """
        left = [int(index) for index in indices]
        wrong = [index for index in left if not 0 <= index < len(self)]
        if wrong:
            raise ValueError(f"{self._name} has {len(self)} frames, there is no frame {wrong[0]}.")
        done = 0
        try:
            try:
                for index, image in self._decode(left, short_side) if self._packets.is_timed else ():
                    if index != left[done]:  # the times in the file are wrong
                        break
                    yield image
                    done += 1
            except UnfitIndex:
                self._packets = self._read_packets()
                yield from self.stream(left[done:], short_side)
                return
            if done < len(left):
                yield from self._decode_all(left[done:], short_side)
        except av.FFmpegError as error:
            raise ValueError(f"{self._name} does not decode: {error}") from error

    def _open(
        self, options: dict[str, str] | None = None
    ) -> tuple[av.container.InputContainer, av.video.stream.VideoStream]:
        source = BytesIO(self._source) if isinstance(self._source, bytes) else self._source
        if not isinstance(source, str):
            source.seek(0)
        try:
            container = av.open(source, options=options or {})
            stream = container.streams.best("video")
        except FileNotFoundError:
            raise FileNotFoundError(f"{self._name} is not there.") from None
        except IndexError:  # PyAV tries to read the time base of a missing stream
            stream = None
        if stream is None or stream.codec_context is None:
            raise ValueError(f"{self._name} holds no video that can be decoded.")
        if stream.disposition & Disposition.attached_pic or container.format.name.endswith(_PICTURES):
            raise ValueError(f"{self._name} holds a picture and no video.")
        stream.codec_context.thread_count = 1
        return container, stream

    def _decode(self, indices: Sequence[int], short_side: int | None) -> Iterator[tuple[int, np.ndarray]]:
        """Decode the requested frames and yield their numbers and arrays in the order of decoding."""
        context = self._stream.codec_context
        can_skip = context.name == "h264"
        convert = _Converter(self._name, short_side)
        for packets, numbers in self._packets.segments(indices):
            skips = None
            try:
                # None makes the decoder return the frames that it has buffered
                for packet in chain(packets, [None]):
                    skip = can_skip and packet is not None and packet.pts not in numbers
                    if skip != skips:
                        context.skip_frame = "NONREF" if skip else "DEFAULT"
                        skips = skip
                    for frame in context.decode(packet):
                        for index in numbers.pop(frame.pts, ()):
                            yield index, convert(frame)
            finally:
                context.flush_buffers()

    def _read_packets(self) -> ReadPackets:
        """Return all packets of the file. Read the file if that was not done before."""
        if isinstance(self._packets, ReadPackets):
            return self._packets
        try:
            container, stream = self._open(_QUICKLY)
            if container.format.name not in TIMED_FORMATS:
                container, stream = self._open()
            packets = ReadPackets(container, stream, self._name)
        except av.FFmpegError as error:
            raise ValueError(f"{self._name} does not decode: {error}") from error
        return packets

    def _decode_all(self, indices: Sequence[int], short_side: int | None) -> Iterator[np.ndarray]:
        """Decode every frame from the first on and count the frames, as decord does."""
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


class ConstantRateReader:
    """View of a video with frames of different lengths as one with equal lengths: frame n is shown mid-interval n.

    A transform that samples frames by number, such as mmaction2's ``SampleFrames``, then samples them by time. The
    number of frames does not change; some frames are left out and others occur several times.

    Args:
        reader (VideoReader): The reader of the video.

    Raises:
        ValueError: If the file does not contain its duration.
    """

    def __init__(self, reader: VideoReader) -> None:
        if not reader.duration:
            raise ValueError("ConstantRateReader: the file does not contain its duration.")
        self._reader = reader
        self._rate = len(reader) / reader.duration

    def __len__(self) -> int:
        return len(self._reader)

    def get_avg_fps(self) -> float:
        """Return the frames per second."""
        return self._rate

    def read(self, indices: Sequence[int], short_side: int | None = None) -> list[np.ndarray]:
        """Decode frames, see :meth:`VideoReader.read`."""
        times = (np.asarray(indices, np.float64) + 0.5) / self._rate
        return self._reader.read(self._reader.numbers_at(times).tolist(), short_side)

    def get_batch(self, indices: Sequence[int]) -> "FrameBatch":
        """Decode frames, see :meth:`VideoReader.get_batch`."""
        return FrameBatch(self.read(indices))


class FrameBatch(NamedTuple):
    """Frames with the interface of decord's batches.

    Args:
        frames (list[np.ndarray]): One uint8 (H, W, 3) RGB array per frame.
    """

    frames: list[np.ndarray]

    def asnumpy(self) -> np.ndarray:
        """Return the frames, uint8 (N, H, W, 3)."""
        return np.stack(self.frames)


class _Converter:
    """Conversion of decoded frames to RGB arrays.

    Args:
        name (str): The name of the file in messages.
        short_side (int | None): Pixels of the shorter side of the arrays; None keeps the size of the frames.
    """

    def __init__(self, name: str, short_side: int | None) -> None:
        self._name = name
        self._short_side = short_side
        self._reformatter = VideoReformatter()  # one object for all frames: it is set up for the first frame

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """Convert a frame to uint8 (H, W, 3) RGB. The rows of the array may have gaps between them."""
        if frame.rotation % 90:
            raise ValueError(f"{self._name} is turned by {frame.rotation} degrees. Re-encode it upright.")
        if self._short_side is None:
            rgb = self._reformatter.reformat(frame, format="rgb24", threads=1)
        else:
            scale = self._short_side / min(frame.width, frame.height)
            width, height = round(frame.width * scale), round(frame.height * scale)
            # swscale widens its bilinear filter when it makes frames smaller
            rgb = self._reformatter.reformat(frame, width, height, format="rgb24", interpolation=_RESIZING, threads=1)
        plane, height, width = rgb.planes[0], rgb.height, rgb.width
        rows = np.frombuffer(plane, np.uint8, height * plane.line_size).reshape(height, plane.line_size)
        image = rows[:, : 3 * width].reshape(height, width, 3)
        return np.ascontiguousarray(np.rot90(image, frame.rotation // 90)) if frame.rotation else image
