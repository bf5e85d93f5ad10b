"""Tests of attention roll-out: it is the product of the matrices of all layers, and its rows sum to one."""

import itertools

import numpy as np
import pytest
import torch

import maskfeat_plugin  # noqa: F401 (mends mmaction)
from maskfeat_plugin.registry import MODELS
from maskfeat_plugin.visualization import attention_rollout, draw_heat

VIT = dict(
    img_size=24,
    patch_size=8,
    arch=dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32),
)
MVIT = dict(
    arch=dict(embed_dims=8, num_layers=3, num_heads=1, downscale_indices=[1], dim_mul_indices=[1]),
    temporal_size=4,
    spatial_size=32,
    adaptive_kv_stride=(1, 2, 2),
)


def randomized(config):
    """Build a backbone with weights so large that attention differs between tokens."""
    torch.manual_seed(0)
    backbone = MODELS.build(config)
    for parameter in backbone.parameters():
        parameter.data.normal_(std=0.4)
    backbone.eval()  # not chained, because eval() of mmpretrain's backbones returns None
    return backbone


def vit_by_hand(backbone, images, mask=None):
    """Compute the product of (W + I) / 2 over the layers, (N, 1 + L, 1 + L)."""
    layers = []

    def matrix(attn, args):
        heads = []
        for head in attn.qkv(args[0]).unflatten(2, (3, attn.num_heads, -1)).unbind(3):  # (N, L, 3, C)
            q, k, _ = head.unbind(2)
            heads.append((q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1))
        layers.append((sum(heads) / len(heads) + torch.eye(args[0].shape[1])) / 2)

    hooks = [layer.attn.register_forward_pre_hook(matrix) for layer in backbone.layers]
    backbone(images) if mask is None else backbone(images, mask)
    for hook in hooks:
        hook.remove()
    product = layers[0]
    for layer in layers[1:]:
        product = layer @ product
    return product


