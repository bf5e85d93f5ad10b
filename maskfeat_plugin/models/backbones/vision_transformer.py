"""A faster version of mmpretrain's ViT."""

from typing import Any

from mmpretrain.models import VisionTransformer as _VisionTransformer

from maskfeat_plugin.registry import MODELS

from ..utils import check_arch, use_plain_drop_rates
from .encoder_layer import use_encoder_layers


@MODELS.register_module()
class VisionTransformer(_VisionTransformer):
    """``mmpretrain.VisionTransformer`` with the fast layers of pre-training, for fine-tuning.

    It can replace ``mmpretrain.VisionTransformer`` everywhere: parameter names, initial values and results are the
    same.

    Args:
        arch (str | dict): Architecture, as in the parent. Defaults to "base".
        **kwargs: All other arguments of ``mmpretrain.VisionTransformer``.

    Raises:
        ValueError: If ``arch`` is unknown.
    """

    def __init__(self, arch: str | dict = "base", *args: Any, **kwargs: Any) -> None:
        check_arch(arch, self.arch_zoo)
        super().__init__(arch, *args, **kwargs)
        use_encoder_layers(self.layers)
        use_plain_drop_rates(self)
