"""Frames around an AVA-style timestamp."""

import numpy as np
from mmaction.datasets.transforms import SampleAVAFrames as _SampleAVAFrames

from maskfeat_plugin.registry import TRANSFORMS

from ..sample_paths import sample_path


@TRANSFORMS.register_module()
class SampleAVAFrames(_SampleAVAFrames):
    """``mmaction.SampleAVAFrames`` centred on the annotated frame, or an error.

    Upstream's adds ``start_index`` twice, so that clips of raw frames are centred one frame after the annotated one,
    and takes the first or last frame where a timestamp is outside of the video. Frame ``clip_len // 2`` of a test clip
    is the key frame, number ``fps * (timestamp - timestamp_start)`` of the video.

    Args:
        clip_len (int): Frames of a clip.
        frame_interval (int): Frames from one to the next. Defaults to 2.
        test_mode (bool): Whether the frames are evenly spaced; else each is moved at random, by half of the interval at
            most. Defaults to False.
        target_fps (float, optional): Rate that ``frame_interval`` counts in, frames a second, so that clips of all
            files span the same time. Defaults to None, the rate of the file.

    Raises:
        ValueError: If the key frame is outside of the video, or half a second or more from where the rate of the video
            file puts it. A data set of ``fps=1`` counts frames instead of seconds, its rate is not compared. If the
            rate is that of the file (``fps=None``) and the file does not tell it.
    """

    def __init__(
        self, clip_len: int, frame_interval: int = 2, test_mode: bool = False, target_fps: float | None = None
    ) -> None:
        if target_fps is not None and not target_fps > 0:
            raise ValueError(f"SampleAVAFrames: target_fps={target_fps!r} must be a number above 0, or None.")
        super().__init__(clip_len, frame_interval, test_mode)
        self.target_fps = target_fps

    def transform(self, results: dict) -> dict:
        """Choose the frames.

        Args:
            results (dict): With ``timestamp``, ``timestamp_start`` (seconds), ``fps``, ``start_index`` and, of a video
                file, ``total_frames`` and perhaps ``avg_fps``, which stands in for ``fps=None``.

        Returns:
            dict: With ``frame_inds``, int32 (clip_len,).
        """
        fps = results["fps"]
        if fps is None:
            fps = results.get("avg_fps")
            if not fps:
                raise ValueError(f"{sample_path(results) or 'clip'} does not tell its rate; set fps of the data set.")
        seconds = results["timestamp"] - results["timestamp_start"]
        key_frame = round(fps * seconds)
        self._check(results, fps, seconds, key_frame)
        # upstream counts from 0 here
        from_zero = dict(fps=1, timestamp=key_frame, timestamp_start=0, start_index=0)
        counted = super().transform({**results, **from_zero})
        if self.target_fps is not None:
            last = (results.get("total_frames") or results["shot_info"][1]) - 1
            steps = self._steps() * fps / self.target_fps
            counted["frame_inds"] = np.clip(key_frame + np.round(steps), 0, last).astype(np.int32)
        counted["frame_inds"] += results.get("start_index", 0)
        kept = {key: results[key] for key in from_zero if key in results}
        results.update({**counted, **kept})
        return results

    def _steps(self) -> np.ndarray:
        """Frames of a clip from the key frame on, in frames of ``target_fps``."""
        steps = (np.arange(self.clip_len) - self.clip_len // 2) * self.frame_interval
        if self.test_mode:
            return steps
        # as upstream, in fractions of a frame
        return steps + self.frame_interval * (np.random.rand(self.clip_len) - 0.5)

    @staticmethod
    def _check(results: dict, fps: float, seconds: float, key_frame: int) -> None:
        name = sample_path(results) or "clip"
        frames = results.get("total_frames") or results["shot_info"][1]
        if not 0 <= key_frame < frames:
            raise ValueError(
                f"{name}: timestamp {results['timestamp']} is frame {key_frame} of {frames}, with fps={fps} and "
                f"timestamp_start={results['timestamp_start']} of the data set; set them as the annotations count."
            )
        rate = results.get("avg_fps")
        if rate and fps != 1 and abs(rate - fps) * seconds >= 0.5 * rate:
            raise ValueError(
                f"{name} has {rate:.5g} frames a second, the data set fps={fps}: the clip of timestamp "
                f"{results['timestamp']} would be off by {abs(fps / rate - 1) * seconds:.1f} s; set fps={rate:.5g} or "
                "convert the files."
            )
