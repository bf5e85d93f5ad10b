"""``init_cfg=dict(type='maskfeat.Pretrained')`` in models of all projects: loaded, kept and ignored weights, errors."""

import functools
import http.server
import logging
import threading

import pytest
import torch
from mmaction.registry import MODELS as ACTION_MODELS
from mmdet.registry import MODELS as DETECTION_MODELS
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS as PRETRAIN_MODELS
from small_models import MVIT, VIT, build, pretraining_state

from maskfeat_plugin.checkpoints import CheckpointError, convert, from_state_dict
from maskfeat_plugin.registry import MODELS


def init_cfg(path, **kwargs):
    return dict(type="maskfeat.Pretrained", checkpoint=str(path), **kwargs)


def initialised(registry, config):
    with DefaultScope.overwrite_default_scope(registry.scope):
        model = registry.build(config)
        model.init_weights()
    return model


def image_classifier(path, **kwargs):
    return dict(
        type="ImageClassifier",
        backbone=dict(
            type="VisionTransformer",
            arch=VIT,
            img_size=32,
            patch_size=8,
            out_type="avg_featmap",
            final_norm=False,
            init_cfg=init_cfg(path, **kwargs),
        ),
        head=dict(type="LinearClsHead", num_classes=5, in_channels=16),
    )


def recognizer(path, backbone="maskfeat.MViT", downscale=(1, 2, 3)):
    return dict(
        type="Recognizer3D",
        backbone=dict(
            type=backbone,
            arch={**MVIT, "downscale_indices": list(downscale)},
            temporal_size=4,
            spatial_size=64,
            dim_mul_in_attention=False,
            init_cfg=init_cfg(path),
        ),
        cls_head=dict(type="MViTHead", num_classes=5, in_channels=32),
    )


def detector(path):
    return dict(
        type="RetinaNet",
        backbone=dict(
            type="mmpretrain.VisionTransformer",
            arch=VIT,
            img_size=64,
            patch_size=8,
            out_type="featmap",
            out_indices=[0, 1, 2],
            init_cfg=init_cfg(path),
        ),
        neck=dict(type="FPN", in_channels=[16, 16, 16], out_channels=8, num_outs=5),
        bbox_head=dict(type="RetinaHead", num_classes=3, in_channels=8, feat_channels=8),
    )


def assert_loaded(backbone, state, skipped=()):
    """Assert that all tensors of the state that the backbone has were loaded, except the skipped ones."""
    own = backbone.state_dict()
    common = [key for key in own if f"backbone.{key}" in state and key not in skipped]
    assert len(common) > 20
    for key in common:
        assert torch.equal(own[key], state[f"backbone.{key}"]), key


@pytest.mark.parametrize("style", ["maskfeat", "slowfast"])
def test_mmpretrain_classifier(style, save):
    state = pretraining_state("vit")
    path = save({"model_state": convert(from_state_dict(state), style).state})
    model = initialised(PRETRAIN_MODELS, image_classifier(path))
    assert_loaded(model.backbone, state)
    assert torch.equal(model.backbone.ln2.weight.data, torch.ones(16))
    assert model.head.fc.weight.std() < 0.02  # the head's own initialization, Normal of 0.01


@pytest.mark.parametrize("classes", [5, 4])
def test_finetuned_classifier(classes, save):
    """In a whole classifier the head is loaded too, unless the classes differ; all with PySlowFast's names."""
    trained = initialised(PRETRAIN_MODELS, image_classifier(save({"state_dict": pretraining_state("vit")})))
    with torch.no_grad():
        trained.backbone.ln2.weight.uniform_()
    stored = convert(from_state_dict(trained.state_dict()), "slowfast").state
    assert "norm.weight" in stored and "head.projection.weight" in stored and "hogs.0.weight_x" not in stored
    config = image_classifier("")
    config["init_cfg"] = init_cfg(save({"model_state": stored}, "finetuned.pyth"))
    del config["backbone"]["init_cfg"]
    config["head"]["num_classes"] = classes
    model = initialised(PRETRAIN_MODELS, config)
    assert_loaded(model.backbone, {f"backbone.{k}": v for k, v in trained.backbone.state_dict().items()})
    assert model.head.fc.weight.shape == (classes, 16)
    same = classes == 5 and torch.equal(model.head.fc.weight, trained.head.fc.weight)
    assert same == (classes == 5)


