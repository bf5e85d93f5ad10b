"""From a clip of any video and boxes to the input of a model that finds the actions of persons in boxes."""

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
_DECODE = (*DECODE_VIDEO, "RawFrameDecode")  # of a video or of a folder


def takes_boxes(pipeline: Sequence[dict]) -> bool:
    """Check whether a pipeline reads clips around the key frames of boxes, as those of AVA do.

    Args:
        pipeline (Sequence[dict]): Configs of its transforms.
    """
    return any(class_name(transform) == _SAMPLE_AROUND for transform in pipeline)


def decoding(pipeline: Sequence[dict]) -> list[dict] | None:
    """Return the beginning of a pipeline that gives the whole decoded frames.

    Args:
        pipeline (Sequence[dict]): Configs of its transforms.

    Returns:
        list[dict] | None: Its transforms up to the one that decodes; None if there is none, or if the model's boxes are
        of a crop of these frames.
    """
    kinds = [class_name(transform) for transform in pipeline]
    steps = [number for number, kind in enumerate(kinds, start=1) if kind in _DECODE]
    return list(pipeline[: steps[0]]) if steps and not any("Crop" in kind for kind in kinds) else None


class ActionInputs:
    """The sampling and the transforms of a config of action detection, for frames that are decoded elsewhere.

    Args:
        cfg (Config): The config.

    Raises:
        ConfigError: If its test pipeline decodes no frames, crops them, or cannot be built.
    """

    def __init__(self, cfg: Config) -> None:
        steps = inference_pipeline(cfg)
        beginning = decoding(steps)
        if beginning is None:
            raise ConfigError(
                f"{title_of(cfg)}: the test pipeline decodes no frames or crops them. Use one that decodes and resizes "
                "them, as those of configs/action_detection do."
            )
        (sampling,) = [step for step in beginning if class_name(step) == _SAMPLE_AROUND]
        with named_errors(cfg, "cannot be built"), DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
            # mmaction2's takes whole seconds only
            self._sample = TRANSFORMS.build(dict(sampling, type="maskfeat.SampleAVAFrames", test_mode=True))
            self._transform = Compose([TRANSFORMS.build(step) for step in steps[len(beginning) :]])
        self.short_side: int | None = beginning[-1].get("short_side")

    def frames_around(self, key_frame: int, count: int, rate: float) -> np.ndarray:
        """Choose the frames of a clip.

        Args:
            key_frame (int): Number of the frame that boxes are of.
            count (int): Frames of the video; before the first and after the last one these are repeated.
            rate (float): Frames per second.

        Returns:
            np.ndarray: int32 (T,), numbers of the frames, none smaller than the one before.
        """
        place = dict(timestamp=key_frame / rate, timestamp_start=0, fps=rate, total_frames=count, start_index=0)
        return self._sample(place)["frame_inds"]

    def pack(self, frames: Sequence[np.ndarray], boxes: np.ndarray) -> dict:
        """Transform a clip and its boxes.

        Args:
            frames (Sequence[np.ndarray]): RGB, uint8 (H, W, 3) each.
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
                # mmaction2 moves proposals with annotated boxes only
                gt_bboxes=pixels,
                gt_labels=np.zeros((len(boxes), 1), np.float32),
                proposals=pixels.copy(),
            )
        )
