"""The linear layer that predicts target features."""

from mmengine.model import BaseModule
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS


@MODELS.register_module()
class RegressionNeck(BaseModule):
    """Neck of one linear layer from a token to its predicted features (MaskFeat paper).

    Args:
        in_channels (int): Channels C of the backbone's tokens.
        out_channels (int): Channels D of the target, e.g. 108 for HOG of 2 x 2 cells, 9 bins and 3 colours.
        init_cfg (dict, optional): Initialization config. Defaults to truncated normal weights of standard deviation
            0.02 and zero bias.

    Raises:
        ValueError: If a number of channels is not positive.
    """

    def __init__(self, in_channels: int, out_channels: int, init_cfg: dict | None = None) -> None:
        if init_cfg is None:
            init_cfg = dict(type="TruncNormal", layer="Linear", std=0.02, bias=0.0)
        super().__init__(init_cfg=init_cfg)
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            if value < 1:
                raise ValueError(f"{name} must be positive, got {value!r}.")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.fc = nn.Linear(in_channels, out_channels)

    def forward(self, tokens: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor]:
        """Predict features.

        Args:
            tokens (Tensor | tuple[Tensor, ...]): (..., C), usually the M masked tokens (M, C). mmpretrain's models
                pass a tuple, whose last element is used.

        Returns:
            Tensor | tuple[Tensor]: (..., D), in a tuple if ``tokens`` is a tuple.
        """
        return (self.fc(tokens[-1]),) if isinstance(tokens, tuple) else self.fc(tokens)
