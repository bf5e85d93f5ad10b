"""LayerScale of a ViT's layers, which most models here do without."""

from collections.abc import Collection, Mapping

from torch import Tensor

# end of the scale's canonical name -> that of the linear layer whose output it multiplies
_LAYERS = {"attn.gamma1.weight": "attn.proj", "ffn.gamma2.weight": "ffn.layers.1"}


def is_layer_scale(name: str) -> bool:
    """Tell whether a canonical name is that of a scale."""
    return name.endswith(tuple(_LAYERS))


def fold_layer_scale(state: Mapping[str, Tensor], kept: Collection[str]) -> dict[str, Tensor]:
    """Multiply scales into the linear layers before them, which gives the same outputs.

    Args:
        state (Mapping[str, Tensor]): Canonical names and tensors. Not changed.
        kept (Collection[str]): Names of the scales that stay as they are.

    Returns:
        dict[str, Tensor]: The weights, without the other scales.
    """
    out = dict(state)
    for name, scale in state.items():
        end = next((end for end in _LAYERS if name.endswith(end)), None)
        if end is None or name in kept:
            continue
        layer = name.removesuffix(end) + _LAYERS[end]
        out[f"{layer}.weight"] = out[f"{layer}.weight"] * scale[:, None]
        if f"{layer}.bias" in out:
            out[f"{layer}.bias"] = out[f"{layer}.bias"] * scale
        del out[name]
    return out
