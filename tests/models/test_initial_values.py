"""Initial values of the backbones and the neck are the same as in the authors' code."""

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.registry import MODELS

VIT = dict(arch="deit-t", img_size=64, patch_size=16)
MVIT = dict(
    arch=dict(embed_dims=32, num_layers=4, num_heads=1, downscale_indices=[1, 3], dim_mul_indices=[1, 3]),
    temporal_size=4,
    spatial_size=64,
)
LAST_NORM = dict(MaskedViT="ln1", VisibleViT="ln1", MaskedMViT="norm2", VisibleMViT="norm2", MViT="norm2")


@pytest.fixture(params=LAST_NORM)
def backbone(request):
    settings = VIT if request.param.endswith("ViT") and "MViT" not in request.param else MVIT
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmengine"):
        model = MODELS.build(dict(type=f"maskfeat.{request.param}", **settings))
    model.init_weights()
    return model


def test_biases(backbone):
    last = backbone.get_submodule(LAST_NORM[type(backbone).__name__])
    assert isinstance(last, nn.LayerNorm) and not last.bias.any() and (last.weight == 1).all()
    seen = 0
    for module in backbone.modules():
        if isinstance(module, nn.Linear | nn.LayerNorm) and module is not last and module.bias is not None:
            assert (module.bias == 0.02).all()
            seen += 1
    assert seen > 10
    projection = backbone.patch_embed.projection
    bound = projection.weight[0].numel() ** -0.5  # torch's default
    assert 0.4 < projection.bias.abs().max() / bound <= 1 and projection.bias.abs().min() < 0.2 * bound


def test_weights_and_tokens(backbone):
    tensors = {name: p for name, p in backbone.named_parameters() if p.dim() > 1 and "rel_pos" not in name}
    tensors.pop("pos_embed", None)
    assert any("token" in name for name in tensors)
    for name, tensor in tensors.items():
        if tensor.numel() > 200:
            assert tensor.std().item() == pytest.approx(0.02, rel=0.15), name


def test_prediction_layer():
    neck = MODELS.build(dict(type="maskfeat.RegressionNeck", in_channels=64, out_channels=108))
    neck.init_weights()
    (layer,) = [module for module in neck.modules() if isinstance(module, nn.Linear)]
    assert not layer.bias.any() and layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
