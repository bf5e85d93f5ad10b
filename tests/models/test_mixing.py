"""Components of other packages with this package's and the reverse: each config of configs/mixing learns its target."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner, save_checkpoint, set_random_seed

from maskfeat_plugin.registry import MODELS

CONFIGS = Path(__file__).parents[2] / "configs"
PATHS = sorted((CONFIGS / "mixing").glob("*.py"))
VIT = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)


class Setting:
    """The model, optimizer and first batch of a config."""

    def __init__(self, path):
        cfg = Config.fromfile(path)
        cfg.train_dataloader.batch_size = 6
        set_random_seed(0)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            data = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
            self.model = MODELS.build(cfg.model)
            self.model.init_weights()
            self.optim_wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        self.model.train()
        self.data = data
        self.batch = self.model.data_preprocessor(data, True)

    def train(self, steps):
        return [self.model.train_step(self.data, self.optim_wrapper)["loss"].item() for _ in range(steps)]

    @torch.no_grad()
    def loss(self):
        losses = self.model(**self.batch, mode="loss")
        return losses["loss"] if "loss" in losses else losses["loss_cls"]


@pytest.fixture
def setting(digits, monkeypatch):
    monkeypatch.chdir(digits)
    return lambda name: Setting(*(CONFIGS / "mixing").glob(f"{name}_moving-digits*.py"))


def hog_by_hand(images, cell, side):
    """Cut the HOG of every token of ``side`` pixels, (N, L, C * bins * u * v), from the HOG of the whole images."""
    whole = MODELS.build(dict(type="maskfeat.HOGGenerator", cell_size=cell)).hog(images).flatten(1, 2)
    cells = side // cell
    tokens = whole.unfold(2, cells, cells).unfold(3, cells, cells)  # (N, C * bins, H', W', u, v)
    return tokens.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def masks(batch):
    """Return the masks, bool (N, L)."""
    mask = batch.get("mask")
    if mask is None:
        mask = torch.stack([sample.mask for sample in batch["data_samples"]])
    return mask.flatten(1).bool()


def test_every_config_is_tested():
    assert len(PATHS) == 8


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem.removesuffix("_moving-digits"))
def test_training_lowers_the_loss(path, digits, monkeypatch):
    monkeypatch.chdir(digits)
    losses = Setting(path).train(12)
    assert all(map(math.isfinite, losses)) and losses[-1] < 0.8 * losses[0]


def test_swin_of_simmim_predicts_hog(setting):
    mixed = setting("maskfeat_simmim-swin-tiny")
    samples = mixed.model(**mixed.batch, mode="predict")
    expected = hog_by_hand(mixed.batch["inputs"], cell=8, side=16)[masks(mixed.batch)]
    torch.testing.assert_close(torch.cat([s.target_features for s in samples]), expected)
    assert expected.shape == (6 * 6, 108)  # 40 % of 16 tokens
    pred = torch.cat([s.pred_features for s in samples])
    mixed.model.eval()
    torch.testing.assert_close(mixed.loss(), F.mse_loss(pred, expected))


def test_mim_head_compares_pixels(setting):
    mixed = setting("maskfeat_vit-tiny_mim-head")
    images, mask = mixed.batch["inputs"], masks(mixed.batch)
    head = MODELS.build(
        dict(
            type="mmpretrain.MAEPretrainHead",
            patch_size=8,
            norm_pix=True,
            loss=dict(type="mmpretrain.PixelReconstructionLoss", criterion="L2"),
        )
    )
    theirs = head.construct_target(images).unflatten(2, (8, 8, 3)).permute(0, 1, 4, 2, 3).flatten(2)[mask]
    samples = mixed.model(**mixed.batch, mode="predict")
    torch.testing.assert_close(torch.cat([s.target_features for s in samples]), theirs, atol=1e-4, rtol=1e-4)
    pred = torch.cat([s.pred_features for s in samples])
    assert pred.shape == (6 * 10, 192)
    torch.testing.assert_close(mixed.loss(), F.mse_loss(pred, theirs), atol=1e-5, rtol=1e-5)


def masked_tokens(host, images, mask):
    """Compute the tokens (N, L, C) of MaskedViT with the weights of another model's backbone."""
    arch = dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384)
    backbone = MODELS.build(dict(type="maskfeat.MaskedViT", arch=arch, img_size=40, patch_size=8))
    backbone.load_state_dict(host.backbone.state_dict())
    with torch.no_grad():
        return backbone(images, mask.view(-1, 1, 5, 5))


