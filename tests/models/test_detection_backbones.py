"""Backbones and neck for mmdet: windows, pyramid, MViT on images."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.models.backbones.windowed_vit import from_windows, to_windows
from maskfeat_plugin.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS

TINY = dict(embed_dims=32, num_layers=4, num_heads=2, feedforward_channels=64)
TINY_MVIT = dict(embed_dims=16, num_layers=5, num_heads=1, downscale_indices=[1, 2, 4])


def build(kind, **kwargs):
    torch.manual_seed(0)
    model = MODELS.build(dict(type=f"maskfeat.{kind}", **kwargs))
    model.init_weights()
    model.eval()  # eval() of mmpretrain's backbones returns None
    return model


def windowed(**kwargs):
    return build("WindowedViT", arch=TINY, img_size=96, patch_size=8, **kwargs)


@torch.no_grad()
def run(model, size, n=2):
    return model(torch.randn(n, 3, *size, generator=torch.Generator().manual_seed(1)))


def test_one_window_is_full_attention():
    windows = windowed(window_size=12, global_attn_indexes=())
    everywhere = windowed(window_size=3, global_attn_indexes=(0, 1, 2, 3))
    everywhere.load_state_dict(windows.state_dict())
    torch.testing.assert_close(run(windows, (96, 96))[0], run(everywhere, (96, 96))[0])
    # larger than the grid: the padding of the window gets no attention
    padded = windowed(window_size=20, global_attn_indexes=())
    padded.load_state_dict(windows.state_dict())
    torch.testing.assert_close(run(padded, (96, 96))[0], run(everywhere, (96, 96))[0])
    torch.testing.assert_close(run(padded, (64, 88))[0], run(everywhere, (64, 88))[0])


def test_without_windows_it_is_mmpretrains_vit():
    ours = windowed(window_size=3, global_attn_indexes=(0, 1, 2, 3))
    settings = dict(arch=TINY, img_size=96, patch_size=8, out_type="featmap", with_cls_token=False)
    theirs = MODELS.build(dict(type="mmpretrain.VisionTransformer", **settings))
    theirs.eval()
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(run(ours, (96, 64))[0], run(theirs, (96, 64))[0])


def test_a_window_sees_itself_alone():
    model = windowed(window_size=4, global_attn_indexes=())
    image = torch.randn(1, 3, 96, 80, generator=torch.Generator().manual_seed(1))
    changed = image.clone()
    changed[..., :32, 64:] += 1.0  # the third window of the first row, which is only 2 of 4 tokens wide
    with torch.no_grad():
        difference = (model(image)[0] - model(changed)[0]).abs().amax((0, 1))  # (12, 10)
    assert (difference[:4, 8:] > 1e-4).all()
    difference[:4, 8:] = 0
    assert difference.max() < 1e-6


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 17), st.integers(1, 17), st.integers(1, 9))
def test_windows_there_and_back(n, height, width, window_size):
    x = torch.arange(n * height * width * 2.0).view(n, height * width, 2)
    windows = to_windows(x, (height, width), window_size)
    assert windows.shape[1] == window_size**2
    assert torch.equal(from_windows(windows, (height, width), window_size), x)


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 8), st.integers(2, 8))
def test_any_size_that_the_stride_divides_gives_a_pyramid(rows, cols):
    backbone = build("WindowedViT", arch=TINY, img_size=64, patch_size=16, window_size=3)
    neck = build("SimpleFeaturePyramid", in_channels=32, out_channels=8)
    size = (16 * rows, 16 * cols)
    outs = run(backbone, size)
    assert isinstance(outs, tuple) and outs[-1].shape == (2, 32, rows, cols)
    levels = neck(outs)
    strides = (4, 8, 16, 32, 64)
    assert len(levels) == 5
    for level, stride in zip(levels[:3], strides, strict=False):
        assert level.shape == (2, 8, size[0] // stride, size[1] // stride)
    assert levels[3].shape == (2, 8, rows // 2, cols // 2)
    assert levels[4].shape == (2, 8, -(-(rows // 2) // 2), -(-(cols // 2) // 2))


@settings(max_examples=6, deadline=None)
@given(st.integers(2, 5), st.integers(2, 5))
def test_mvit_gives_plain_maps_of_four_scales(rows, cols):
    model = build("ImageMViT", arch=TINY_MVIT, spatial_size=64)
    size = (32 * rows, 32 * cols)
    maps = run(model, size, n=1)
    for featmap, stride in zip(maps, (4, 8, 16, 32), strict=True):
        assert torch.is_tensor(featmap) and featmap.shape[2:] == (size[0] // stride, size[1] // stride)


@pytest.mark.parametrize("kind, stride", [("WindowedViT", 8), ("ImageMViT", 32)])
def test_other_sizes_are_refused(kind, stride):
    model = windowed() if kind == "WindowedViT" else build(kind, arch=TINY_MVIT, spatial_size=64)
    with pytest.raises(ValueError, match="not a multiple of the token stride"):
        run(model, (96, 96 + stride // 2))


def test_an_image_is_a_still_clip_to_mvit():
    """The patch embedding of an image is equal to the middle time step of a long clip of that image."""
    image_model = build("ImageMViT", arch=TINY_MVIT, spatial_size=64)
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        tokens, grid = image_model._embed_images(image)
        clip, clip_grid = image_model.patch_embed(image[:, :, None].expand(-1, -1, 6, -1, -1))
    assert grid == (1, *clip_grid[1:])
    middle = clip.unflatten(1, tuple(clip_grid))[:, 1].flatten(1, 2)
    torch.testing.assert_close(tokens[:, 1:], middle, atol=1e-5, rtol=1e-4)


def test_a_scales_norm_does_not_change_what_follows():
    """The last map is the same with all scales and with only the last: the other norms were not pre-trained."""
    every = build("ImageMViT", arch=TINY_MVIT, spatial_size=64)
    last = build("ImageMViT", arch=TINY_MVIT, spatial_size=64, out_scales=(3,))
    last.load_state_dict(every.state_dict(), strict=False)
    torch.testing.assert_close(run(every, (64, 96))[-1], run(last, (64, 96))[0])


@pytest.mark.parametrize("kind", ["WindowedViT", "ImageMViT", "MViT"])
def test_recomputing_blocks_gives_the_same_gradients(kind):
    size = (2, 3, 8, 64, 64) if kind == "MViT" else (2, 3, 64, 64)
    settings = dict(arch=TINY, img_size=64, patch_size=16) if kind == "WindowedViT" else dict(arch=TINY_MVIT)
    if kind != "WindowedViT":
        settings["spatial_size"] = 64
    if kind == "MViT":
        settings.update(temporal_size=8, output_cls_token=False)
    plain, recomputing = (build(kind, with_cp=with_cp, **settings) for with_cp in (False, True))
    recomputing.load_state_dict(plain.state_dict())
    x = torch.randn(*size, generator=torch.Generator().manual_seed(1))
    for model in (plain, recomputing):
        sum(out.square().mean() for out in model(x)).backward()
    theirs = dict(recomputing.named_parameters())
    compared = 0
    for name, parameter in plain.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, theirs[name].grad)
            compared += bool(parameter.grad.abs().max() > 0)
    assert compared > 20


def test_weights_of_a_pretrained_vit_are_all_found(tmp_path):
    """Weights pre-trained at another size and with a class token load, except the tokens of pre-training."""
    pretrained = build("MaskedViT", arch=TINY, img_size=64, patch_size=8)
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in pretrained.state_dict().items()}}, tmp_path / "p.pth")
    init_cfg = dict(type="maskfeat.Pretrained", checkpoint=str(tmp_path / "p.pth"))
    model = windowed(init_cfg=init_cfg)
    for name, value in model.state_dict().items():
        if name != "pos_embed":
            assert torch.equal(value, pretrained.state_dict()[name]), name
    assert model.pos_embed.shape == (1, 144, 32)
    # after resizing, positions are similar to the old positions where the two grids meet
    grid = pretrained.pos_embed[0, 1:].unflatten(0, (8, 8)).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(grid, (12, 12), mode="bicubic", align_corners=False)
    torch.testing.assert_close(model.pos_embed[0].T.unflatten(1, (12, 12))[None], expected, atol=1e-4, rtol=1e-3)


def test_weights_of_a_video_mvit_are_all_found(tmp_path):
    clips = build("MaskedMViT", arch={**TINY_MVIT, "downscale_indices": [1, 2]}, temporal_size=8, spatial_size=64)
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in clips.state_dict().items()}}, tmp_path / "p.pth")
    init_cfg = dict(type="maskfeat.Pretrained", checkpoint=str(tmp_path / "p.pth"), min_found=0.5)
    arch = {**TINY_MVIT, "downscale_indices": [1, 2]}
    model = build("ImageMViT", arch=arch, spatial_size=128, out_scales=(0, 1, 2), temporal_size=8, init_cfg=init_cfg)
    before, after = clips.state_dict(), model.state_dict()
    assert torch.equal(after["patch_embed.projection.weight"], before["patch_embed.projection.weight"])
    same = [k for k in after if k.startswith("blocks.") and ".rel_pos_" not in k]
    assert len(same) > 50 and all(torch.equal(after[k], before[k]) for k in same)


def test_layer_decay_in_a_detector():
    """Blocks get the learning rate of their depth; neck and heads get the full learning rate."""

    class Detector(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = windowed()
            self.neck = build("SimpleFeaturePyramid", in_channels=32, out_channels=8)
            self.rpn_head = torch.nn.Linear(2, 2)

    model = Detector()
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type="maskfeat.LayerDecayOptimWrapperConstructor",
            optim_wrapper_cfg=dict(optimizer=dict(type="AdamW", lr=1.0, weight_decay=0.1)),
            paramwise_cfg=dict(layer_decay_rate=0.5, flat_decay_mult=0.0),
        )
    )
    groups = constructor(model).optimizer.param_groups
    lr = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert lr[id(model.backbone.pos_embed)] == 0.5**5
    assert lr[id(model.backbone.layers[3].ln1.weight)] == 0.5
    assert lr[id(model.backbone.layers[0].ln1.weight)] == 0.5**4
    for part in (model.neck, model.rpn_head):
        assert {lr[id(p)] for p in part.parameters()} == {1.0}


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(type="WindowedViT", window_size=0), "window_size=0"),
        (dict(type="WindowedViT", global_attn_indexes=(12,)), r"global_attn_indexes contains \[12\]"),
        (dict(type="SimpleFeaturePyramid", in_channels=30), "in_channels=30"),
        (dict(type="SimpleFeaturePyramid", in_channels=32, num_outs=3), "num_outs=3"),
    ],
)
def test_bad_settings_are_named(settings, message):
    kind = settings.pop("type")
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type=f"maskfeat.{kind}", **settings))
