"""Small models of this package and their parents, with the same weights."""

import copy
import functools

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from maskfeat_plugin.models import MaskedBackbone
from maskfeat_plugin.registry import MODELS

MVIT = dict(
    arch=dict(embed_dims=16, num_layers=4, num_heads=1, downscale_indices=[1, 2], dim_mul_indices=[1, 2]),
    temporal_size=4,
    spatial_size=64,
)
NO_CLASS_TOKEN = dict(MVIT, dim_mul_in_attention=True, with_cls_token=False, output_cls_token=False)
VIT = dict(
    arch=dict(embed_dims=32, num_layers=3, num_heads=4, feedforward_channels=64),
    img_size=32,
    patch_size=8,
    qkv_bias=False,
)
# this package's class and its parent
PARENT_MVIT = dict(type="mmaction.MViT", **MVIT, dim_mul_in_attention=False)
PARENT_VIT = dict(type="mmpretrain.VisionTransformer", **VIT)
PAIRS = dict(
    mvit=(dict(type="maskfeat.MaskedMViT", **MVIT), PARENT_MVIT),
    mvit_no_class_token=tuple(dict(type=kind, **NO_CLASS_TOKEN) for kind in ("maskfeat.MViT", "mmaction.MViT")),
    visible_mvit=(dict(type="maskfeat.VisibleMViT", **MVIT), PARENT_MVIT),
    vit=(dict(type="maskfeat.MaskedViT", **VIT), PARENT_VIT),
    visible_vit=(dict(type="maskfeat.VisibleViT", **VIT), PARENT_VIT),
    plain_vit=(dict(type="maskfeat.VisionTransformer", **VIT), PARENT_VIT),
)
MASKED = {name: ours for name, (ours, _) in PAIRS.items() if name not in ("mvit_no_class_token", "plain_vit")}


def take_fast_paths(monkeypatch):
    """Let small models take the fast paths too."""
    monkeypatch.setattr("maskfeat_plugin.ops.linear._LEAST_WORK", 0)
    monkeypatch.setattr("maskfeat_plugin.ops.blockwise_attention._LEAST_LOGITS", 0)


@functools.lru_cache
def built(name, which):
    torch.manual_seed(0)
    model = MODELS.build(PAIRS[name][which])
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    model.eval()
    return model


def pair(name):
    """Build a model of this package and its parent, with the same weights."""
    ours, theirs = (copy.deepcopy(built(name, which)) for which in (0, 1))
    assert (
        set(theirs.state_dict()) >= set(theirs.load_state_dict(ours.state_dict(), strict=False).missing_keys) == set()
    )
    return ours, theirs


def inputs(name):
    size = (2, 3, 4, 64, 64) if "mvit" in name else (2, 3, 32, 32)
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


def mask_of(name):
    """Draw a mask of whole mask units, the same number in each sample."""
    grid = (2, 2, 4, 4) if "mvit" in name else (2, 1, 4, 4)
    mask = torch.zeros(grid, dtype=torch.bool)
    mask[0, :, :2], mask[1, :, 2:] = True, True
    return mask


def tensors(outputs):
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]


def assert_near(ours, theirs, bound=1e-4):
    for a, b in zip(tensors(ours), tensors(theirs), strict=True):
        assert (a - b).abs().max() <= bound * b.abs().max()


def encode(model, name, masked):
    """Run the forward pass of pre-training (masked) or of fine-tuning."""
    if not masked:
        return model(inputs(name))
    masked_alone = isinstance(model, MaskedBackbone)
    return (model.masked_tokens if masked_alone else model)(inputs(name), mask_of(name))