def windows(grid, pool, extra):
    """Compute the matrix (extra + L', extra + L) of a pooling: each pooled token is the mean over its window."""
    triples = [(v,) * 3 if isinstance(v, int) else v for v in (pool.kernel_size, pool.stride, pool.padding)]
    places = list(itertools.product(*map(range, grid)))
    out_grid = [(g + 2 * p - k) // s + 1 for g, k, s, p in zip(grid, *triples, strict=True)]
    rows = []
    for out in itertools.product(*map(range, out_grid)):
        begin = [o * s - p for o, s, p in zip(out, triples[1], triples[2], strict=True)]
        seen = [all(b <= x < b + k for x, b, k in zip(at, begin, triples[0], strict=True)) for at in places]
        rows.append(torch.tensor(seen).float() / sum(seen))
    return torch.block_diag(torch.eye(extra), torch.stack(rows))


@torch.no_grad()
def mvit_by_hand(backbone, clips):
    """Compute the same product for an MViT from the attention of mmaction2, and return it with the last grid."""
    from mmaction.models.backbones.mvit import add_decomposed_rel_pos, attention_pool

    layers, grids = [], []

    def matrix(block, args):
        attn, (tokens, grid) = block.attn, args
        extra = int(attn.with_cls_token)
        x = block.norm1(tokens)
        qkv = attn.qkv(x).reshape(*x.shape[:2], 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, q_grid = attention_pool(qkv[0], attn.pool_q, grid, attn.with_cls_token, attn.norm_q)
        k, k_grid = attention_pool(qkv[1], attn.pool_k, grid, attn.with_cls_token, attn.norm_k)
        weights = (q * attn.scale) @ k.transpose(-2, -1)
        tables = attn.rel_pos_h, attn.rel_pos_w, attn.rel_pos_t
        weights = add_decomposed_rel_pos(weights, q, q_grid, k_grid, *tables, attn.with_cls_token).softmax(-1).mean(1)
        length = x.shape[1]
        skip = torch.eye(length) if block.pool_skip is None else windows(grid, block.pool_skip, extra)
        layers.append((weights @ windows(grid, attn.pool_k, extra) + skip) / 2)
        grids.append(q_grid)

    hooks = [block.register_forward_pre_hook(matrix) for block in backbone.blocks]
    backbone(clips)
    for hook in hooks:
        hook.remove()
    product = layers[0]
    for layer in layers[1:]:
        product = layer @ product
    return product, tuple(grids[-1])


@pytest.mark.parametrize("kind", ["mmpretrain.VisionTransformer", "maskfeat.MaskedViT"])
def test_rollout_of_a_vit_is_the_product_of_its_layers(kind):
    backbone = randomized(dict(type=kind, **VIT))
    images = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        product = vit_by_hand(backbone, images)
    torch.testing.assert_close(product.sum(-1), torch.ones(2, 10))
    heat = attention_rollout(backbone, images)
    assert heat.shape == (2, 1, 3, 3)
    torch.testing.assert_close(heat.flatten(1), product[:, 0, 1:])
    torch.testing.assert_close(heat.flatten(1).sum(1) + product[:, 0, 0], torch.ones(2))
    assert heat.flatten(1).std(1).min() > 0.001
    # the mean over all tokens, and over some tokens
    query = torch.zeros(2, 1, 3, 3, dtype=torch.bool)
    query[0, 0, 0, 1] = query[1, 0, 2] = True
    chosen = attention_rollout(backbone, images, query=query).flatten(1)
    torch.testing.assert_close(chosen, torch.stack([product[0, 2, 1:], product[1, 7:10, 1:].mean(0)]))


def test_rollout_of_a_vit_without_class_token_begins_with_all_tokens():
    backbone = randomized(dict(type="mmpretrain.VisionTransformer", with_cls_token=False, out_type="raw", **VIT))
    images = torch.randn(1, 3, 24, 24)
    with torch.no_grad():
        expected = vit_by_hand(backbone, images).mean(1)
    heat = attention_rollout(backbone, images)
    torch.testing.assert_close(heat.flatten(1), expected)
    torch.testing.assert_close(heat.sum(), torch.tensor(1.0))


def test_rollout_sees_the_masked_input():
    backbone = randomized(dict(type="maskfeat.MaskedViT", **VIT))
    images = torch.randn(1, 3, 24, 24)
    mask = torch.arange(9).view(1, 1, 3, 3) < 4
    with torch.no_grad():
        expected = vit_by_hand(backbone, images, mask)[0, 1:5, 1:].mean(0)
    heat = attention_rollout(backbone, images, mask, query=mask)
    torch.testing.assert_close(heat.flatten(), expected)
    assert not torch.allclose(heat, attention_rollout(backbone, images, query=mask), atol=1e-3)


@pytest.mark.parametrize("kind", ["maskfeat.MViT", "maskfeat.MaskedMViT"])
@pytest.mark.parametrize("with_cls_token", [True, False])
def test_rollout_of_an_mvit_follows_its_pooling(kind, with_cls_token):
    backbone = randomized(dict(type=kind, with_cls_token=with_cls_token, output_cls_token=with_cls_token, **MVIT))
    clips = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    product, grid = mvit_by_hand(backbone, clips)
    assert grid == (2, 4, 4) and product.shape[2] == 2 * 8 * 8 + with_cls_token
    torch.testing.assert_close(product.sum(-1), torch.ones(2, 32 + with_cls_token))

    def on_token_grid(rows):  # a token has 2 x 2 patches
        return rows[:, with_cls_token:].reshape(2, 2, 4, 2, 4, 2).sum((3, 5))

    first = product[:, 0] if with_cls_token else product.mean(1)
    heat = attention_rollout(backbone, clips)
    torch.testing.assert_close(heat, on_token_grid(first), atol=1e-5, rtol=1e-4)
    query = torch.zeros(2, *grid, dtype=torch.bool)
    query[:, 1, 2, 3] = True
    expected = on_token_grid(product[:, with_cls_token + 16 + 2 * 4 + 3])
    torch.testing.assert_close(attention_rollout(backbone, clips, query=query), expected, atol=1e-5, rtol=1e-4)
    # the token has the largest weight for itself
    assert expected.flatten(1).argmax(1).tolist() == [16 + 2 * 4 + 3] * 2


def test_rollout_leaves_the_model_as_it_was():
    backbone = randomized(dict(type="maskfeat.MaskedMViT", **MVIT))
    backbone.train()
    clips = torch.randn(1, 3, 4, 32, 32)
    first = attention_rollout(backbone, clips)
    assert backbone.training and all(block.training for block in backbone.blocks)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.modules())
    assert torch.equal(attention_rollout(backbone, clips), first)


@pytest.mark.parametrize(
    "path", ["demo/maskfeat_vit-tiny_moving-digits.py", "demo/maskfeat_mvit-tiny_moving-digits.py"]
)
def test_rollout_of_the_shipped_models(predict, path):
    found = predict(path)
    inputs, mask = found.batch["inputs"], found.batch["mask"]
    heat = attention_rollout(found.model.backbone, inputs, mask, query=mask)
    assert heat.shape == mask.shape and (heat >= 0).all()
    assert ((heat.flatten(1).sum(1) > 0.5) & (heat.flatten(1).sum(1) <= 1 + 1e-5)).all()
    drawing = draw_heat(np.full_like(found.frames[0], 128), heat[0], scale=3)
    steps, height, width = len(mask[0]), *found.frames[0].shape[1:3]
    assert drawing.shape == (steps, 3 * height, 3 * width, 3) and drawing.dtype == np.uint8
    rows, cols = (3 * size // grid for size, grid in zip((height, width), mask.shape[2:], strict=True))
    tokens = drawing.astype(float).mean(-1).reshape(steps, mask.shape[2], rows, mask.shape[3], cols).mean((2, 4))
    assert np.corrcoef(tokens.ravel(), heat[0].ravel())[0, 1] > 0.9  # the more attention, the brighter


def test_what_cannot_be_followed_is_named():
    images = torch.zeros(1, 3, 32, 32)
    with pytest.raises(ValueError, match="ResNet has no attention that can be followed. Use mmpretrain.Vision"):
        attention_rollout(MODELS.build(dict(type="mmpretrain.ResNet", depth=18)), images)
    backbone = randomized(dict(type="maskfeat.MaskedViT", **VIT))
    query = torch.zeros(1, 1, 3, 3, dtype=torch.bool)
    for wrong in (query, torch.ones(1, 3, 3, dtype=torch.bool)):
        with pytest.raises(ValueError, match=r"query must be .* \(1, 1, 3, 3\) with a token of each sample set"):
            attention_rollout(backbone, images[..., :24, :24], query=wrong)
