"""HOG of frame differences: the edges of motion in a clip."""

from torch import Tensor

from maskfeat_plugin.registry import MODELS

from ..utils import frames_of_tokens
from .hog import HOGGenerator


@MODELS.register_module()
class MotionHOGGenerator(HOGGenerator):
    """Target generator of HOG features of frame differences, for clips.

    For each token, the first frame that the token covers is subtracted from the last one, and HOG is computed on the
    difference. Every token has its own two frames, so the start and the end of the clip need no special case. The
    difference cancels the mean of the input normalisation. A cell without any change has a target of zeros. A cell is
    L2-normalised by default, which also amplifies noise in cells that hardly change; ``norm="none"`` keeps the
    magnitudes.

    It has the arguments, the size of the target and the fused kernel of :class:`HOGGenerator`. Use it alone, or with
    HOG in :class:`MultiTargetGenerator`.
    """

    def _frames(self, inputs: Tensor, frames_per_token: int) -> Tensor:
        if inputs.dim() != 5 or frames_per_token < 2:
            raise ValueError(
                f"MotionHOGGenerator needs clips with at least 2 frames per token, but the inputs are "
                f"{tuple(inputs.shape)} with {frames_per_token} frame(s) per token. Use maskfeat.HOGGenerator instead."
            )
        last = inputs[:, :, frames_per_token - 1 :]
        return frames_of_tokens(last, frames_per_token) - frames_of_tokens(inputs, frames_per_token)
