"""Videos with the actions of persons drawn on their frames."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from mmengine.model import BaseModel
from tqdm import tqdm

from maskfeat_plugin.datasets.folders import printable
from maskfeat_plugin.datasets.video_reader import VideoReader
from maskfeat_plugin.errors import ConfigError, reading
from maskfeat_plugin.visualization.animation import write_video
from maskfeat_plugin.visualization.boxes import draw_labelled_boxes, enlarge_to

from .action_inputs import ActionInputs
from .class_names import ClassNames
from .fine_tuned import find
from .model_outputs import Located
from .persons import choose_key_frames


class Video:
    """Frames of a video file at a constant rate, read once from the first to the last.

    If the frames of a file have different durations, the time of the file is divided into equal parts, and frame n is
    the frame that is shown in the middle of part n. ``maskfeat.OpenVideo`` does the same.

    Args:
        path (str): The file.

    Raises:
        ConfigError: If the file is not a video, has no frames or has no frame rate.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        with reading(path, "cannot be read"):
            reader = VideoReader(path, path)
            rate = reader.get_avg_fps()
            self._numbers = np.arange(len(reader))
            if len(reader) and reader.duration and reader.has_variable_rate():
                rate = len(reader) / reader.duration
                self._numbers = reader.numbers_at((self._numbers + 0.5) / rate)
        if not len(self._numbers) or not rate:
            raise ConfigError(f"{path} has no frames or no frame rate. Give another video.")
        self.rate = Fraction(rate).limit_denominator(1001)  # 29.97 frames per second are 30000 / 1001

    def __len__(self) -> int:
        return len(self._numbers)

    def frames(self) -> Iterator[np.ndarray]:
        """Decode all frames, one at a time.

        Yields:
            np.ndarray: RGB, uint8 (H, W, 3).

        Raises:
            ConfigError: If a frame cannot be decoded.
        """
        numbers, counts = np.unique(self._numbers, return_counts=True)
        for frame, count in zip(self._stream(numbers.tolist()), counts.tolist(), strict=True):
            for _ in range(count):
                yield frame

    def clips(self, clips: Sequence[np.ndarray], short_side: int | None) -> Iterator[list[np.ndarray]]:
        """Decode clips that may overlap. Each frame is decoded once, and only the frames of one clip are in memory.

        Args:
            clips (Sequence[np.ndarray]): Numbers of the frames of each clip, in the order of the video.
            short_side (int, optional): See :meth:`.VideoReader.stream`.

        Yields:
            list[np.ndarray]: Frames of a clip, RGB, uint8 (H, W, 3) each.

        Raises:
            ConfigError: If a frame cannot be decoded.
        """
        wanted = [self._numbers[clip] for clip in clips]
        numbers = np.unique(np.concatenate(wanted)).tolist()
        stream = zip(numbers, self._stream(numbers, short_side), strict=True)
        held: dict[int, np.ndarray] = {}
        for clip in wanted:
            held = {number: frame for number, frame in held.items() if number >= clip[0]}
            while clip[-1] not in held:
                number, frame = next(stream)
                held[number] = frame
            yield [held[number] for number in clip]

    def _stream(self, numbers: Sequence[int], short_side: int | None = None) -> Iterator[np.ndarray]:
        with reading(self._path, "cannot be read"):
            yield from VideoReader(self._path, self._path).stream(numbers, short_side)


def write_actions(
    model: BaseModel,
    inputs: ActionInputs,
    path: str,
    boxes: Mapping[float, np.ndarray] | Callable[[np.ndarray], np.ndarray],
    names: ClassNames,
    out: Path,
    every: float = 1.0,
    top: int = 3,
) -> Path:
    """Write a video with the actions of persons on its frames.

    Key frames have boxes. The model finds the actions in the boxes from the clip around the key frame. They are drawn
    until the next key frame, but for at most ``every`` seconds. Frames are read and written one at a time.

    Args:
        model (BaseModel): The model of action detection.
        inputs (ActionInputs): Sampling and transforms of its inputs.
        path (str): The video.
        boxes (Mapping[float, np.ndarray] | Callable[[np.ndarray], np.ndarray]): Boxes by time, see :func:`.read_boxes`,
            or a detector that finds the boxes of a frame, see :class:`.PersonDetector`.
        names (ClassNames): Names of the actions.
        out (Path): The mp4 file to write. It has the same rate and number of frames as the video. Small videos are
            enlarged.
        every (float): Seconds from one key frame to the next. Defaults to 1.0.
        top (int): Number of actions of each box. Defaults to 3.

    Returns:
        Path: The file.

    Raises:
        ConfigError: If the video cannot be read, or the times of all boxes are beyond its end.
        WriteError: If the file cannot be written.
    """
    video, title = Video(path), printable(Path(path).name)
    rate = float(video.rate)
    if callable(boxes):
        numbers = np.unique((np.arange(0, len(video) / rate, every) * rate).round().astype(int))
        keys = dict.fromkeys(numbers[numbers < len(video)].tolist(), boxes)
    else:
        chosen = choose_key_frames(boxes, len(video), rate, every, title)
        keys = {number: partial(_given, of_frame) for number, of_frame in chosen.items()}
    clips = video.clips([inputs.frames_around(key, len(video), rate) for key in keys], inputs.short_side)

    def draw() -> Iterator[np.ndarray]:
        seen, until, total = np.zeros((0, 4)), 0.0, 0
        labels: list[str] = []
        for number, frame in enumerate(video.frames()):
            if number in keys:
                seen, clip = keys[number](frame), next(clips)
                labels = _actions(model, inputs.pack(clip, seen), names, top) if len(seen) else []
                until, total = number + every * rate, total + len(seen)
            elif number >= until - 0.5:
                seen, labels = np.zeros((0, 4)), []
            picture = enlarge_to(frame)
            height, width = picture.shape[:2]
            yield draw_labelled_boxes(picture, seen * [width, height, width, height], labels)
        if not total:
            logging.getLogger(__name__).warning(
                f"{title}: the detector has found nothing on {len(keys)} key frames. Give a lower --least-score."
            )

    return write_video(out, tqdm(draw(), title, total=len(video), unit="frame"), video.rate)


def _given(boxes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Return known boxes; used like a detector."""
    return boxes


def _actions(model: BaseModel, sample: dict, names: ClassNames, top: int) -> list[str]:
    _, finding = find(model, sample, names, bgr=False, top=top)
    if not isinstance(finding, Located):
        raise ConfigError("the model gives classes instead of actions in boxes. Give a config of action detection.")
    return finding.found.labels  # in the order of the boxes