def test_simmim_has_our_tokens(setting):
    mixed = setting("simmim_masked-vit-tiny")
    images, mask = mixed.batch["inputs"], masks(mixed.batch)
    assert mask.sum(1).tolist() == [15] * 6
    tokens = masked_tokens(mixed.model, images, mask)
    rebuilt = mixed.model.neck(tokens.mT.unflatten(2, (5, 5)))  # (N, 3, 40, 40)
    patches = [x.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(1, 2) for x in (rebuilt, images)]
    torch.testing.assert_close(mixed.loss(), F.l1_loss(patches[0][mask], patches[1][mask]))


def test_beit_has_our_tokens(setting):
    mixed = setting("beit_masked-vit-tiny")
    images, mask = mixed.batch["inputs"], masks(mixed.batch)
    ids = mixed.model.target_generator(images[1]).argmax(1).flatten(1)[mask]
    assert len(ids) == 6 * 10 and len(ids.unique()) > 1
    tokens = masked_tokens(mixed.model, images[0], mask)[mask]
    torch.testing.assert_close(mixed.loss(), F.cross_entropy(mixed.model.head.cls_head(tokens), ids))


def test_i3d_head_pools_our_feature_map(setting):
    mixed = setting("mvit-tiny_i3d-head")
    clips = mixed.batch["inputs"].squeeze(1)
    labels = torch.cat([sample.gt_label for sample in mixed.batch["data_samples"]])
    with torch.no_grad():
        (featmap,) = mixed.model.backbone(clips)
        logits = mixed.model.cls_head.fc_cls(featmap.mean((2, 3, 4)))
    assert featmap.shape == (6, 64, 4, 4, 4)
    torch.testing.assert_close(mixed.loss(), F.cross_entropy(logits, labels))


def shipped_vit():
    """Load mmpretrain's ViT with the demo's weights by plain torch."""
    arch = dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384)
    vit = MODELS.build(
        dict(type="mmpretrain.VisionTransformer", arch=arch, img_size=40, patch_size=8, out_type="featmap")
    )
    path = CONFIGS / "demo" / "weights" / "maskfeat_vit-tiny_moving-digits.pth"
    state = {k: v.float() for k, v in torch.load(path, weights_only=True)["state_dict"].items()}
    found = vit.load_state_dict({k.removeprefix("backbone."): v for k, v in state.items()}, strict=False)
    assert not found.missing_keys
    vit.eval()
    return vit


@pytest.mark.parametrize("name", ["maskfeat_vit-tiny_teacher", "maskfeat_mvit-tiny_teacher"])
def test_teachers_features_are_the_target(setting, name):
    """For clips, the teacher sees every second frame."""
    mixed = setting(name)
    inputs = mixed.batch["inputs"]
    frames = inputs[:, None] if inputs.dim() == 4 else inputs[:, :, ::2].transpose(1, 2)  # (N, T', C, H, W)
    with torch.no_grad():
        (featmap,) = shipped_vit()(frames.flatten(0, 1))  # (N*T', C, H', W')
    expected = F.normalize(featmap, dim=1).permute(0, 2, 3, 1).reshape(len(inputs), -1, 96)[masks(mixed.batch)]
    samples = mixed.model(**mixed.batch, mode="predict")
    torch.testing.assert_close(torch.cat([s.target_features for s in samples]), expected, atol=1e-5, rtol=1e-4)


def test_the_teacher_is_neither_trained_nor_saved(setting):
    mixed = setting("maskfeat_vit-tiny_teacher")
    network = mixed.model.target_generator.teacher.network
    before = {k: v.clone() for k, v in network.state_dict().items()}
    mixed.train(2)
    assert not network.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    trained = {id(p) for group in mixed.optim_wrapper.optimizer.param_groups for p in group["params"]}
    assert trained and not trained & {id(p) for p in network.parameters()}
    assert not [key for key in mixed.model.state_dict() if "teacher" in key or "target_generator" in key]


def test_mmpretrains_maskfeat_predicts_our_hog(setting):
    mixed = setting("mmpretrain-maskfeat_vit-tiny")
    images, mask = mixed.batch["inputs"], masks(mixed.batch)
    expected = hog_by_hand(images, cell=4, side=8)
    torch.testing.assert_close(mixed.model.target_generator(images), expected)
    with torch.no_grad():
        tokens = mixed.model.backbone(images, mask)[:, 1:][mask]
        (pred,) = mixed.model.neck(tokens)
    torch.testing.assert_close(mixed.loss(), F.mse_loss(pred, expected[mask]))


