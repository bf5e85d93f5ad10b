"""Reader of clips at chosen times of videos. It opens a file, even a long one, only once for all of its clips."""

import math
import random
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS, DefaultScope

from maskfeat_plugin.config.input_kinds import OPEN_VIDEO
from maskfeat_plugin.config.input_pipeline import DECODE_VIDEO, inference_pipeline, title_of
from maskfeat_plugin.config.origins import named_errors
from maskfeat_plugin.config.sample_sizes import class_name
from maskfeat_plugin.datasets.transforms.decoding import OpenVideo
from maskfeat_plugin.datasets.video_reader import VideoReader
from maskfeat_plugin.errors import ConfigError, describe
from maskfeat_plugin.evaluation.features import preserved_random_state

# Number of windows whose frames are decoded together: decoding starts at the key frame before the first of them
_TOGETHER = 64
# Largest rounding error of the times of frames, in seconds
_ROUNDING = 1e-3


class ClipReader:
    """Reader of clips at chosen times. Clips go through the pipeline of a config without its random transforms.

    The sampling transform of the pipeline defines the frames of a clip: ``clip_len`` frames at a distance of
    ``frame_interval``, or, with ``target_fps``, frames from ``clip_len * frame_interval / target_fps`` seconds. Frames
    are chosen by the times at which the file shows them, so the frame rate may vary. A clip that extends beyond the
    start or the end of the file is moved into the file. If the file is shorter than a clip, its last frame is repeated.

    Args:
        cfg (Config): The config.

    Raises:
        ConfigError: If the pipeline of the config takes no clips from video files, or its transforms cannot be built.
    """

    def __init__(self, cfg: Config) -> None:
        pipeline = inference_pipeline(cfg)
        kinds = [class_name(transform) for transform in pipeline]
        opening = next((i for i, kind in enumerate(kinds) if kind in OPEN_VIDEO), None)
        decoding = next((i for i, kind in enumerate(kinds) if kind in DECODE_VIDEO), None)
        sampling = [step for step in pipeline[opening:decoding] if "clip_len" in step] if decoding is not None else []
        if opening is None or decoding is None or not sampling:
            known = ", ".join(OPEN_VIDEO)
            raise ConfigError(
                f"the pipeline of {title_of(cfg)} takes no clips from video files: it needs one of {known}, then "
                "SampleFrames and a decoder. Give a config for videos."
            )
        if "Uniform" in class_name(sampling[0]):
            raise ConfigError(
                f"the pipeline of {title_of(cfg)}: {class_name(sampling[0])} spreads a clip over a whole file, so "
                "there are no clips at chosen times. Give a config with SampleFrames."
            )
        self._length = sampling[0]["clip_len"]
        self._interval = sampling[0].get("frame_interval", 1)
        self._rate = sampling[0].get("target_fps")
        self._short_side = pipeline[decoding].get("short_side")
        with named_errors(cfg, "cannot be built"), DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
            self._open = OpenVideo(pipeline[opening].get("io_backend", "disk"))
            self._before = Compose([TRANSFORMS.build(step) for step in pipeline[:opening]])
            self._after = Compose([TRANSFORMS.build(step) for step in pipeline[decoding + 1 :]])

    def read_windows(self, path: str, seconds: float) -> Iterator[tuple[dict, tuple[float, float]]]:
        """Read a clip from the middle of each window of a file.

        Args:
            path (str): The file.
            seconds (float): Length of the windows; the last one ends with the file.

        Yields:
            tuple[dict, tuple[float, float]]: A packed clip, and the seconds at which its window starts and ends.

        Raises:
            ValueError: If the file cannot be read.
        """
        sample, times = self._start(path)
        # a rest of the file that is not longer than one frame does not count as a window
        count = max(1, math.ceil((times[-2] - _ROUNDING) / seconds))
        edges = [*(i * seconds for i in range(count)), float(times[-1])]
        windows = list(pairwise(edges))
        clips = [self._choose(times, (start + end) / 2) for start, end in windows]
        for begin in range(0, count, _TOGETHER):
            chosen = clips[begin : begin + _TOGETHER]
            frames = _read_clips(sample["video_reader"], chosen, self._short_side)
            for window, indices, images in zip(windows[begin:], chosen, frames, strict=False):
                yield self._pack(sample, indices, images, f"{path} {window[0]}"), window

    def read_clip(self, path: str, seconds: float) -> dict:
        """Read one clip.

        Args:
            path (str): The file.
            seconds (float): Middle of the clip, in seconds from the first frame of the file.

        Returns:
            dict: The packed clip.

        Raises:
            ConfigError: If the file cannot be read, or is shorter than ``seconds``.
        """
        try:
            sample, times = self._start(path)
            if not 0 <= seconds <= times[-1]:
                raise ConfigError(
                    f"{path} has {times[-1]:.2f} seconds; there is no clip at {seconds:g}. Change the time."
                )
            indices = self._choose(times, seconds)
            images = sample["video_reader"].read(indices, self._short_side)
            return self._pack(sample, indices, images, f"{path} {seconds}")
        except ConfigError:
            raise
        except Exception as error:  # decoders and transforms of other packages may raise anything
            raise ConfigError(f"{path} cannot be read: {describe(error)}") from error

    def _start(self, path: str) -> tuple[dict, np.ndarray]:
        """Open a file, and return it with the start times of its frames, followed by the end of the last frame."""
        sample = self._before(dict(filename=path, start_index=0, modality="RGB"))
        reader = self._open.open_file(sample["filename"])
        sample.update(video_reader=reader, total_frames=len(reader), avg_fps=reader.get_avg_fps())
        times = reader.get_frame_times()
        mean = times[-1, 0] / (len(times) - 1) if len(times) > 1 else 1 / (reader.get_avg_fps() or 1.0)
        return sample, np.append(times[:, 0], max(times[-1, 1], times[-1, 0] + mean))

    def _choose(self, times: np.ndarray, centre: float) -> np.ndarray:
        """Choose the numbers of the frames of a clip, in order."""
        count = len(times) - 1
        if self._rate:
            span = self._length * self._interval / self._rate
            start = max(0.0, min(centre - span / 2, times[-1] - span))
            # like SampleFrames and the authors, who include the last frame of the span
            moments = start + np.linspace(0, max(0.0, span - times[-1] / count), self._length)
            indices = np.searchsorted(times[:-1], moments + _ROUNDING, side="right") - 1
        else:
            span = (self._length - 1) * self._interval + 1
            position = np.interp(centre, times, np.arange(count + 1))
            start = max(0, min(math.floor(position - span / 2 + _ROUNDING), count - span))
            indices = start + np.arange(self._length) * self._interval
        return indices.clip(0, count - 1)

    def _pack(self, sample: dict, indices: np.ndarray, images: list[np.ndarray], seed: str) -> dict:
        shape = images[0].shape[:2]
        clip = dict(sample, frame_inds=indices.astype(np.int32), clip_len=self._length, num_clips=1)
        clip.update(frame_interval=self._interval, imgs=images, original_shape=shape, img_shape=shape)
        del clip["video_reader"]
        number = zlib.crc32(seed.encode("utf-8", "surrogateescape"))
        with preserved_random_state():
            random.seed(number)
            np.random.seed(number)
            torch.manual_seed(number)
            return self._after(clip)


def _read_clips(reader: VideoReader, clips: Sequence[np.ndarray], short_side: int | None) -> Iterator[list[np.ndarray]]:
    """Yield the frames of clips, which are in the order of their first frames. Hold only the frames of one clip."""
    wanted = sorted({int(index) for clip in clips for index in clip})
    frames = zip(wanted, reader.stream(wanted, short_side), strict=True)
    held: dict[int, np.ndarray] = {}
    for clip in clips:
        held = {index: image for index, image in held.items() if index >= clip[0]}
        while clip[-1] not in held:
            index, image = next(frames)
            held[index] = image
        yield [held[int(index)].copy() for index in clip]  # transforms may change frames that other clips use too
