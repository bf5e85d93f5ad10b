"""LayerScale of a ViT's layers, which most models of this package do not have."""

from collections.abc import Collection, Mapping

from torch import Tensor

# end of the scale's canonical name -> end of the name of the linear layer whose output it multiplies
_LAYERS = {"attn.gamma1.weight": "attn.proj", "ffn.gamma2.weight": "ffn.layers.1"}


def is_layer_scale(name: str) -> bool:
    """Check whether a canonical name is the name of a scale."""
    return name.endswith(tuple(_LAYERS))


def fold_layer_scale(state: Mapping[str, Tensor], kept: Collection[str]) -> dict[str, Tensor]:
    """Multiply scales into the linear layers before them. The outputs stay the same.

    Args:
        state (Mapping[str, Tensor]): Canonical names and tensors. It is not changed.
        kept (Collection[str]): Names of the scales to keep.

    Returns:
        dict[str, Tensor]: The weights without the scales that were multiplied in.
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
