"""Actions of persons over a whole video, drawn on its own frames."""

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
    """The frames of a video file at a constant rate, read once from the first to the last.

    Of a file whose frames have different lengths, frame n is the one that is shown in the middle of the n-th of equal
    parts of its time, as for ``maskfeat.OpenVideo``.

    Args:
        path (str): The file.

    Raises:
        ConfigError: If it is no video, has no frames or does not tell its rate.
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
            raise ConfigError(f"{path} has no frames, or does not tell their rate. Give another video.")
        self.rate = Fraction(rate).limit_denominator(1001)  # 29.97 frames per second are 30000 / 1001

    def __len__(self) -> int:
        return len(self._numbers)

    def frames(self) -> Iterator[np.ndarray]:
        """Decode all frames, one at a time.

        Yields:
            np.ndarray: RGB, uint8 (H, W, 3).

        Raises:
            ConfigError: If one does not decode.
        """
        numbers, counts = np.unique(self._numbers, return_counts=True)
        for frame, count in zip(self._stream(numbers.tolist()), counts.tolist(), strict=True):
            for _ in range(count):
                yield frame

    def clips(self, clips: Sequence[np.ndarray], short_side: int | None) -> Iterator[list[np.ndarray]]:
        """Decode clips that may overlap, each frame once. Only frames of the clips at hand are in memory.

        Args:
            clips (Sequence[np.ndarray]): Numbers of the frames of each clip, in the order of the video.
            short_side (int, optional): As for :meth:`.VideoReader.stream`.

        Yields:
            list[np.ndarray]: RGB, uint8 (H, W, 3) each.

        Raises:
            ConfigError: If one does not decode.
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

    A key frame every so many seconds has boxes; their actions are found from the clip around it, and drawn until the
    next key frame, for ``every`` seconds at most. Frames are read and written one at a time.

    Args:
        model (BaseModel): The model of action detection.
        inputs (ActionInputs): Its inputs.
        path (str): The video.
        boxes (Mapping[float, np.ndarray] | Callable[[np.ndarray], np.ndarray]): Boxes by their time, see
            :func:`.read_boxes`, or a detector that finds them on a frame, see :class:`.PersonDetector`.
        names (ClassNames): Names of the actions.
        out (Path): The mp4 file to write, of the rate and the number of frames of the video. Small videos are enlarged.
        every (float): Seconds from a key frame to the next. Defaults to 1.0.
        top (int): Actions of each box. Defaults to 3.

    Returns:
        Path: The file.

    Raises:
        ConfigError: If the video cannot be read, or the boxes are beyond its end.
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
                f"{title}: the detector has found nothing on {len(keys)} key frames; lower --least-score."
            )

    return write_video(out, tqdm(draw(), title, total=len(video), unit="frame"), video.rate)


def _given(boxes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Return boxes that are known, in the place of a detector."""
    return boxes


def _actions(model: BaseModel, sample: dict, names: ClassNames, top: int) -> list[str]:
    _, finding = find(model, sample, names, bgr=False, top=top)
    if not isinstance(finding, Located):
        raise ConfigError("the model gives classes and no actions of boxes. Give a config of action detection.")
    return finding.found.labels  # in the order of the boxes
