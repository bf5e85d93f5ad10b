"""Groups of parameters: their learning rates and their weight decay."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.optim import build_optim_wrapper
from torch import nn

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.engine.optim_wrapper_constructors import layer_depth, merge_groups
from maskfeat_plugin.registry import MODELS

MVIT = dict(embed_dims=8, num_layers=3, num_heads=1, downscale_indices=[1])
VIT = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)


class Model(nn.Module):
    """Model with a backbone and a head, as in any framework."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.head = nn.Linear(16, 4)


def optimizer(model, constructor="maskfeat.LayerDecayOptimWrapperConstructor", **paramwise_cfg):
    cfg = dict(
        optimizer=dict(type="AdamW", lr=1.0, weight_decay=0.1), constructor=constructor, paramwise_cfg=paramwise_cfg
    )
    return build_optim_wrapper(model, cfg).optimizer


def learning_rates(model, optimizer):
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize(
    ("backbone", "block"),
    [
        (dict(type="mmpretrain.VisionTransformer", arch=VIT, img_size=32), "layers"),
        (dict(type="maskfeat.MaskedViT", arch=VIT, img_size=32), "layers"),
        (dict(type="maskfeat.VisionTransformer", arch=VIT, img_size=32), "layers"),
        (dict(type="mmaction.MViT", arch=MVIT, temporal_size=4, spatial_size=32), "blocks"),
        (dict(type="maskfeat.MaskedMViT", arch=MVIT, temporal_size=4, spatial_size=32), "blocks"),
    ],
    ids=lambda x: x["type"] if isinstance(x, dict) else "",
)
def test_layers_of_every_backbone(backbone, block):
    model = Model(backbone)
    rates = learning_rates(model, optimizer(model, layer_decay_rate=0.5, flat_decay_mult=0.0))
    last = len(getattr(model.backbone, block)) + 1
    assert set(rates) == {name for name, _ in model.named_parameters()}
    assert rates["head.weight"] == rates["head.bias"] == 1.0
    assert rates["backbone.cls_token"] == rates["backbone.patch_embed.projection.weight"] == 0.5**last
    assert rates.get("backbone.mask_token", 0.5**last) == 0.5**last
    assert rates[f"backbone.{block}.0.attn.qkv.weight"] == 0.5 ** (last - 1)
    assert rates[f"backbone.{block}.{last - 2}.attn.qkv.bias"] == 0.5
    assert {rates[name] for name in rates if "backbone" in name and block not in name} == {0.5**last, 1.0}


def test_frozen_parameters_are_left_out():
    model = Model(dict(type="mmpretrain.VisionTransformer", arch=VIT, img_size=32, frozen_stages=1))
    rates = learning_rates(model, optimizer(model, layer_decay_rate=0.5))
    assert set(rates) == {name for name, p in model.named_parameters() if p.requires_grad}


def test_grouped_is_the_default_constructor_in_two_groups():
    model = Model(dict(type="mmpretrain.VisionTransformer", arch=VIT, img_size=32))
    grouped = optimizer(model, "maskfeat.GroupedOptimWrapperConstructor", flat_decay_mult=0.0)
    default = optimizer(model, "DefaultOptimWrapperConstructor", flat_decay_mult=0.0)

    def decay(groups):
        return {id(p): group["weight_decay"] for group in groups for p in group["params"]}

    assert decay(grouped.param_groups) == decay(default.param_groups)
    assert len(grouped.param_groups) == 2


def test_grouped_takes_the_same_step():
    torch.manual_seed(0)
    models = [Model(dict(type="mmpretrain.VisionTransformer", arch=VIT, img_size=32)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    grads = [torch.randn_like(p) for p in models[0].parameters()]
    for model, kind in zip(models, ("maskfeat.GroupedOptimWrapper", "DefaultOptimWrapper"), strict=True):
        stepper = optimizer(model, kind + "Constructor", flat_decay_mult=0.0)
        for parameter, grad in zip(model.parameters(), grads, strict=True):
            parameter.grad = grad.clone()
        stepper.step()
    for one, other in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("rate", [0.0, -1.0, 1.5])
def test_rate_out_of_range(rate):
    model = Model(dict(type="mmpretrain.VisionTransformer", arch=VIT, img_size=32))
    with pytest.raises(ValueError, match="paramwise_cfg.layer_decay_rate"):
        optimizer(model, layer_decay_rate=rate)


def test_backbone_without_blocks():
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="backbone has 'layers' or 'blocks'"):
        optimizer(model, layer_decay_rate=0.5)


@given(st.integers(1, 60), st.data())
def test_depths_grow_along_the_model(num_layers, data):
    i = data.draw(st.integers(0, num_layers - 1))
    names = ["backbone.pos_embed", f"backbone.layers.{i}.norm1.weight", "backbone.norm3.weight", "head.fc.weight"]
    depths = [layer_depth(name, num_layers) for name in names]
    assert [d for d, _ in depths] == [0, i + 1, num_layers + 1, num_layers + 1]
    assert {total for _, total in depths} == {num_layers + 2}


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2]), st.sampled_from([0.0, 0.05])), min_size=1))
def test_merging_keeps_every_parameter_and_its_settings(settings):
    groups = [dict(params=[i], lr=lr, weight_decay=wd, param_name=str(i)) for i, (lr, wd) in enumerate(settings)]
    merged = merge_groups(groups)
    assert len(merged) == len(set(settings))
    found = {i: (group["lr"], group["weight_decay"]) for group in merged for i in group["params"]}
    assert found == dict(enumerate(settings))
    assert sum(len(group["params"]) for group in merged) == len(settings)
