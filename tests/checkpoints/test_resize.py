"""Tensors of another size: positions, relative positions, kernels of an image model for clips."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import build, pretraining_state, randomised

from maskfeat_plugin.checkpoints import CheckpointError, from_state_dict, load_into
from maskfeat_plugin.checkpoints.resize import (
    infer_grid,
    inflate_kernel,
    resize_absolute_positions,
    resize_relative_positions,
)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
def test_relative_positions(old, new, seed):
    """Both directions stay mirror images, no value leaves the range, an equal length changes nothing."""
    table = torch.randn(2 * old - 1, 3, generator=torch.Generator().manual_seed(seed))
    resized = resize_relative_positions(table, 2 * new - 1)
    assert resized.shape == (2 * new - 1, 3)
    mirrored = resize_relative_positions(table.flip(0), 2 * new - 1).flip(0)
    assert torch.allclose(resized, mirrored, atol=1e-4)
    assert torch.equal(resize_relative_positions(table, len(table)), table)
    assert resized.min() >= table.min() - 1e-6 and resized.max() <= table.max() + 1e-6


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(2, 4), st.integers(1, 6), st.integers(1, 6)),
    st.booleans(),
    st.booleans(),
)
def test_absolute_positions(source, target, has_class, wants_class):
    """Positions that are equal everywhere stay equal on any grid; the class token's is kept, dropped or given."""
    length = source[0] * source[1] * source[2]
    embedding = torch.full((1, length + has_class, 2), 3.0)
    if has_class:
        embedding[:, 0] = 7.0
    given_class = torch.full((1, int(wants_class), 2), -1.0)
    out = resize_absolute_positions(embedding, source, target, given_class)
    assert out.shape == (1, target[0] * target[1] * target[2] + wants_class, 2)
    assert torch.allclose(out[:, int(wants_class) :], torch.tensor(3.0), atol=1e-5)
    if wants_class:
        assert out[0, 0, 0] == (7.0 if has_class else -1.0)


def test_image_positions_repeat_over_time():
    embedding = torch.randn(1, 17, 4)
    out = resize_absolute_positions(embedding, (1, 4, 4), (3, 4, 4), torch.zeros(1, 0, 4))
    assert torch.equal(out.view(3, 16, 4), embedding[:, 1:].expand(3, -1, -1))
    with pytest.raises(ValueError, match="cannot initialize positions of an image"):
        resize_absolute_positions(torch.randn(1, 32, 4), (2, 4, 4), (1, 4, 4), torch.zeros(1, 0, 4))


def test_grids():
    assert infer_grid(197) == (1, 14, 14) and infer_grid(196) == (1, 14, 14)
    assert infer_grid(8 * 49 + 1, 8) == (8, 7, 7)
    assert infer_grid(200) is None


@pytest.mark.parametrize("how", ["mean", "center"])
def test_inflation_keeps_still_clips(how):
    """A clip of one repeated image has the tokens of that image."""
    kernel, image = torch.randn(5, 3, 4, 4), torch.randn(2, 3, 8, 8)
    expected = torch.nn.functional.conv2d(image, kernel, stride=4)
    clip = image.unsqueeze(2).repeat(1, 1, 3, 1, 1)
    tokens = torch.nn.functional.conv3d(clip, inflate_kernel(kernel, 3, how), stride=(3, 4, 4))
    assert torch.allclose(tokens[:, :, 0], expected, atol=1e-5)
    with pytest.raises(ValueError, match="choose one of"):
        inflate_kernel(kernel, 3, "first")


@pytest.mark.parametrize("frames, size, kv", [(4, 96, 8), (8, 64, 8), (10, 128, 8), (4, 64, 4)])
def test_mvit_of_another_size(frames, size, kv):
    """With more or larger frames, or other strides of keys and values, only relative positions change."""
    state = pretraining_state("mvit")
    model = build("maskfeat.MaskedMViT", temporal_size=frames, spatial_size=size, adaptive_kv_stride=(1, kv, kv))
    report = load_into(model, from_state_dict(state))
    assert all(".attn.rel_pos_" in name for name in report.resized)
    assert report.initial == [] and report.found == 1
    for name, value in model.state_dict().items():
        expected = state[f"backbone.{name}"]
        if name in report.resized:
            expected = resize_relative_positions(expected, len(value))
        assert torch.equal(value, expected), name
    model(torch.randn(1, 3, frames, size, size), torch.ones(1, *model.token_grid((frames, size, size))).bool())


