"""Transformer blocks as units: a model is sharded, and its activations are recomputed, block by block."""

from mmaction.models.backbones.mvit import MultiScaleBlock
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import nn

from maskfeat_plugin.registry import FUNCTIONS


@FUNCTIONS.register_module()
def is_block(module: nn.Module) -> bool:
    """Check whether a module is one block of a ViT or MViT, as ``check_fn`` of ``activation_checkpointing``."""
    return isinstance(module, MultiScaleBlock | TransformerEncoderLayer)


@FUNCTIONS.register_module()
def wrap_blocks(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
    """Check whether to wrap a module: each block is one unit. For ``auto_wrap_policy`` of ``FullyShardedDataParallel``.

    Args:
        module (nn.Module): The module to decide on.
        recurse (bool): Whether the question is to look into the module, instead of to wrap it.
        nonwrapped_numel (int): Number of its parameters that are in no unit yet. Not used.

    Returns:
        bool: The answer.
    """
    return recurse or is_block(module)
