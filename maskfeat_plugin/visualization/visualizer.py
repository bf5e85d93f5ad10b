"""Visualizer for mmengine that draws predictions of MaskFeat."""

from pathlib import Path

import numpy as np
from mmengine.dist import master_only
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer
from numpy.typing import ArrayLike
from torch import nn

from maskfeat_plugin.registry import VISUALIZERS

from .animation import STILL, check_ending, write_frames
from .attention import draw_heat
from .panels import compose, pick, strip
from .prediction import draw_prediction


@VISUALIZERS.register_module()
class MaskFeatVisualizer(Visualizer):
    """Visualizer of predictions of :class:`MaskFeat`: masked input, prediction, target, original.

    Args:
        name (str): Name of the instance. Defaults to "visualizer".
        max_frames (int, optional): Largest number of time steps of a clip in a picture. They are evenly spaced and side
            by side. Defaults to None: all time steps.
        fps (float): Time steps per second in animated GIFs and mp4 files. Defaults to 4.0.
        **kwargs: Arguments of ``mmengine.Visualizer``, such as ``vis_backends`` and ``save_dir``.
    """

    def __init__(
        self, name: str = "visualizer", max_frames: int | None = None, fps: float = 4.0, **kwargs: object
    ) -> None:
        super().__init__(name, **kwargs)
        self.max_frames = max_frames
        self.fps = fps

    @master_only
    def add_datasample(
        self,
        name: str,
        image: ArrayLike,
        data_sample: BaseDataElement,
        target_generator: nn.Module,
        show: bool = False,
        wait_time: float = 0.0,
        out_file: str | Path | None = None,
        step: int = 0,
    ) -> np.ndarray:
        """Draw a prediction and send the picture to all backends.

        Args:
            name (str): Name of the picture for the backends.
            image (ArrayLike): Frames of the model's input before normalisation, (T, H, W, C), or an image (H, W, C),
                see :func:`unnormalize`.
            data_sample (BaseDataElement): Result of :meth:`MaskFeat.predict`. If it has ``attention``, a heat map
                (T', H', W') from :func:`attention_rollout`, this is drawn too.
            target_generator (nn.Module): Target generator of the model.
            show (bool): Whether to open a window with the picture. Defaults to False.
            wait_time (float): Seconds to show the window; 0 until the user closes it. Defaults to 0.0.
            out_file (str | Path, optional): File to write as well: a picture (.png, .jpg, .jpeg, .webp), or an
                animation of the time steps of a clip (.gif, .mp4). Defaults to None.
            step (int): Training step for the backends. Defaults to 0.

        Returns:
            np.ndarray: The picture, RGB, uint8 (height, width, 3); None on all processes but the first.

        Raises:
            ConfigError: If the ending of ``out_file`` is unknown.
            WriteError: If ``out_file`` cannot be written, for example because the disk is full.
            ValueError: If the image, the sample and the target generator do not fit each other.
        """
        ending = None if out_file is None else check_ending(out_file)
        pictures = draw_prediction(image, data_sample, target_generator)
        if "attention" in data_sample:
            original = pictures.pop("original")
            heat = draw_heat(image, data_sample.attention, original.shape[2] // np.shape(image)[-2])
            pictures |= {"attention": heat, "original": original}
        steps, length = len(pictures["original"]), np.shape(image)[0] if np.ndim(image) == 4 else 1
        names = [f"frame {i * length // steps}" for i in range(steps)]  # the picture of a step is its first frame
        columns = [names[i] for i in pick(steps, self.max_frames)] if length > 1 else []
        page = compose({title: strip(frames, self.max_frames) for title, frames in pictures.items()}, columns=columns)
        self.set_image(page)
        if show:
            self.show(page, win_name=name, wait_time=wait_time)
        self.add_image(name, page, step)
        if out_file is None:
            return page
        if ending in STILL:
            write_frames(out_file, page[None])
        else:
            original = pictures.pop("original")
            pages = [
                compose({title: frames[i] for title, frames in pictures.items()} | {_title(name, length): original[i]})
                for i, name in enumerate(names)
            ]
            write_frames(out_file, np.stack(pages), self.fps)
        return page


def _title(name: str, length: int) -> str:
    """Return the title of the original in an animation. For a clip it includes the name of the frame."""
    return f"original, {name}" if length > 1 else "original"
