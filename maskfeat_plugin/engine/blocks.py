"""The unit in which a model is sharded and its activations are recomputed: one block of the transformer."""

from mmaction.models.backbones.mvit import MultiScaleBlock
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import nn

from maskfeat_plugin.registry import FUNCTIONS


@FUNCTIONS.register_module()
def is_block(module: nn.Module) -> bool:
    """Whether a module is one block of a ViT or MViT: ``check_fn`` of a strategy's ``activation_checkpointing``."""
    return isinstance(module, MultiScaleBlock | TransformerEncoderLayer)


@FUNCTIONS.register_module()
def wrap_blocks(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
    """Make a unit of every block: ``auto_wrap_policy`` of ``FullyShardedDataParallel``.

    Args:
        module (nn.Module): The module in question.
        recurse (bool): Whether the question is to look into it, rather than to wrap it.
        nonwrapped_numel (int): Its parameters that are in no unit yet. Not used.

    Returns:
        bool: The answer.
    """
    return recurse or is_block(module)
