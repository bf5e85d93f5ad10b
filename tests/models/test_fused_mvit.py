"""The fast paths of MViT in float32 on a CPU have mmaction2's results and gradients."""

import pytest
import torch
from random_weights import assert_near, random, randomise
from torch import nn

from maskfeat_plugin.ops.blockwise_attention import attend_in_blocks
from maskfeat_plugin.registry import MODELS

ARCH = dict(embed_dims=32, num_layers=4, num_heads=1, downscale_indices=[1, 3], dim_mul_indices=[1, 3])
SETTINGS = dict(arch=ARCH, temporal_size=16, spatial_size=128, dim_mul_in_attention=False, drop_path_rate=0.0)


def pair(with_cp=False, **changes):
    """Build this package's MViT and mmaction2's with the same weights."""
    cfg = dict(SETTINGS, **changes)
    theirs = randomise(MODELS.build(dict(cfg, type="mmaction.MViT")))
    ours = MODELS.build(dict(cfg, type="maskfeat.MViT", with_cp=with_cp))
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def flat(outs):
    return [tensor for out in outs for tensor in (out if isinstance(out, list) else [out])]


def outputs_and_gradients(model, clips):
    outs = flat(model(clips))
    used = [parameter for parameter in model.parameters()]
    grads = torch.autograd.grad(
        sum((out.double() * random(*out.shape, seed=7, dtype=torch.float64)).sum() for out in outs),
        used,
        allow_unused=True,
    )
    return outs, [g for g in grads if g is not None]


CASES = dict(
    plain=dict(),
    no_class_token=dict(with_cls_token=False, output_cls_token=False),
    no_relative_positions=dict(rel_pos_embed=False),
    no_residual_pooling=dict(residual_pooling=False),
    growing_in_attention=dict(dim_mul_in_attention=True),
    all_scales=dict(out_scales=[0, 1, 2]),
    strides_beyond_the_kernel=dict(adaptive_kv_stride=(1, 8, 8)),
    no_bias=dict(qkv_bias=False),
)


def average_skips(model):
    """Use average pooling beside the attention: rounding decides which of two equal values is the maximum."""
    for block in model.blocks:
        if block.pool_skip is not None:
            pool = block.pool_skip
            block.pool_skip = nn.AvgPool3d(pool.kernel_size, pool.stride, pool.padding)
    return model


@pytest.mark.parametrize("case", CASES)
def test_equals_mmaction2(case):
    ours, theirs = (average_skips(model) for model in pair(**CASES[case]))
    clips = random(2, 3, 16, 128, 128)
    ours_outs, ours_grads = outputs_and_gradients(ours, clips)
    theirs_outs, theirs_grads = outputs_and_gradients(theirs, clips)
    exact_outs, exact_grads = outputs_and_gradients(theirs.double(), clips.double())
    assert len(ours_grads) == len(theirs_grads) > 60
    for ours, theirs, exact in ((ours_outs, theirs_outs, exact_outs), (ours_grads, theirs_grads, exact_grads)):
        # where terms cancel, as in the gradient of the class token, both have few correct digits in single precision
        noise = 1e-3 * max(c.abs().max() for c in exact)
        for a, b, c in zip(ours, theirs, exact, strict=True):
            error, theirs_error = ((m.double() - c).abs().max() / max(c.abs().max(), noise) for m in (a, b))
            assert error <= max(5 * theirs_error, 1e-5), (error, theirs_error)


def test_inference_and_training_give_the_same():
    ours, _ = pair()
    clips = random(2, 3, 16, 128, 128)
    with torch.no_grad():
        outs = flat(ours(clips))
    assert_near(flat(ours(clips)), outs, bound=1e-6)


def test_the_cases_take_the_fast_paths(monkeypatch):
    """Check the fast path: with other sizes, the test above would compare torch's kernels with themselves."""
    taken = []

    def noting(q, *rest):
        taken.append(q.shape)
        return attend_in_blocks(q, *rest)

    monkeypatch.setattr("maskfeat_plugin.ops.relative_attention.attend_in_blocks", noting)
    ours, _ = pair()
    ours(random(2, 3, 16, 128, 128))
    assert len(taken) >= 3


@pytest.mark.parametrize("precision", ["autocast", "float64"])
def test_other_precisions_take_the_general_path(precision):
    ours, theirs = pair()
    clips = random(1, 3, 16, 128, 128)
    reference = flat(theirs(clips))
    if precision == "float64":
        assert_near(flat(ours.double()(clips.double())), reference)
    else:
        with torch.autocast("cpu", torch.bfloat16):
            assert_near(flat(ours(clips)), reference, bound=0.1)


def test_gradient_checkpointing_gives_the_same_gradients():
    plain, _ = pair()
    again, _ = pair(with_cp=True)
    clips = random(1, 3, 16, 128, 128).requires_grad_()
    for a, b in zip(*(outputs_and_gradients(model, clips)[1] for model in (plain, again)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