@pytest.mark.parametrize("backbone", ["maskfeat.MViT", "mmaction.MViT"])
def test_mmaction2_recognizer(backbone, save):
    """The last norm of pre-training, norm2, is not the norm of the third of four scales, although the shapes agree."""
    state = pretraining_state("mvit")
    config = recognizer(save({"state_dict": state}), backbone)
    config["backbone"]["out_scales"] = [2, 3]
    model = initialised(ACTION_MODELS, config)
    assert model.backbone.norm2.weight.shape == state["backbone.norm2.weight"].shape
    tables = [key for key in model.backbone.state_dict() if ".rel_pos_" in key]
    assert_loaded(model.backbone, state, skipped=("norm2.weight", "norm2.bias", *tables[-6:]))
    assert torch.equal(model.backbone.norm2.weight.data, torch.ones(32))
    assert torch.equal(model.backbone.norm3.weight.data, torch.ones(32))


def test_frozen_features_keep_the_norm(save):
    """At the same scale the norm over the tokens is the pre-trained one; the norm after mean pooling is new."""
    state = pretraining_state("mvit")
    path = save({"state_dict": state})
    for out_type in ("featmap", "avg_featmap"):
        config = recognizer(path, downscale=(1, 2))
        config["backbone"]["out_type"] = out_type
        norm = initialised(ACTION_MODELS, config).backbone.norm2.weight.data
        assert torch.equal(norm, state["backbone.norm2.weight"]) == (out_type == "featmap")


def test_mmdet_detector(save):
    state = pretraining_state("vit")
    path = save({"model_state": convert(from_state_dict(state), "slowfast").state})
    model = initialised(DETECTION_MODELS, detector(path))
    assert_loaded(model.backbone, state, skipped=("pos_embed",))
    assert model.backbone.pos_embed.shape[1] == 65 and model.backbone.pos_embed.std() > 0.1


def test_whole_maskfeat_model(save):
    """From a whole model's checkpoint all is loaded; from a backbone's, the other parts keep their initialization."""
    state = pretraining_state("vit")
    config = dict(
        type="maskfeat.MaskFeat",
        backbone=dict(type="maskfeat.MaskedViT", arch=VIT, img_size=32, patch_size=8),
        target_generator=dict(type="maskfeat.HOGGenerator"),
        neck=dict(type="maskfeat.RegressionNeck", in_channels=16, out_channels=12),
        head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss")),
        init_cfg=init_cfg(save({"state_dict": state})),
    )
    model = initialised(MODELS, config)
    assert {key: value.shape for key, value in model.state_dict().items()} == {
        key: value.shape for key, value in state.items()
    }
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())

    plain = {k.removeprefix("backbone."): v for k, v in state.items() if "mask_token" not in k and "neck" not in k}
    config["init_cfg"] = init_cfg(save({"state_dict": plain}, "plain.pth"))
    model = initialised(MODELS, config)
    assert_loaded(model.backbone, state, skipped=("mask_token",))
    assert 0 < model.backbone.mask_token.abs().max() < 0.1  # truncated normal of 0.02
    assert 0 < model.neck.fc.weight.std() < 0.05 and model.neck.fc.bias.abs().max() == 0


def test_masked_backbones_keep_what_was_loaded(save):
    for family, kind in (("vit", "maskfeat.MaskedViT"), ("mvit", "maskfeat.MaskedMViT")):
        state = pretraining_state(family)
        backbone = build(kind, init_cfg=init_cfg(save({"state_dict": state})))
        backbone.init_weights()
        assert_loaded(backbone, state)