@pytest.mark.parametrize("frames, size", [(4, 64), (8, 96)])
def test_mvit_with_absolute_positions(frames, size):
    """3-D positions: joint as in mmaction2, and PySlowFast's separate ones of space, time and class token."""
    source = randomised(build("maskfeat.MaskedMViT", use_abs_pos_embed=True))
    state = {f"backbone.{k}": v for k, v in source.state_dict().items()}
    space, time, first = torch.randn(1, 256, 8), torch.randn(1, 2, 8), torch.randn(1, 1, 8)
    separate = {k: v for k, v in state.items() if not k.endswith("pos_embed")}
    for name, value in (("spatial", space), ("temporal", time), ("class", first)):
        separate[f"backbone.pos_embed_{name}"] = value
    joint = torch.stack([t + space[0] for t in time[0]]).flatten(0, 1)
    for stored, expected in ((state, source.pos_embed.data[0, 1:]), (separate, joint)):
        model = build("maskfeat.MaskedMViT", use_abs_pos_embed=True, temporal_size=frames, spatial_size=size)
        report = load_into(model, from_state_dict(stored))
        assert report.found == 1 and report.initial == []
        assert ("pos_embed" in report.resized) == (size != 64)
        grid = expected.view(2, 16, 16, 8).permute(3, 0, 1, 2)[None]
        wanted = torch.nn.functional.interpolate(grid, size=(frames // 2, size // 4, size // 4), mode="trilinear")
        got = model.pos_embed[:, 1:].unflatten(1, wanted.shape[2:]).permute(0, 4, 1, 2, 3)
        assert torch.allclose(got, wanted, atol=1e-5)
    assert torch.equal(model.pos_embed.data[:, :1], first)


@pytest.mark.parametrize("with_cls_token", [True, False])
@pytest.mark.parametrize("size", [32, 64])
def test_vit_of_another_size(size, with_cls_token):
    state = pretraining_state("vit")
    model = build("mmpretrain.VisionTransformer", img_size=size, with_cls_token=with_cls_token, out_type="avg_featmap")
    report = load_into(model, from_state_dict(state))
    patches = (size // 8) ** 2
    assert model.pos_embed.shape[1] == patches + with_cls_token
    if size == 32:
        assert torch.equal(model.pos_embed.data, state["backbone.pos_embed"][:, 1 - with_cls_token :])
    assert report.initial == ["ln2.weight", "ln2.bias"]  # the norm after the pooling is new


def test_positions_that_are_not_square():
    state = pretraining_state("vit")
    state["backbone.pos_embed"] = torch.randn(1, 1 + 2 * 6, 16)
    model = build("mmpretrain.VisionTransformer")
    report = load_into(model, from_state_dict(state))
    assert "pos_embed" in report.initial and "set init_cfg.position_grid" in str(report)
    report = load_into(model, from_state_dict(state), position_grid=(2, 6))
    assert report.resized["pos_embed"] == ((1, 13, 16), (1, 17, 16)) and report.initial == []


def test_as_many_positions_of_another_grid():
    """Both have 16 tokens, but 2 x 8 positions are not 4 x 4 positions."""
    state = pretraining_state("vit")
    positions = state["backbone.pos_embed"]
    model = build("mmpretrain.VisionTransformer")
    report = load_into(model, from_state_dict(state), position_grid=(2, 8))
    grid = positions[:, 1:].unflatten(1, (2, 8)).permute(0, 3, 1, 2)
    wanted = torch.nn.functional.interpolate(grid, size=(4, 4), mode="bicubic").flatten(2).mT
    torch.testing.assert_close(model.pos_embed.data[:, 1:], wanted, rtol=0, atol=1e-5)
    assert torch.equal(model.pos_embed.data[:, :1], positions[:, :1]) and "pos_embed" in report.resized
    report = load_into(model, from_state_dict(state), position_grid=(4, 4))
    assert torch.equal(model.pos_embed.data, positions) and "pos_embed" not in report.resized


@pytest.mark.parametrize("learnable", [True, False])
def test_image_model_starts_a_video_model(learnable):
    """mmaction2's ViT on a clip of one image computes, token by token, the same as the ViT on the image."""
    state = pretraining_state("vit")
    image_model = build("mmpretrain.VisionTransformer", with_cls_token=False, out_type="featmap")
    load_into(image_model, from_state_dict(state))
    video_model = build(
        "mmaction.VisionTransformer",
        use_learnable_pos_emb=learnable,
        use_mean_pooling=False,
        return_feat_map=True,
        num_frames=2,
    )
    report = load_into(video_model, from_state_dict(state))
    assert report.initial == [] and report.found == 1
    assert set(report.resized) == {"pos_embed", "patch_embed.projection.weight"}
    image = torch.randn(2, 3, 32, 32)
    clip = image.unsqueeze(2).repeat(1, 1, 2, 1, 1)
    image_model.eval()
    video_model.eval()
    with torch.no_grad():
        (expected,) = image_model(image)
        features = video_model(clip)  # (N, C, 1, H', W')
    assert torch.allclose(features[:, :, 0], expected, atol=1e-3 * expected.abs().max().item())


def test_video_checkpoint_of_mmaction2_reads_back():
    """The ViT of clips is a source too: query and value biases become a fused bias with a zero for the key."""
    source = randomised(build("mmaction.VisionTransformer", use_learnable_pos_emb=True))
    checkpoint = from_state_dict(source.state_dict())
    assert checkpoint.format.name == "mmaction2-vit" and checkpoint.unknown == []
    assert checkpoint.state["backbone.layers.0.attn.qkv.bias"][16:32].abs().max() == 0
    target = build("mmaction.VisionTransformer", use_learnable_pos_emb=True)
    assert load_into(target, checkpoint).initial == []
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name


def test_families_do_not_mix():
    with pytest.raises(CheckpointError, match="family 'mvit'"):
        load_into(build("maskfeat.MViT"), from_state_dict(pretraining_state("vit")))
