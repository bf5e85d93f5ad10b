"""MaskFeat and its parts through the registry: learning, prediction, transfer to plain backbones, bad input."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import save_checkpoint

from maskfeat_plugin.registry import MODELS

VIT = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
MVIT = dict(embed_dims=16, num_layers=3, num_heads=1, downscale_indices=[1], dim_mul_indices=[1, 2])


def image_model(**backbone):
    return MODELS.build(
        dict(
            type="maskfeat.MaskFeat",
            backbone=dict(type="maskfeat.MaskedViT", arch=VIT, img_size=32, patch_size=8, **backbone),
            target_generator=dict(type="maskfeat.HOGGenerator", cell_size=4),
            neck=dict(type="maskfeat.RegressionNeck", in_channels=32, out_channels=108),
            head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss")),
        )
    )


def video_model(**backbone):
    return MODELS.build(
        dict(
            type="maskfeat.MaskFeat",
            backbone=dict(
                type="maskfeat.MaskedMViT",
                arch=MVIT,
                temporal_size=4,
                spatial_size=32,
                adaptive_kv_stride=(1, 2, 2),
                **backbone,
            ),
            target_generator=dict(type="maskfeat.HOGGenerator", cell_size=4),
            neck=dict(type="maskfeat.RegressionNeck", in_channels=64, out_channels=108),
            head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss")),
        )
    )


def batch(kind, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if kind == "image":
        return torch.randn(2, 3, 32, 32, generator=generator), torch.rand(2, 1, 4, 4, generator=generator) < 0.4
    return torch.randn(2, 3, 4, 32, 32, generator=generator), torch.rand(2, 2, 4, 4, generator=generator) < 0.4


BUILD = dict(image=image_model, video=video_model)


@pytest.fixture(params=["image", "video"])
def kind(request):
    return request.param


def test_training_falls_below_the_mean_predictor(kind):
    torch.manual_seed(0)
    model = BUILD[kind]()
    model.init_weights()
    inputs, mask = batch(kind)
    optim = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=3e-3))
    log = []
    for _ in range(60):
        losses = model(inputs, mask=mask, mode="loss")
        loss, log_vars = model.parse_losses(losses)
        optim.update_params(loss)
        log.append(log_vars)
    assert set(log[0]) == {"loss", "baseline"}
    assert log[0]["baseline"] == log[-1]["baseline"]  # it depends only on the data
    assert log[-1]["loss"] < 0.5 * log[-1]["baseline"]


def test_baseline_is_the_variance_of_the_target(kind):
    model = BUILD[kind]()
    inputs, mask = batch(kind)
    target = model.target_generator(inputs, mask)
    losses = model.loss(inputs, mask=mask)
    torch.testing.assert_close(losses["baseline"], target.var(0, unbiased=False).mean())


def test_predict_gives_each_sample_its_tokens(kind):
    model = BUILD[kind]().eval()
    model.init_weights()
    inputs, mask = batch(kind)
    results = model(inputs, mask=mask, mode="predict")
    assert len(results) == 2
    for i, sample in enumerate(results):
        alone = model(inputs[i : i + 1], mask=mask[i : i + 1], mode="predict")[0]
        assert torch.equal(sample.mask, mask[i])
        assert sample.pred_features.shape == (int(mask[i].sum()), 108)
        assert torch.equal(sample.target_features, alone.target_features)
        torch.testing.assert_close(sample.pred_features, alone.pred_features)


def test_masked_content_does_not_reach_the_prediction(kind):
    model = BUILD[kind]().eval()
    model.init_weights()
    inputs, _ = batch(kind)
    # The kernel of the video embedding is larger than its stride, so all but one corner is masked.
    mask = torch.ones((2, *model.backbone.token_grid(inputs.shape[2:])), dtype=torch.bool)
    other = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(model.backbone(inputs, mask), model.backbone(other, mask))
    mask[:, :, 0, 0] = False
    assert not torch.allclose(model.backbone(inputs, mask), model.backbone(other, mask))


def test_without_a_mask_it_is_the_upstream_backbone(kind, tmp_path):
    """A pre-training checkpoint loads into the plain upstream backbone with the usual ``init_cfg``."""
    model = BUILD[kind]()
    model.init_weights()
    inputs, _ = batch(kind)
    save_checkpoint(dict(state_dict=model.state_dict()), str(tmp_path / "pretrained.pth"))
    init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "pretrained.pth"), prefix="backbone.")
    if kind == "image":
        cfg = dict(type="mmpretrain.VisionTransformer", arch=VIT, img_size=32, patch_size=8)
    else:
        cfg = dict(
            type="mmaction.MViT",
            arch=MVIT,
            temporal_size=4,
            spatial_size=32,
            adaptive_kv_stride=(1, 2, 2),
            dim_mul_in_attention=False,
        )
    plain = MODELS.build(dict(**cfg, init_cfg=init_cfg))
    plain.init_weights()
    plain.eval()  # eval() of mmpretrain's backbones returns None
    model.eval()
    expected, found = plain(inputs)[-1], model(inputs)[-1]
    if kind == "image":
        expected, found = [expected], [found]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("with_cls_token", [True, False])
def test_mask_is_expanded_onto_the_embedding_grid(with_cls_token):
    model = video_model(with_cls_token=with_cls_token, output_cls_token=with_cls_token).eval()
    model.init_weights()
    inputs, mask = batch("video")
    tokens = model.backbone(inputs, mask)
    assert tokens.shape == (2, 2 * 4 * 4, 64)


def test_autocast_gives_nearly_the_same_loss(kind):
    model = BUILD[kind]()
    model.init_weights()
    inputs, mask = batch(kind)
    full = model.loss(inputs, mask=mask)["loss"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = model.loss(inputs, mask=mask)["loss"]
    assert reduced.dtype == torch.float32
    torch.testing.assert_close(reduced, full, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("loss_kind", ["mse", "l1", "smooth_l1", "cosine"])
def test_losses_average_over_tokens(loss_kind):
    loss = MODELS.build(dict(type="maskfeat.MaskedLoss", kind=loss_kind, loss_weight=2.0))
    pred, target = torch.randn(2, 6, 5).unbind(0)
    parts = torch.stack([loss(p[None], t[None]) for p, t in zip(pred, target, strict=True)])
    torch.testing.assert_close(loss(pred, target), parts.mean())
    torch.testing.assert_close(loss(target, target), torch.zeros(()), atol=1e-6, rtol=0)
    assert loss(pred, target) > 0


def test_bad_input_is_named(kind):
    model = BUILD[kind]()
    inputs, mask = batch(kind)
    with pytest.raises(ValueError, match="no masks; add a mask generator"):
        model(inputs, mode="loss")
    with pytest.raises(ValueError, match="token_grid="):
        model(inputs, mask=mask[..., :2], mode="loss")
    with pytest.raises(ValueError, match="mode='train' is unknown"):
        model(inputs, mask=mask, mode="train")
    with pytest.raises(ValueError, match="not a multiple of the token stride"):
        model.backbone(inputs[..., :30], mask)
    model.neck = MODELS.build(dict(type="maskfeat.RegressionNeck", in_channels=model.neck.in_channels, out_channels=27))
    with pytest.raises(ValueError, match="set out_channels=108 of the neck"):
        model(inputs, mask=mask, mode="loss")


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (dict(type="maskfeat.MaskedViT", arch="huge-typo"), r"^arch='huge-typo'.*'base'"),
        (dict(type="maskfeat.MaskedMViT", arch="s"), r"^arch='s'.*'maskfeat-small'"),
        (dict(type="maskfeat.MViT", out_type="mean"), r"^out_type='mean'.*avg_featmap"),
        (dict(type="maskfeat.MaskedViT", img_size=100), r"not a multiple of the token stride"),
        (dict(type="maskfeat.MaskedLoss", kind="l3"), r"^kind='l3'.*mse"),
        (dict(type="maskfeat.RegressionNeck", in_channels=0, out_channels=1), r"^in_channels"),
    ],
)
def test_bad_config_is_named(cfg, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(cfg)


@pytest.mark.parametrize(("arch", "depth", "channels"), [("maskfeat-small", 16, 768), ("maskfeat-large", 48, 1152)])
def test_pretraining_architectures_keep_14x14(arch, depth, channels):
    with torch.device("meta"):
        backbone = MODELS.build(dict(type="maskfeat.MaskedMViT", arch=arch))
    assert backbone.token_grid((16, 224, 224)) == (8, 14, 14)
    assert len(backbone.blocks) == depth
    assert backbone.norm2.weight.shape == (channels,)
