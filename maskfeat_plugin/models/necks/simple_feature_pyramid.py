"""A feature pyramid from the single feature map of a plain ViT."""

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS

NORM = dict(type="mmpretrain.LN2d")


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Feature pyramid at 4, 2, 1 and 1/2 times the resolution of one map, as in ViTDet (Li et al., 2022).

    With a patch size of 16, these are the strides 4, 8, 16 and 32 of mmdet's detectors. Further levels sub-sample the
    last one.

    Args:
        in_channels (int): Channels of the map.
        out_channels (int): Channels of each level. Defaults to 256.
        num_outs (int): Number of levels. Defaults to 5.
        norm_cfg (dict): Norm of each convolution. Defaults to a layer norm over the channels.
        init_cfg (dict, optional): Initialization config. Defaults to None.

    Raises:
        ValueError: If ``num_outs`` is less than 4 or ``in_channels`` is not divisible by 4.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        num_outs: int = 5,
        norm_cfg: dict = NORM,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_outs < 4:
            raise ValueError(f"num_outs={num_outs} must be at least 4, for the strides 4, 8, 16 and 32.")
        if in_channels % 4:
            raise ValueError(f"in_channels={in_channels} must be divisible by 4.")
        half, quarter = in_channels // 2, in_channels // 4
        act = dict(type="GELU")
        self.scales = nn.ModuleList(
            [
                nn.Sequential(
                    _upsample(in_channels, half, norm_cfg, act), nn.ConvTranspose2d(half, quarter, 2, stride=2)
                ),
                nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                nn.Identity(),
                nn.MaxPool2d(2),
            ]
        )
        self.outputs = nn.ModuleList(
            nn.Sequential(
                ConvModule(channels, out_channels, 1, norm_cfg=norm_cfg, act_cfg=None),
                ConvModule(out_channels, out_channels, 3, padding=1, norm_cfg=norm_cfg, act_cfg=None),
            )
            for channels in (quarter, half, in_channels, in_channels)
        )
        self.extra = nn.MaxPool2d(1, stride=2)
        self.num_outs = num_outs

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Compute the levels.

        Args:
            inputs (tuple[Tensor, ...]): The outputs of the backbone. Only the last, (N, C, H', W'), is used.

        Returns:
            tuple[Tensor, ...]: ``num_outs`` maps (N, out_channels, ..., ...), the largest first.
        """
        levels = [output(scale(inputs[-1])) for scale, output in zip(self.scales, self.outputs, strict=True)]
        while len(levels) < self.num_outs:
            levels.append(self.extra(levels[-1]))
        return tuple(levels)


def _upsample(in_channels: int, out_channels: int, norm_cfg: dict, act_cfg: dict) -> ConvModule:
    return ConvModule(
        in_channels,
        out_channels,
        2,
        stride=2,
        conv_cfg=dict(type="deconv"),
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    )
