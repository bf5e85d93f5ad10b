"""Discrete tokens, the target of BEiT."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS

from ..utils import TokenPlaces, frames_of_tokens, token_size
from .base import BaseTargetGenerator
from .frozen import FrozenNetwork

_PIXELS_AT_ONCE = 1 << 15  # on a CPU


@MODELS.register_module()
class TokenGenerator(BaseTargetGenerator):
    """Target generator of the discrete tokens of a dVAE or VQ encoder (MaskFeat paper; BEiT).

    Each frame is resized so that the tokenizer's grid is equal to the token grid. For 14 x 14 tokens, DALL-E's
    encoder with its stride of 8 gets 112 x 112 pixels. For clips it reads every token's first frame, as for HOG. It
    runs in float32, because rounding would change which token is the nearest::

        target_generator=dict(
            type='maskfeat.TokenGenerator',
            tokenizer=dict(
                type='mmpretrain.DALL-E', init_cfg=dict(type='Pretrained', checkpoint='dalle_encoder.pth')))

    Args:
        tokenizer (dict): Config of a network that returns scores (N, K, h, w) or token ids (N, L) or (N, h, w).
            DALL-E's encoder is ``mmpretrain.DALL-E``, BEiT v2's is ``mmpretrain.VQKD``. ``init_cfg`` names its weights.
        vocab_size (int): Number K of tokens. Defaults to 8192, the number of both encoders.
        stride (int): Pixels between the tokenizer's tokens. Defaults to 8, as DALL-E needs; ``mmpretrain.VQKD`` needs
            16.
        mean (Sequence[float] | float): Mean that the tokenizer expects, RGB, on the scale 0 to 255. Defaults to
            DALL-E's (which maps 0 to 255 to inputs of 0.1 to 0.9); 127.5 for VQKD.
        std (Sequence[float] | float): Standard deviation that the tokenizer expects. Defaults to DALL-E's; 127.5 for
            VQKD.
        in_checkpoint (bool): Whether checkpoints include the tokenizer. Defaults to False.
        patch_size (int): Side of a token in pixels, for calls without a mask. Defaults to 16.
        temporal_stride (int): Frames that a token covers, for calls without a mask. Defaults to 2.
        init_cfg (dict, optional): Initialization config. Defaults to None.

    Raises:
        ValueError: If ``vocab_size`` is not the tokenizer's, or a number is out of range.
    """

    def __init__(
        self,
        tokenizer: dict,
        vocab_size: int = 8192,
        stride: int = 8,
        mean: Sequence[float] | float = -31.875,
        std: Sequence[float] | float = 318.75,
        in_checkpoint: bool = False,
        patch_size: int = 16,
        temporal_stride: int = 2,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(patch_size, temporal_stride, init_cfg)
        for name, value in (("vocab_size", vocab_size), ("stride", stride)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}.")
        for name in ("vocab_size", "num_embed"):  # the names in mmpretrain
            if tokenizer.get(name, vocab_size) != vocab_size:
                raise ValueError(
                    f"tokenizer.{name}={tokenizer[name]}, but vocab_size={vocab_size}; "
                    f"set vocab_size={tokenizer[name]}."
                )
        self.num_classes = vocab_size
        self.stride = stride
        self._ids_checked = False
        self.tokenizer = FrozenNetwork(
            tokenizer,
            "tokenizer",
            mean,
            std,
            in_checkpoint,
            on_host=("initted",),  # VQKD's quantizer
        )

    def connect(self, model: nn.Module) -> None:
        """Read how the model normalises its inputs, see the parent."""
        self.tokenizer.connect(model.data_preprocessor)

    def init_weights(self) -> None:
        """Load the tokenizer's weights."""
        super().init_weights()
        self.tokenizer.load()

    def generate(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Compute the token ids of the masked tokens.

        Args:
            inputs (Tensor): Normalised images (N, C, H, W) or clips (N, C, T, H, W).
            mask (Tensor): bool (N, T', H', W').

        Returns:
            Tensor: int64 (M,), in [0, vocab_size).

        Raises:
            ValueError: If the mask's grid does not fit the inputs, or the tokenizer has another grid or vocabulary. On
                a GPU, only the ids of the first batch are compared with the vocabulary, because a check waits.
        """
        return self._masked_ids(inputs, mask, None)

    def generate_at(self, inputs: Tensor, mask: Tensor, places: TokenPlaces) -> Tensor:
        """Compute the token ids of the masked tokens, see :meth:`generate`."""
        return self._masked_ids(inputs, mask, places)

    def _masked_ids(self, inputs: Tensor, mask: Tensor, places: TokenPlaces | None) -> Tensor:
        frames_per_token, _, _ = token_size(inputs, mask)
        frames = frames_of_tokens(inputs, frames_per_token).flatten(0, 1)  # (N*T', C, H, W)
        mask = mask.flatten(0, 1)  # (N*T', H', W')
        grid = tuple(mask.shape[1:])
        size = tuple(g * self.stride for g in grid)
        masked: Tensor | tuple[Tensor, ...]
        if places is None:  # frames without a masked token are skipped
            asked = mask.flatten(1).any(1)
            frames, masked = frames[asked], mask[asked]
        else:
            masked = places.in_frames()
        device = inputs.device.type
        with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
            frames = self.tokenizer.normalize(frames.float())
            if frames.shape[-2:] != size:
                frames = F.interpolate(frames, size, mode="bicubic", antialias=True, align_corners=False)
            # the tokenizers are convolutional, and this format is several times faster on a CPU
            frames = frames.contiguous(memory_format=torch.channels_last)
            ids = torch.cat([self._ids(part, grid) for part in frames.split(_part_size(frames))])
        return ids[masked]

    def _ids(self, frames: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Compute the token ids (F, H', W') of frames (F, C, H' * stride, W' * stride)."""
        if not len(frames):
            return torch.zeros(0, *grid, dtype=torch.long, device=frames.device)
        out = self.tokenizer(frames)
        if out.is_floating_point():  # scores (F, K, h, w)
            if out.shape[1] != self.num_classes:
                raise ValueError(
                    f"tokenizer gives {out.shape[1]} scores, but vocab_size={self.num_classes}; set "
                    f"vocab_size={out.shape[1]}, and out_channels={out.shape[1]} of the neck."
                )
            out = out.argmax(1)
        elif out.device.type == "cpu" or not self._ids_checked:
            if out.max() >= self.num_classes:
                raise ValueError(
                    f"tokenizer gives the token {int(out.max())}, but vocab_size={self.num_classes}; set vocab_size "
                    "and the neck's out_channels to the number of the tokenizer's tokens."
                )
            self._ids_checked = True
        if out[0].numel() != grid[0] * grid[1]:
            size = tuple(frames.shape[-2:])
            raise ValueError(
                f"tokenizer gives {tuple(out.shape[1:])} tokens for images of {size}, but the token grid "
                f"is {grid}; set stride (now {self.stride}) to the tokenizer's own: 8 for DALL-E's "
                "encoder, 16 for mmpretrain.VQKD."
            )
        return out.reshape(-1, *grid).long()


def _part_size(frames: Tensor) -> int:
    """Return the number of frames to compute at once: few on a CPU, so that results stay in its cache."""
    return max(1, len(frames)) if frames.is_cuda else max(8, _PIXELS_AT_ONCE // frames.shape[-2:].numel())
