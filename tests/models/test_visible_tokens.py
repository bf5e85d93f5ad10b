"""Encoders of the visible tokens: their equivalents, their learning, and transfer of their weights."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmengine.runner import save_checkpoint, set_random_seed

from maskfeat_plugin.checkpoints.initializer import PretrainedInit
from maskfeat_plugin.models.utils import VisibleUnits
from maskfeat_plugin.registry import MODELS

CONFIGS = Path(__file__).parents[2] / "configs" / "efficient"
NAMES = dict(
    image="maskfeat-visible_vit-tiny_moving-digits.py",
    video="maskfeat-visible_mvit-tiny_moving-digits.py",
)
VIT = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
# Channels double in the MLP before block 1, or in the attention of block 1
MVIT = dict(embed_dims=16, num_layers=3, num_heads=1, downscale_indices=[1], dim_mul_indices=[1, 2])
# No two tokens share a pixel
APART = dict(kernel_size=(2, 4, 4), stride=(2, 4, 4), padding=(0, 0, 0))


@pytest.fixture(params=["image", "video"])
def kind(request):
    return request.param


def demo_model(kind):
    """Build the model of the tiny config, and four random samples with masks of 40 %."""
    cfg = Config.fromfile(CONFIGS / NAMES[kind])
    set_random_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    model.init_weights()
    size, grid = ((40, 40), (1, 5, 5)) if kind == "image" else ((8, 32, 32), (4, 4, 4))
    return model, torch.randn(4, 3, *size), random_mask(4, grid)


def random_mask(samples, grid, share=0.4):
    tokens = grid[0] * grid[1] * grid[2]
    order = torch.rand(samples, tokens, generator=torch.Generator().manual_seed(0)).argsort(1)
    return (order < round(share * tokens)).unflatten(1, grid)


def random_weights(model):
    """Draw weights large enough to matter, also for positions and norms, which begin at zero or one."""
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.data = torch.randn(p.shape, generator=generator) * (0.5 if p.dim() == 1 or p.shape[0] == 1 else 0.2)
    model.eval()  # eval() of mmpretrain's backbones returns None
    return model


def vit(size=32, kind="VisibleViT", **kwargs):
    cfg = dict(type=f"maskfeat.{kind}", arch=VIT, img_size=size, patch_size=8, out_type="featmap")
    return random_weights(MODELS.build(dict(cfg, **kwargs)))


def mvit(frames=8, size=64, kind="VisibleMViT", **kwargs):
    cfg = dict(
        type=f"maskfeat.{kind}",
        arch=MVIT,
        temporal_size=frames,
        spatial_size=size,
        patch_cfg=APART,
        adaptive_kv_stride=(1, 4, 4),
        output_cls_token=False,
    )
    return random_weights(MODELS.build(dict(cfg, **kwargs)))


def assert_equal(a, b):
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


VARIANTS = [
    ("image", {}),
    ("image", dict(with_cls_token=False)),
    ("video", {}),
    ("video", dict(with_cls_token=False)),
    ("video", dict(dim_mul_in_attention=True)),
    ("video", dict(rel_pos_embed=False, use_abs_pos_embed=True)),
    ("video", dict(residual_pooling=False, adaptive_kv_stride=(1, 2, 2))),
]


@pytest.mark.parametrize(("kind", "settings"), VARIANTS)
def test_with_nothing_masked_it_is_the_dense_encoder(kind, settings):
    if kind == "image":
        visible, masked = vit(**settings), vit(kind="MaskedViT", **settings)
        inputs, mask = torch.randn(2, 3, 32, 32), torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    else:
        visible, masked = mvit(**settings), mvit(kind="MaskedMViT", **settings)
        inputs, mask = torch.randn(2, 3, 8, 64, 64), torch.zeros(2, 4, 8, 8, dtype=torch.bool)
    keys = masked.load_state_dict(visible.state_dict(), strict=False)
    assert keys.missing_keys == ["mask_token"] and not keys.unexpected_keys
    with torch.no_grad():
        assert_equal(visible(inputs, mask), masked(inputs, mask))
        assert_equal(visible(inputs)[-1], masked(inputs)[-1])  # also without a mask


@pytest.mark.parametrize("settings", [s for k, s in VARIANTS if k == "image"])
def test_hiding_half_an_image_is_encoding_the_other_half(settings):
    """Compare with the plain ViT on the crop, with the positions of the crop."""
    whole, half = vit(**settings), vit(size=(32, 16), kind="MaskedViT", **settings)
    extra = whole.num_extra_tokens
    state = whole.state_dict()
    positions = state["pos_embed"][:, extra:].unflatten(1, (4, 4))[:, :, :2].flatten(1, 2)
    state["pos_embed"] = torch.cat((state["pos_embed"][:, :extra], positions), dim=1)
    half.load_state_dict(state, strict=False)
    inputs, mask = torch.randn(2, 3, 32, 32), torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    mask[..., 2:] = True
    with torch.no_grad():
        crop = half(inputs[..., :16])[-1]  # (N, C, 4, 2)
        assert_equal(whole(inputs, mask), crop.flatten(2).mT)


@pytest.mark.parametrize("settings", [s for k, s in VARIANTS if k == "video" and "use_abs_pos_embed" not in s])
@pytest.mark.parametrize("axis", ["time", "space"])
def test_hiding_part_of_a_clip_is_encoding_the_rest(settings, axis):
    """Compare with the dense MViT on the crop, with the middle of the tables of relative positions."""
    frames, size = (4, 64) if axis == "time" else (8, 32)
    whole, part = mvit(**settings), mvit(frames, size, kind="MViT", **settings)
    state = whole.state_dict()
    for key, table in part.state_dict().items():
        if "rel_pos" in key:
            spare = (len(state[key]) - len(table)) // 2
            state[key] = state[key][spare : spare + len(table)]
    part.load_state_dict(state)
    inputs, mask = torch.randn(2, 3, 8, 64, 64), torch.ones(2, 4, 8, 8, dtype=torch.bool)
    times, sides = slice((8 - frames) // 2, (8 + frames) // 2), slice((64 - size) // 2, (64 + size) // 2)  # the middle
    steps, places = (slice(s.start // n, s.stop // n) for s, n in ((times, 2), (sides, 8)))
    mask[:, steps, places, places] = False
    with torch.no_grad():
        crop = part(inputs[:, :, times, sides, sides])[-1]
        assert_equal(whole(inputs, mask), crop.flatten(2).mT)


def test_each_sample_has_its_own_mask(kind):
    model, inputs, mask = demo_model(kind)
    random_weights(model)
    assert not torch.equal(mask[0], mask[1])
    with torch.no_grad():
        alone = torch.cat([model.backbone(inputs[i : i + 1], mask[i : i + 1]) for i in range(4)])
        together = model.backbone(inputs, mask)
    assert together.shape[1] == int((~mask[0]).sum())
    assert_equal(together, alone)


def test_masked_pixels_are_not_seen(kind):
    """An MViT's patch embedding sees a few pixels beyond its token; here its kernel does not."""
    model = vit() if kind == "image" else mvit()
    inputs = torch.randn(2, 3, 32, 32) if kind == "image" else torch.randn(2, 3, 8, 64, 64)
    units = random_mask(2, (1, 4, 4))
    mask = units if kind == "image" else units.repeat_interleave(4, 1).repeat_interleave(2, 2).repeat_interleave(2, 3)
    pixels = torch.nn.functional.interpolate(mask.float()[:, None], (1, 32, 32) if kind == "image" else (8, 64, 64))
    masked = pixels[:, :, 0] if kind == "image" else pixels
    with torch.no_grad():
        expected = model(inputs, mask)
        assert torch.equal(model(torch.where(masked.bool(), 9.0, inputs), mask), expected)
        assert not torch.allclose(model(torch.where(masked.bool(), inputs, 9.0), mask), expected)


