"""Small models and state dicts of every format."""

import torch

import maskfeat_plugin  # noqa: F401
import maskfeat_plugin.checkpoints  # noqa: F401
from maskfeat_plugin.registry import MODELS

VIT = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
MVIT = dict(embed_dims=8, num_layers=4, num_heads=1, downscale_indices=[1, 2], dim_mul_indices=[1, 3])


def build(kind, **kwargs):
    """Build a small backbone by its registered name."""
    if kind.endswith("MViT"):
        defaults = dict(arch=MVIT, temporal_size=4, spatial_size=64, dim_mul_in_attention=False)
    elif kind == "mmaction.VisionTransformer":
        defaults = dict(img_size=32, patch_size=8, embed_dims=16, depth=3, num_heads=2, mlp_ratio=2, num_frames=4)
    else:
        defaults = dict(arch=VIT, img_size=32, patch_size=8)
    return MODELS.build(dict(type=kind, **{**defaults, **kwargs}))


def randomised(module, seed=0):
    """Set all parameters of a module to random values that differ from initial values."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module


def pretraining_state(family, seed=0):
    """Build a state dict of MaskFeat pre-training with canonical names."""
    backbone = randomised(build("maskfeat.MaskedViT" if family == "vit" else "maskfeat.MaskedMViT"), seed)
    width = 16 if family == "vit" else 32
    state = {f"backbone.{key}": value.clone() for key, value in backbone.state_dict().items()}
    generator = torch.Generator().manual_seed(seed + 1)
    state["neck.fc.weight"] = torch.randn(12, width, generator=generator)
    state["neck.fc.bias"] = torch.randn(12, generator=generator)
    return state