def test_the_rest_is_initialised_as_ever(save):
    """A part that the checkpoint lacks has its usual initialization, not the zeros of the constructor."""
    state = {k: v for k, v in pretraining_state("mvit").items() if not k.startswith("backbone.blocks.3.")}
    backbone = build("mmaction.MViT", init_cfg=init_cfg(save({"state_dict": state}), min_found=0.1))
    backbone.init_weights()
    assert 0.005 < backbone.blocks[3].mlp.fc1.weight.std() < 0.03  # its init_cfg: TruncNormal of 0.02
    assert torch.equal(backbone.blocks[3].mlp.fc1.bias.data, torch.full((128,), 0.02))
    assert 0.005 < backbone.blocks[3].attn.rel_pos_h.std() < 0.03
    assert torch.equal(backbone.blocks[2].mlp.fc1.weight.data, state["backbone.blocks.2.mlp.fc1.weight"])


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def test_one_summary_in_the_log(save):
    state = pretraining_state("vit")
    path = save({"model_state": convert(from_state_dict(state), "slowfast").state}, "authors.pyth")
    config = image_classifier(path)
    config["backbone"]["img_size"] = 64
    logger, handler = MMLogger.get_current_instance(), Lines()
    logger.addHandler(handler)
    try:
        initialised(PRETRAIN_MODELS, config)
    finally:
        logger.removeHandler(handler)
    (summary,) = [line for line in handler.lines if "authors.pyth (" in line]
    assert "(PySlowFast MaskFeat pre-training, ViT), 99.7% of the backbone's parameters found" in summary
    assert "  loaded: 39 tensors\n" in summary
    assert "  resized: 1 tensors\n    pos_embed: (1, 17, 16) -> (1, 65, 16)\n" in summary
    assert "  left at initialization: 2 tensors\n    ln2.weight, ln2.bias\n" in summary
    assert "pred_head.transforms.0.0.weight, pred_head.transforms.0.0.bias: final norm of pre-training" in summary
    assert "mask_token: mask token of pre-training" in summary
    assert "hogs.0.weight_x, hogs.0.weight_y: constant of the HOG target" in summary
    assert "pred_head.projections.0.weight, pred_head.projections.0.bias: prediction layer" in summary


def test_too_little_is_an_error(save):
    state = {k: v for k, v in pretraining_state("vit").items() if ".layers.2." not in k}
    path = save({"state_dict": state})
    with pytest.raises(CheckpointError, match=r"(?s)less than min_found=95.0%.*layers\.2\.attn\.qkv\.weight"):
        initialised(PRETRAIN_MODELS, image_classifier(path))
    model = initialised(PRETRAIN_MODELS, image_classifier(path, min_found=0.5))
    assert_loaded(model.backbone, state)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(min_found=95), "min_found must be between 0 and 1"),
        (dict(inflate="first"), "inflate='first' is unknown"),
        (dict(position_grid=(1, 2, 3, 4)), "position_grid must be"),
    ],
)
def test_wrong_arguments(wrong, message, save):
    path = save({"state_dict": pretraining_state("vit")})
    with pytest.raises(CheckpointError, match=message):
        initialised(PRETRAIN_MODELS, image_classifier(path, **wrong))


def test_it_stands_last(save):
    """It must be the last of several initializers; otherwise the others would overwrite the weights."""
    state = pretraining_state("vit")
    ours, other = init_cfg(save({"state_dict": state})), dict(type="Constant", layer="Linear", val=3.0)
    backbone = build("mmpretrain.VisionTransformer", init_cfg=[other, ours])
    backbone.init_weights()
    assert_loaded(backbone, state)
    with pytest.raises(CheckpointError, match="must stand last"):
        build("mmpretrain.VisionTransformer", init_cfg=[ours, other]).init_weights()


def test_bare_name_in_our_scope(save):
    """Under ``default_scope='maskfeat'`` the bare name means this package's class, with mmengine's ``prefix``."""
    state = pretraining_state("vit")
    path = save({"state_dict": {f"student.{key}": value for key, value in state.items()}})
    config = dict(type="Pretrained", checkpoint=str(path), prefix="student.")
    with DefaultScope.overwrite_default_scope("maskfeat"):
        backbone = build("mmpretrain.VisionTransformer", init_cfg=config)
        backbone.init_weights()
        assert_loaded(backbone, state)
        config["prefix"] = "teacher."
        with pytest.raises(CheckpointError, match="no key begins with prefix='teacher.'"):
            build("mmpretrain.VisionTransformer", init_cfg=config).init_weights()


def test_from_a_url(save, tmp_path, monkeypatch):
    """The file is downloaded once into torch's cache, from a server on this machine."""
    state = pretraining_state("vit")
    path = save({"state_dict": state})
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{path.name}"
        assert_loaded(initialised(PRETRAIN_MODELS, image_classifier(url)).backbone, state)
        with pytest.raises(CheckpointError, match="cannot be downloaded"):
            initialised(PRETRAIN_MODELS, image_classifier(url + ".missing"))
        server.shutdown()
    assert len(list((tmp_path / "hub" / "checkpoints").glob(f"*/{path.name}"))) == 1
    assert_loaded(initialised(PRETRAIN_MODELS, image_classifier(url)).backbone, state)