def test_training_falls_below_the_mean_predictor(kind):
    model, inputs, mask = demo_model(kind)
    optim = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=2e-3))
    log = []
    for _ in range(100):
        loss, log_vars = model.parse_losses(model(inputs[:2], mask=mask[:2], mode="loss"))
        optim.update_params(loss)
        log.append(log_vars)
    assert log[-1]["loss"] < 0.8 * log[-1]["baseline"] < 0.5 * log[0]["loss"]


def test_gradients_reach_every_parameter(kind):
    model, inputs, mask = demo_model(kind)
    model(inputs, mask=mask, mode="loss")["loss"].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    if kind == "video":  # weights for the time steps before and after, which pooling inside a unit would not use
        grad = model.backbone.blocks[0].attn.pool_k.weight.grad  # (C, 1, 3, 3, 3)
        assert grad[:, :, 0].any() and grad[:, :, 2].any()


def test_predictions_are_in_the_masked_places(kind):
    model, inputs, mask = demo_model(kind)
    samples = model.eval()(inputs, mask=mask, mode="predict")
    target = model._target(inputs, mask, None, None)
    pred = model._predict(model._masked_tokens(inputs, mask, None), target, inputs)[""]
    assert torch.equal(torch.cat([s.target_features for s in samples]), target[""])
    assert all(s.pred_features.shape == (int(m.sum()), 108) for s, m in zip(samples, mask, strict=True))
    assert_equal(torch.cat([s.pred_features for s in samples]), pred)


def test_the_decoder_knows_places(kind):
    """Masked tokens differ by their positions, even if the encoder returns equal tokens everywhere."""
    model, _, mask = demo_model(kind)
    channels = model.decoder.embed.in_features
    tokens = torch.ones(4, int((~mask[0]).sum()), channels)
    decoded = model.decoder(tokens, mask).detach()
    distances = torch.cdist(decoded[: int(mask[0].sum())], decoded[: int(mask[0].sum())])
    assert (distances + torch.eye(len(distances)) > 1e-3).all()


