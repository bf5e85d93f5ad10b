"""Optimizer settings by parameter: weight decay by dimension, learning rate by layer."""

from collections.abc import Callable
from functools import partial

from mmengine.optim import DefaultOptimWrapperConstructor
from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
from torch import nn

from maskfeat_plugin.registry import OPTIM_WRAPPER_CONSTRUCTORS

# Parameters of the embedding, the first layer
_EMBEDDING = ("cls_token", "pos_embed", "mask_token", "patch_embed")


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's default constructor that puts all parameters with equal settings into one group.

    MaskFeat's pre-training applies no weight decay to one-dimensional parameters, by
    ``paramwise_cfg=dict(flat_decay_mult=0.0)``. mmengine then makes one group per parameter, over a thousand in an
    MViT-L, and the optimizer updates the groups one by one. With this constructor there are two groups.

    Args:
        optim_wrapper_cfg (dict): As for ``mmengine.optim.DefaultOptimWrapperConstructor``.
        paramwise_cfg (dict, optional): As for that class. Defaults to None.
    """

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = "", **kwargs: object) -> None:
        """Add the parameters of a module to ``params``, see the parent. For the root module, merge them into groups."""
        if prefix:
            return super().add_params(params, module, prefix=prefix, **kwargs)
        single: list[dict] = []
        super().add_params(single, module, **kwargs)
        params.extend(merge_groups(single))


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(LearningRateDecayOptimWrapperConstructor):
    """Layer-wise learning rates for the ViT and MViT of mmpretrain, mmaction2 and this package.

    A layer's learning rate is ``lr * layer_decay_rate ** (num_layers + 1 - layer)``. Tokens, positions and the patch
    embedding are layer 0. Block i is layer i + 1. All parameters after the blocks, including the head, are layer
    ``num_layers + 1`` and get the full learning rate. Parameters with equal settings share a group.

    The base class, mmpretrain's constructor, asks the model for the layers. mmaction2's constructor derives them from
    the name of the backbone's class. This class derives them from the names of the parameters.

    Args:
        optim_wrapper_cfg (dict): As for ``mmengine.optim.DefaultOptimWrapperConstructor``.
        paramwise_cfg (dict): ``layer_decay_rate``, ``flat_decay_mult`` (0.0: no weight decay of one-dimensional
            parameters), and the other settings of ``mmpretrain``'s ``LearningRateDecayOptimWrapperConstructor``.

    Raises:
        ValueError: If the model has no ``backbone`` with ``layers`` or ``blocks``, or if ``layer_decay_rate`` is
            outside (0, 1].
    """

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = "",
        get_layer_depth: Callable[[str], tuple[int, int]] | None = None,
        **kwargs: object,
    ) -> None:
        """Add the parameters of a module to ``params``, see the parent. For the root module, merge them into groups."""
        if prefix:
            return super().add_params(params, module, prefix=prefix, get_layer_depth=get_layer_depth, **kwargs)
        rate = self.paramwise_cfg.get("layer_decay_rate", 1.0)
        if not 0 < rate <= 1:
            raise ValueError(f"paramwise_cfg.layer_decay_rate={rate} is outside (0, 1].")
        single: list[dict] = []
        depth = get_layer_depth or partial(layer_depth, num_layers=_num_layers(module))
        super().add_params(single, module, get_layer_depth=depth, **kwargs)
        params.extend(merge_groups(single))


def layer_depth(name: str, num_layers: int) -> tuple[int, int]:
    """Return the layer to which a parameter belongs.

    Args:
        name (str): Full name of the parameter, such as ``backbone.blocks.3.attn.qkv.weight``.
        num_layers (int): Number of blocks of the backbone.

    Returns:
        tuple[int, int]: The layer, from 0 to ``num_layers + 1``, and the number of layers, ``num_layers + 2``.
    """
    path = name.split(".")
    if path[0] == "backbone":
        if path[1] in _EMBEDDING:
            return 0, num_layers + 2
        if path[1] in ("layers", "blocks"):
            return int(path[2]) + 1, num_layers + 2
    return num_layers + 1, num_layers + 2


def merge_groups(groups: list[dict]) -> list[dict]:
    """Join the parameter groups that have equal settings, in the order of their first parameters.

    Args:
        groups (list[dict]): Groups with ``params`` and settings. The key ``param_name`` of mmpretrain's constructor is
            removed, because it differs for each parameter.

    Returns:
        list[dict]: Fewer groups with the same parameters.
    """
    merged: dict[tuple, dict] = {}
    for group in groups:
        settings = {key: value for key, value in group.items() if key not in ("params", "param_name")}
        key = tuple(sorted((name, repr(value)) for name, value in settings.items()))
        merged.setdefault(key, dict(params=[], **settings))["params"].extend(group["params"])
    return list(merged.values())


def _num_layers(model: nn.Module) -> int:
    backbone = getattr(model, "backbone", None)
    blocks = getattr(backbone, "layers", None) or getattr(backbone, "blocks", None)
    if not blocks:
        raise ValueError(
            "constructor: layer-wise decay needs a model whose backbone has 'layers' or 'blocks', as ViT "
            f"and MViT have; got {type(model).__name__} with the backbone {type(backbone).__name__}."
        )
    return len(blocks)
