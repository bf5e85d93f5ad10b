"""Transform that samples the frames around an AVA-style timestamp."""

import numpy as np
from mmaction.datasets.transforms import SampleAVAFrames as _SampleAVAFrames

from maskfeat_plugin.registry import TRANSFORMS

from ..sample_paths import sample_path


@TRANSFORMS.register_module()
class SampleAVAFrames(_SampleAVAFrames):
    """``mmaction.SampleAVAFrames`` centred on the annotated frame. A wrong frame number is an error.

    mmaction2's class adds ``start_index`` twice, so clips of raw frames are centred one frame after the annotated one.
    It also uses the first or last frame if a timestamp is outside of the video. Here, frame ``clip_len // 2`` of a test
    clip is the key frame: number ``fps * (timestamp - timestamp_start)`` of the video.

    Args:
        clip_len (int): Number of frames of a clip.
        frame_interval (int): Distance between two frames. Defaults to 2.
        test_mode (bool): Whether the frames are evenly spaced. Otherwise each frame is moved at random by at most half
            of the interval. Defaults to False.
        target_fps (float, optional): Frame rate in which ``frame_interval`` counts, in frames per second, so that clips
            of all files span the same time. Defaults to None, the rate of the file.

    Raises:
        ValueError: If the key frame is outside of the video, or half a second or more away from its place at the frame
            rate of the video file. With ``fps=1`` a data set counts frames instead of seconds, and the rate is not
            compared. Also if ``fps`` is None and the file does not contain its rate.
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
            results (dict): A sample with ``timestamp``, ``timestamp_start`` (seconds), ``fps`` and ``start_index``. For
                a video file, also ``total_frames`` and perhaps ``avg_fps``, which is used if ``fps`` is None.

        Returns:
            dict: The sample with ``frame_inds``, int32 (clip_len,).
        """
        fps = results["fps"]
        if fps is None:
            fps = results.get("avg_fps")
            if not fps:
                raise ValueError(
                    f"{sample_path(results) or 'clip'} does not contain its frame rate. Set fps of the data set."
                )
        seconds = results["timestamp"] - results["timestamp_start"]
        key_frame = round(fps * seconds)
        self._check(results, fps, seconds, key_frame)
        # mmaction2's method gets numbers that count from 0
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
        """Return the positions of a clip's frames relative to the key frame, in frames of ``target_fps``."""
        steps = (np.arange(self.clip_len) - self.clip_len // 2) * self.frame_interval
        if self.test_mode:
            return steps
        # moved by fractions of a frame, as in mmaction2
        return steps + self.frame_interval * (np.random.rand(self.clip_len) - 0.5)

    @staticmethod
    def _check(results: dict, fps: float, seconds: float, key_frame: int) -> None:
        name = sample_path(results) or "clip"
        frames = results.get("total_frames") or results["shot_info"][1]
        if not 0 <= key_frame < frames:
            raise ValueError(
                f"{name}: timestamp {results['timestamp']} is frame {key_frame} of {frames}, with fps={fps} and "
                f"timestamp_start={results['timestamp_start']} of the data set. Set them as the annotations count."
            )
        rate = results.get("avg_fps")
        if rate and fps != 1 and abs(rate - fps) * seconds >= 0.5 * rate:
            raise ValueError(
                f"{name} has {rate:.5g} frames per second, the data set fps={fps}: the clip of timestamp "
                f"{results['timestamp']} would be off by {abs(fps / rate - 1) * seconds:.1f} s. Set fps={rate:.5g} or "
                "convert the files."
            )