MASKABLE = {
    "swin": dict(
        backbone=dict(
            type="mmpretrain.SimMIMSwinTransformer",
            arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]),
            img_size=64,
            drop_path_rate=0.0,
            stage_cfgs=dict(block_cfgs=dict(window_size=2)),
        ),
        mask_stride=4,
        token_stride=32,
    ),
    "beit": dict(
        backbone=dict(type="mmpretrain.BEiTPretrainViT", arch=VIT, img_size=64, patch_size=16),
        mask_stride=16,
    ),
    "maskfeat": dict(
        backbone=dict(type="mmpretrain.MaskFeatViT", arch=VIT, img_size=64, patch_size=16),
        mask_stride=16,
    ),
}


def maskable(name, **changes):
    torch.manual_seed(0)
    backbone = MODELS.build(dict(type="maskfeat.MaskableBackbone", **{**MASKABLE[name], **changes}))
    backbone.init_weights()
    return backbone.eval()


@pytest.mark.parametrize("scope", ["mmpretrain", "mmaction", "mmdet"])
@pytest.mark.parametrize("name", MASKABLE)
def test_no_backbone_sees_masked_pixels(name, scope):
    with DefaultScope.overwrite_default_scope(scope):
        backbone = maskable(name)
    images = torch.randn(2, 3, 64, 64)
    grid = backbone.token_grid((64, 64))
    assert grid == ((1, 2, 2) if name == "swin" else (1, 4, 4))
    mask = torch.zeros(2, *grid, dtype=torch.bool)
    mask[:, 0, 0, 1] = True
    side = 64 // grid[2]
    masked, seen = images.clone(), images.clone()
    masked[:, :, :side, side : 2 * side] = 1.0
    seen[:, :, side : 2 * side, :side] = 1.0
    with torch.no_grad():
        tokens = backbone(images, mask)
        assert tokens.shape[:2] == (2, grid[1] * grid[2])
        torch.testing.assert_close(backbone(masked, mask), tokens)
        assert not torch.allclose(backbone(seen, mask), tokens)
        # the tokens have the same order as in the map that the backbone itself returns
        nothing = torch.zeros_like(mask)
        plain = backbone(images)[-1]
        plain = plain.flatten(2).mT if plain.dim() == 4 else plain
        if plain.dim() == 3:
            torch.testing.assert_close(backbone(images, nothing), plain[:, -grid[1] * grid[2] :])


def test_bad_maskable_backbones_are_named():
    with pytest.raises(ValueError, match="token_stride=30 must be a multiple of mask_stride=4"):
        maskable("swin", token_stride=30)
    images = torch.randn(1, 3, 64, 64)
    with pytest.raises(ValueError, match=r"set the mask generator's token_grid=\(2, 2\)"):
        maskable("swin")(images, torch.ones(1, 1, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"gives .* for the token grid \(4, 4\); set token_stride"):
        maskable("swin", token_stride=16)(images, torch.ones(1, 1, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="not a multiple of the token stride"):
        maskable("swin").token_grid((48, 64))


def test_bad_hosted_vits_are_named():
    vit = dict(type="maskfeat.MIMViT", arch=VIT, img_size=32, patch_size=8)
    with pytest.raises(ValueError, match="out_type='raw' needs the class token"):
        MODELS.build(dict(vit, with_cls_token=False))
    with pytest.raises(ValueError, match="set the mask generator's token_grid"):
        MODELS.build(vit)(torch.randn(1, 3, 32, 32), torch.ones(1, 3, 3))


@pytest.mark.parametrize("name", ["simmim_masked-vit-tiny", "beit_masked-vit-tiny", "maskfeat_simmim-swin-tiny"])
def test_weights_load_into_the_plain_upstream_model(setting, tmp_path, name):
    mixed = setting(name)
    mixed.train(1)
    save_checkpoint(dict(state_dict=mixed.model.state_dict()), str(tmp_path / "mixed.pth"))
    if name.startswith("maskfeat"):
        prefix, plain = "backbone.backbone.", dict(type="mmpretrain.SwinTransformer", out_indices=(2,), img_size=64)
        plain["arch"] = dict(embed_dims=24, depths=[2, 2, 2], num_heads=[2, 4, 8])
        plain["stage_cfgs"] = dict(block_cfgs=dict(window_size=4))
        trained = mixed.model.backbone.backbone
    else:
        prefix, plain = "backbone.", dict(type="mmpretrain.VisionTransformer", img_size=40, patch_size=8)
        plain["arch"] = dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384)
        trained = mixed.model.backbone
    init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "mixed.pth"), prefix=prefix)
    plain = MODELS.build(dict(plain, init_cfg=init_cfg))
    plain.init_weights()
    state = trained.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in plain.state_dict().items())
