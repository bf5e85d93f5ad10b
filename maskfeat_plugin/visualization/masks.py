"""Drawing of masks over frames, and of mask ratios over a training."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .frames import enlarge
from .hog_image import grid_mask

MASK_GREY = 128

# Colour and dashes of each line. Readers with colour-blindness can distinguish the colours, and the dashes show lines
# that coincide.
_LINES = (("#555555", "-"), ("#0b6fb8", "-"), ("#c2540a", "--"), ("#00805f", "-."))


def hide_tokens(frames: ArrayLike, mask: ArrayLike) -> np.ndarray:
    """Make the masked tokens of an image or a clip grey.

    Args:
        frames (ArrayLike): RGB frames, uint8 (T', H, W, 3): one for each time step of the token grid.
        mask (ArrayLike): bool (T', H', W'), or (H', W') for one frame, True where a token is masked.

    Returns:
        np.ndarray: uint8 (T', H, W, 3).

    Raises:
        ValueError: If the mask's grid does not fit the frames.
    """
    frames, mask = np.asarray(frames), grid_mask(mask)
    steps, height, width = mask.shape
    if len(frames) != steps or frames.shape[1] % height or frames.shape[2] % width:
        raise ValueError(f"The mask's token grid {mask.shape} does not fit frames of {frames.shape[:3]} (T', H, W).")
    masked = enlarge(mask, frames.shape[1] // height, frames.shape[2] // width)
    return np.where(masked[..., None], np.uint8(MASK_GREY), frames)


def draw_ratios(ratios: Mapping[str, Sequence[float]]) -> Figure:
    """Draw mask ratios over a training.

    Args:
        ratios (Mapping[str, Sequence[float]]): Name of a schedule -> its ratio in each epoch; at most four schedules.

    Returns:
        Figure: The drawing.

    Raises:
        ValueError: If there are more than four schedules.
    """
    if len(ratios) > len(_LINES):
        raise ValueError(f"At most {len(_LINES)} schedules can be drawn, got {len(ratios)}.")
    figure = Figure(figsize=(8.8, 3.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    for (name, values), (color, dashes) in zip(ratios.items(), _LINES, strict=False):
        axes.step(range(len(values)), values, where="post", label=name, color=color, linestyle=dashes, linewidth=2)
    axes.set(xlabel="epoch", ylabel="mask_ratio", ylim=(0, 1), xlim=(0, max(map(len, ratios.values())) - 1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower left", prop=dict(family="monospace", size=9))
    return figure