def test_autocast_gives_nearly_the_same_loss(kind):
    model, inputs, mask = demo_model(kind)
    expected = model(inputs, mask=mask, mode="loss")["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(inputs, mask=mask, mode="loss")["loss"]
    assert loss.item() == pytest.approx(expected.item(), rel=0.02)


def test_recomputing_blocks_gives_the_same_gradients():
    grads = []
    for with_cp in (False, True):
        model = mvit(with_cp=with_cp)
        mask = torch.zeros(1, 4, 8, 8, dtype=torch.bool)
        mask[:, 1:3, 2:6, :4] = True
        torch.manual_seed(0)
        model(torch.randn(1, 3, 8, 64, 64), mask).square().mean().backward()
        grads.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(*grads, strict=True))


def test_weights_load_in_the_plain_backbone(kind, tmp_path):
    model, inputs, _ = demo_model(kind)
    file = str(tmp_path / "pretrained.pth")
    save_checkpoint(dict(state_dict=model.state_dict()), file)
    cfg = Config.fromfile(CONFIGS / NAMES[kind]).model.backbone
    cfg.update(type="mmpretrain.VisionTransformer" if kind == "image" else "mmaction.MViT")
    if kind == "video":
        cfg.dim_mul_in_attention = False
    plain = MODELS.build(cfg)
    report = PretrainedInit(file)(plain)
    assert report.found == 1.0 and not report.initial and not report.resized
    decoder = {f"decoder.{name}" for name in model.decoder.state_dict()}
    assert decoder and decoder | {"neck.fc.weight", "neck.fc.bias"} == set(report.ignored)
    plain.eval()
    model.eval()
    found, expected = plain(inputs)[-1], model(inputs)[-1]
    for a, b in zip(*([x] if torch.is_tensor(x) else x for x in (found, expected)), strict=True):
        assert_equal(a, b)


def test_mask_units():
    """The mask unit is the smallest cube that no pooling crosses, in tokens of the last stage."""
    assert mvit().mask_unit == (1, 2, 2)
    assert mvit(adaptive_kv_stride=(1, 2, 2)).mask_unit == (1, 1, 1)
    small = Config.fromfile(CONFIGS / "maskfeat-visible_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py")
    with torch.device("meta"):
        backbone = MODELS.build(small.model.backbone)
    generator = next(t for t in small.train_dataloader.dataset.pipeline if "window_size" in t)
    sizes = zip(generator.token_grid, generator.window_size, strict=True)
    assert backbone.mask_unit == (1, 2, 2) == tuple(g // w for g, w in sizes)


def test_gather_undoes_scatter():
    visible = VisibleUnits(random_mask(3, (2, 2, 3))).tokens((2, 4, 3))
    tokens = torch.randn(3, visible.index.shape[1], 5)
    whole = visible.scatter(tokens, fill=7.0)
    assert whole.shape == (3, 24, 5)
    assert torch.equal(visible.gather(whole), tokens)
    assert int((whole == 7.0).all(-1).sum()) == 3 * (24 - tokens.shape[1])


def test_unequal_counts_are_an_error(kind):
    model, inputs, mask = demo_model(kind)
    mask[1].flatten()[mask[1].flatten().nonzero()[0]] = False
    masked = int(mask[0].sum())
    with pytest.raises(ValueError, match=rf"from {masked - 1} to {masked} places.*mask generator.*BlockMaskGenerator"):
        model(inputs, mask=mask, mode="loss")


def test_wrong_masks_are_errors(kind):
    model, inputs, mask = demo_model(kind)
    with pytest.raises(ValueError, match="mask_ratio"):
        model.backbone(inputs, torch.ones_like(mask))
    with pytest.raises(ValueError, match="token_grid=" + (r"\(5, 5\)" if kind == "image" else r"\(4, 4, 4\)")):
        model.backbone(inputs, mask[..., :-1])
    with pytest.raises(ValueError, match=r"maskfeat\.VisibleViT"):
        model.decoder(torch.zeros(4, mask[0].numel(), model.decoder.embed.in_features), mask)


def test_units_masked_in_part_are_an_error():
    mask = torch.zeros(1, 4, 8, 8, dtype=torch.bool)
    mask[:, :, 0, 0] = True
    with pytest.raises(ValueError, match=r"window_size=\(4, 4, 4\)"):
        mvit()(torch.randn(1, 3, 8, 64, 64), mask)
    with pytest.raises(ValueError, match=r"\(1, 2, 2\).*does not divide the token grid \(4, 7, 7\)"):
        mvit(size=56)(torch.randn(1, 3, 8, 56, 56), torch.zeros(1, 4, 7, 7, dtype=torch.bool))


def test_decoder_settings_are_checked():
    for settings, key in ((dict(num_layers=0), "num_layers"), (dict(embed_dims=50, num_heads=3), "embed_dims")):
        with pytest.raises(ValueError, match=f"^{key}"):
            MODELS.build(dict(type="maskfeat.MAEDecoder", in_channels=8, **settings))
