"""Transformer blocks as units: a model is sharded, and its activations are recomputed, block by block."""

from mmaction.models.backbones.mvit import MultiScaleBlock
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import nn

from maskfeat_plugin.registry import FUNCTIONS


@FUNCTIONS.register_module()
def is_block(module: nn.Module) -> bool:
    """Check whether a module is one block of a ViT or MViT, for ``auto_wrap_policy`` and ``check_fn``."""
    return isinstance(module, MultiScaleBlock | TransformerEncoderLayer)
