"""Extraction of a video's frames to JPEG files at a fixed rate, numbered as AVA's raw frames."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from maskfeat_plugin.datasets import VideoReader
from maskfeat_plugin.errors import WriteError
from maskfeat_plugin.files import move_into_place, naming, unfinished_path

from .files import list_names
from .readable import check_image

NAME = "img_{:05d}.jpg"
_QUALITY = 95
# Matroska rounds times to milliseconds. The value is small and odd, so that at no common rate a frame begins there.
_TOLERANCE = 0.002  # seconds


@dataclass(frozen=True)
class FrameJob:
    """Frames to extract from a video.

    Args:
        video (str): The file.
        folder (str): The folder of the frames. ``img_00001.jpg`` is the frame at second ``start``.
        last_key (int): Last second with an annotation; the video has to reach it.
        start (int): First second. Defaults to 900.
        end (int): The second before which the frames end. Defaults to 1800.
        short_side (int, optional): Maximum of the frames' shorter side in pixels. Defaults to None, the video's size.
        fps (int): Frames per second. Defaults to 30.
        margin (int): Seconds after ``last_key`` that clips can reach. Defaults to 3.
    """

    video: str
    folder: str
    last_key: int
    start: int = 900
    end: int = 1800
    short_side: int | None = None
    fps: int = 30
    margin: int = 3

    @property
    def needed(self) -> int:
        """Return the number of frames that clips read."""
        return min(self.end - self.start, self.last_key - self.start + self.margin) * self.fps


@dataclass(frozen=True)
class Frames:
    """Result of a job.

    Args:
        reason (str, optional): The reason why there are no frames. Defaults to None.
        repeated (int): How often the last frame is repeated after the end of the video. Defaults to 0.
    """

    reason: str | None = None
    repeated: int = 0


def has_frames(job: FrameJob) -> bool:
    """Check whether the folder has all necessary frames."""
    folder = Path(job.folder)
    if not folder.is_dir() or not (folder / NAME.format(job.needed)).is_file():
        return False
    return len(list_names(folder, (".jpg",))) >= job.needed


def check_frames(job: FrameJob, level: str) -> str | None:
    """Check the necessary frames. "fast": the first and the last one; "full": every pixel of all frames.

    Returns:
        str | None: The name of a frame that cannot be read and the reason, or None.
    """
    for number in range(1, job.needed + 1) if level == "full" else (1, job.needed):
        name = NAME.format(number)
        reason = check_image(os.path.join(job.folder, name), level)
        if reason is not None:
            return f"{name}: {reason}"
    return None


def extract_frames(job: FrameJob) -> Frames:
    """Extract frames. The folder gets its name only when it is complete. An existing incomplete folder is replaced.

    Frame ``n``, counted from 0, is the frame that the video shows at ``start + n / fps`` seconds. The first frame of
    the video is shown at second 0.

    Args:
        job (FrameJob): The job.

    Returns:
        Frames: The result.

    Raises:
        WriteError: If the frames cannot be written, for example on a full disk. No frames are left then.
    """
    folder = Path(job.folder)
    unfinished = unfinished_path(folder)
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        reader = VideoReader(job.video, os.path.basename(job.video))
        times = reader.get_frame_times()
        shown = frames_shown(times, job)
        if len(shown) <= (job.last_key - job.start) * job.fps:
            return Frames(f"it ends at {times[-1, 1]:.1f} s, before its last annotated second {job.last_key}")
        repeated = max(0, job.needed - len(shown))
        unfinished.mkdir(parents=True)
        _write_frames(reader, np.append(shown, np.repeat(shown[-1:], repeated)), unfinished, job.short_side)
    except BaseException as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if isinstance(error, ValueError | FileNotFoundError) and not isinstance(error, WriteError):
            return Frames(str(error))
        raise
    move_into_place(unfinished, folder)
    return Frames(repeated=repeated)


def frames_shown(times: np.ndarray, job: FrameJob) -> np.ndarray:
    """Compute the video's frame number for each extracted frame, up to the end of the video.

    The tolerance has the effect that a video of the same rate is extracted frame by frame, although its times are
    rounded.

    Args:
        times (np.ndarray): float64 (N, 2), seconds at which each frame of the video begins and ends.
        job (FrameJob): The job.

    Returns:
        np.ndarray: int (M,), never decreasing.
    """
    slots = job.start + np.arange((job.end - job.start) * job.fps) / job.fps
    slots = slots[slots < times[-1, 1]]
    return np.maximum(np.searchsorted(times[:, 0], slots + _TOLERANCE) - 1, 0)


def _write_frames(reader: VideoReader, shown: np.ndarray, folder: Path, short_side: int | None) -> None:
    """Write a file for each number, in order. A frame that occurs several times is decoded once."""
    numbers, counts = np.unique(shown, return_counts=True)
    written = 0
    for image, count in zip(reader.stream(numbers.tolist()), counts, strict=True):
        encoded = _encode(image, short_side)
        for _ in range(count):
            written += 1
            with naming(folder):
                (folder / NAME.format(written)).write_bytes(encoded)


def _encode(image: np.ndarray, short_side: int | None) -> bytes:
    height, width = image.shape[:2]
    if short_side is not None and short_side < min(height, width):
        scale = short_side / min(height, width)
        image = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return encoded.tobytes()
