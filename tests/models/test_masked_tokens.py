"""The last block computes for the masked tokens alone the same as the whole block computes for them."""

import pytest
import torch

from maskfeat_plugin.registry import MODELS

VIT = dict(
    type="maskfeat.MaskedViT",
    arch=dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64),
    img_size=32,
    patch_size=8,
)
MVIT = dict(
    type="maskfeat.MaskedMViT",
    arch=dict(embed_dims=16, num_layers=3, num_heads=2, downscale_indices=[1], dim_mul_indices=[1, 2]),
    temporal_size=4,
    spatial_size=32,
)
BACKBONES = dict(
    vit=VIT,
    vit_no_class_token=dict(VIT, with_cls_token=False, out_type="avg_featmap"),
    vit_no_bias_layer_scale=dict(VIT, qkv_bias=False, layer_scale_init_value=0.1),
    vit_no_final_norm=dict(VIT, final_norm=False),
    vit_relu=dict(VIT, layer_cfgs=dict(act_cfg=dict(type="ReLU"))),
    mvit=MVIT,
    mvit_no_class_token=dict(MVIT, with_cls_token=False, output_cls_token=False),
    mvit_no_relative_positions=dict(MVIT, rel_pos_embed=False),
    mvit_no_residual_pooling=dict(MVIT, residual_pooling=False),
    mvit_channels_grow_in_attention=dict(MVIT, dim_mul_in_attention=True),
    mvit_recomputed=dict(MVIT, with_cp=True),
    mvit_last_block_pools=dict(
        MVIT, arch=dict(embed_dims=16, num_layers=2, num_heads=2, downscale_indices=[1], dim_mul_indices=[1])
    ),
)


def build(name):
    torch.manual_seed(0)
    model = MODELS.build(BACKBONES[name])
    for parameter in model.parameters():  # relative positions and biases begin at zero
        torch.nn.init.normal_(parameter, std=0.2)
    model.eval()
    return model


def batch(name, counts):
    generator = torch.Generator().manual_seed(1)
    size = (3, 32, 32) if name.startswith("vit") else (3, 4, 32, 32)
    grid = (1, 4, 4) if name.startswith("vit") else (2, 4, 4)
    mask = torch.zeros(len(counts), *grid, dtype=torch.bool)
    for row, count in zip(mask, counts, strict=True):
        row.view(-1)[torch.randperm(row.numel(), generator=generator)[:count]] = True
    return torch.randn(len(counts), *size, generator=generator), mask


def outcome(model, tokens):
    """Return the tokens and the gradients of all parameters."""
    model.zero_grad()
    weights = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(2))
    (tokens * weights).sum().backward()
    return tokens, {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("counts", [(5, 5), (3, 7), (15, 15)], ids=["equal", "unequal", "nearly all"])
@pytest.mark.parametrize("name", BACKBONES)
def test_tokens_and_gradients_are_those_of_the_whole_block(name, counts):
    model = build(name)
    x, mask = batch(name, counts)
    tokens, gradients = outcome(model, model.masked_tokens(x, mask))
    expected, expected_gradients = outcome(model, model(x, mask)[mask.flatten(1)])
    assert tokens.shape == (sum(counts), expected.shape[1])
    torch.testing.assert_close(tokens, expected, rtol=1e-5, atol=1e-5)
    for key, gradient in expected_gradients.items():
        if gradient is None or gradients[key] is None:  # not used, or only zeros
            assert all(g is None or not g.any() for g in (gradient, gradients[key])), key
        else:
            scale = float(gradient.abs().max())
            torch.testing.assert_close(gradients[key], gradient, rtol=1e-4, atol=1e-5 * max(scale, 1), msg=key)


@pytest.mark.parametrize("name", ["vit", "mvit"])
def test_autocast(name):
    model = build(name)
    x, mask = batch(name, (5, 5))
    with torch.autocast("cpu", torch.bfloat16):
        tokens, expected = model.masked_tokens(x, mask), model(x, mask)[mask.flatten(1)]
    torch.testing.assert_close(tokens, expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", ["vit", "mvit"])
def test_a_wrong_mask_is_refused(name):
    x, mask = batch(name, (5, 5))
    with pytest.raises(ValueError, match="token_grid"):
        build(name).masked_tokens(x, mask[..., :3])


@pytest.mark.parametrize("name", ["vit", "mvit"])
def test_maskfeat_asks_for_masked_tokens_alone(name):
    """The last MLP gets exactly the masked tokens."""
    model = MODELS.build(
        dict(
            type="maskfeat.MaskFeat",
            backbone=BACKBONES[name],
            target_generator=dict(type="maskfeat.HOGGenerator", cell_size=4),
            neck=dict(type="maskfeat.RegressionNeck", in_channels=32 if name == "vit" else 64, out_channels=108),
            head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", kind="mse")),
        )
    )
    seen = []
    block = model.backbone.layers[-1].ffn if name == "vit" else model.backbone.blocks[-1].mlp
    block.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[:2]))
    x, mask = batch(name, (5, 5))
    model.loss(x, mask=mask)
    assert seen == [(2, 5)]
