"""Frames around an AVA-style timestamp."""

from mmaction.datasets.transforms import SampleAVAFrames as _SampleAVAFrames

from maskfeat_plugin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class SampleAVAFrames(_SampleAVAFrames):
    """``mmaction.SampleAVAFrames`` centred on the annotated frame, or an error.

    Upstream's adds ``start_index`` twice, so that clips of raw frames are centred one frame after the annotated one,
    and takes the first or last frame where a timestamp is outside of the video. Frame ``clip_len // 2`` of a test clip
    is the key frame, number ``fps * (timestamp - timestamp_start)`` of the video.

    Args: those of ``mmaction.SampleAVAFrames``.

    Raises:
        ValueError: If the key frame is outside of the video, or half a second or more from where the rate of the video
            file puts it. A data set of ``fps=1`` counts frames instead of seconds, its rate is not compared.
    """

    def transform(self, results: dict) -> dict:
        """Choose the frames.

        Args:
            results (dict): With ``timestamp``, ``timestamp_start`` (seconds), ``fps``, ``start_index`` and, of a video
                file, ``total_frames`` and perhaps ``avg_fps``.

        Returns:
            dict: With ``frame_inds``, int32 (clip_len,).
        """
        seconds = results["timestamp"] - results["timestamp_start"]
        key_frame = round(results["fps"] * seconds)
        self._check(results, seconds, key_frame)
        # upstream counts from 0 here
        from_zero = dict(fps=1, timestamp=key_frame, timestamp_start=0, start_index=0)
        counted = super().transform({**results, **from_zero})
        counted["frame_inds"] += results.get("start_index", 0)
        kept = {key: results[key] for key in from_zero if key in results}
        results.update({**counted, **kept})
        return results

    @staticmethod
    def _check(results: dict, seconds: float, key_frame: int) -> None:
        name = results.get("filename") or results.get("frame_dir", "clip")
        frames = results.get("total_frames") or results["shot_info"][1]
        fps = results["fps"]
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
