"""Inputs of a model that finds the actions of persons in boxes, built from a clip of any video and from boxes."""

from collections.abc import Sequence

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS, DefaultScope

from maskfeat_plugin.config.input_pipeline import DECODE_VIDEO, inference_pipeline, title_of
from maskfeat_plugin.config.origins import named_errors
from maskfeat_plugin.config.sample_sizes import class_name
from maskfeat_plugin.errors import ConfigError

_SAMPLE_AROUND = "SampleAVAFrames"
_DECODE = (*DECODE_VIDEO, "RawFrameDecode")  # transforms that decode a video or a folder of frames


def takes_boxes(pipeline: Sequence[dict]) -> bool:
    """Check whether a pipeline reads clips around key frames with boxes, as the pipelines for AVA do.

    Args:
        pipeline (Sequence[dict]): Configs of its transforms.
    """
    return any(class_name(transform) == _SAMPLE_AROUND for transform in pipeline)


def decoding(pipeline: Sequence[dict]) -> list[dict] | None:
    """Return the first transforms of a pipeline, which give whole decoded frames.

    Args:
        pipeline (Sequence[dict]): Configs of its transforms.

    Returns:
        list[dict] | None: The transforms up to the one that decodes; None if no transform decodes, or if the pipeline
        crops the frames, so that the boxes belong to a crop.
    """
    kinds = [class_name(transform) for transform in pipeline]
    steps = [number for number, kind in enumerate(kinds, start=1) if kind in _DECODE]
    return list(pipeline[: steps[0]]) if steps and not any("Crop" in kind for kind in kinds) else None


class ActionInputs:
    """Sampling and transforms of a config of action detection, for frames that other code decodes.

    Args:
        cfg (Config): The config.

    Raises:
        ConfigError: If the test pipeline of the config decodes no frames, crops them, or cannot be built.
    """

    def __init__(self, cfg: Config) -> None:
        steps = inference_pipeline(cfg)
        beginning = decoding(steps)
        if beginning is None:
            raise ConfigError(
                f"{title_of(cfg)}: the test pipeline decodes no frames, or crops them. Use a pipeline that decodes and "
                "resizes frames without cropping, as in configs/action_detection."
            )
        (sampling,) = [step for step in beginning if class_name(step) == _SAMPLE_AROUND]
        with named_errors(cfg, "cannot be built"), DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
            # mmaction2's SampleAVAFrames takes only whole seconds
            self._sample = TRANSFORMS.build(dict(sampling, type="maskfeat.SampleAVAFrames", test_mode=True))
            self._transform = Compose([TRANSFORMS.build(step) for step in steps[len(beginning) :]])
        self.short_side: int | None = beginning[-1].get("short_side")

    def frames_around(self, key_frame: int, count: int, rate: float) -> np.ndarray:
        """Choose the frames of a clip.

        Args:
            key_frame (int): Number of the frame that has the boxes.
            count (int): Number of frames of the video. A clip that extends beyond its start or end repeats the first or
                last frame.
            rate (float): Frames per second.

        Returns:
            np.ndarray: int32 (T,), numbers of the frames in ascending order; a number may repeat.
        """
        place = dict(timestamp=key_frame / rate, timestamp_start=0, fps=rate, total_frames=count, start_index=0)
        return self._sample(place)["frame_inds"]

    def pack(self, frames: Sequence[np.ndarray], boxes: np.ndarray) -> dict:
        """Transform a clip and its boxes.

        Args:
            frames (Sequence[np.ndarray]): Frames, RGB, uint8 (H, W, 3) each.
            boxes (np.ndarray): float (K, 4) x1, y1, x2, y2 as fractions of the frame.

        Returns:
            dict: Packed ``inputs`` and ``data_samples``.
        """
        height, width = frames[0].shape[:2]
        pixels = (boxes * np.array([width, height, width, height])).astype(np.float32)
        return self._transform(
            dict(
                imgs=list(frames),
                original_shape=(height, width),
                img_shape=(height, width),
                num_clips=1,
                clip_len=len(frames),
                modality="RGB",
                # mmaction2 transforms proposals only together with annotated boxes
                gt_bboxes=pixels,
                gt_labels=np.zeros((len(boxes), 1), np.float32),
                proposals=pixels.copy(),
            )
        )
