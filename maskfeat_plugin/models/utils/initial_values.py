"""Initial values of the authors' code that differ from upstream's."""

from math import sqrt

from torch import nn


def is_pretrained(init_cfg: dict | list | None) -> bool:
    """Check whether an ``init_cfg`` loads weights from a file, which must not be overwritten."""
    return isinstance(init_cfg, dict) and init_cfg["type"].endswith("Pretrained")


def set_authors_biases(patch_embedding: nn.Conv2d | nn.Conv3d, last_norm: nn.LayerNorm) -> None:
    """Set the two biases that the authors' code initializes in another way than the biases of the other layers.

    Args:
        patch_embedding (nn.Conv2d | nn.Conv3d): Convolution that embeds patches or cubes. Its bias gets torch's
            default: uniform between plus and minus 1 / sqrt(inputs of one output).
        last_norm (nn.LayerNorm): Layer norm of the last tokens. Its bias becomes 0.
    """
    if patch_embedding.bias is not None:
        bound = 1 / sqrt(patch_embedding.weight[0].numel())
        nn.init.uniform_(patch_embedding.bias, -bound, bound)
    if last_norm.bias is not None:
        nn.init.zeros_(last_norm.bias)
