"""All formats are recognised, all keys are accounted for, and files are written back unchanged."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmaction.registry import MODELS as ACTION_MODELS
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS as PRETRAIN_MODELS
from small_models import build, pretraining_state, randomised

from maskfeat_plugin.checkpoints import (
    CheckpointError,
    convert,
    from_state_dict,
    load_into,
    read_checkpoint,
    write_checkpoint,
)
from maskfeat_plugin.registry import MODELS

SHAPES = json.loads((Path(__file__).parents[1] / "data" / "official_checkpoint_shapes.json").read_text())
TARGETS = ("maskfeat", "mmpretrain", "mmaction2", "slowfast")


def tensors(shapes, seed=0):
    """Return a different random number for each key in its shape, without the memory of a full-size model."""
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn((), generator=generator).expand(shape) for key, shape in shapes.items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def full_size_model(name):
    """Build the model of a released checkpoint, as a config of its project does."""
    pretrain, large = name.endswith("_PT"), "_L_" in name
    vit = "VIT_" in name.split("MVIT")[0]
    width = (1024 if large else 768) if vit else (1152 if large else 768)
    size = ("large" if large else "base") if vit else ("large" if large else "small")
    if pretrain:
        backbone = dict(type="maskfeat.MaskedViT" if vit else "maskfeat.MaskedMViT")
        backbone["arch"] = size if vit else f"maskfeat-{size}"
        return MODELS, dict(
            type="maskfeat.MaskFeat",
            # this package's class reads its values, which a model without memory lacks
            data_preprocessor=dict(type="BaseDataPreprocessor"),
            backbone=backbone,
            target_generator=dict(type="maskfeat.HOGGenerator"),
            neck=dict(type="maskfeat.RegressionNeck", in_channels=width, out_channels=108),
            head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss")),
        )
    if vit:
        backbone = dict(type="VisionTransformer", arch=size, out_type="avg_featmap", final_norm=False)
        head = dict(type="LinearClsHead", num_classes=1000, in_channels=width)
        return PRETRAIN_MODELS, dict(type="ImageClassifier", backbone=backbone, head=head)
    return ACTION_MODELS, dict(
        type="Recognizer3D",
        backbone=dict(type="maskfeat.MViT", arch=size, out_type="avg_featmap"),
        cls_head=dict(type="MViTHead", num_classes=400, in_channels=width),
    )


@pytest.mark.parametrize("name", SHAPES)
def test_released_checkpoints(name):
    state = tensors(SHAPES[name])
    checkpoint = from_state_dict(state, name)
    assert checkpoint.unknown == []
    assert checkpoint.task == ("pretrain" if name.endswith("_PT") else "finetune")
    assert all(key.startswith("hogs.0.weight_") for key in checkpoint.dropped)
    assert len(checkpoint.state) + len(checkpoint.dropped) == len(state)

    registry, config = full_size_model(name)
    with torch.device("meta"), DefaultScope.overwrite_default_scope(registry.scope):
        model = registry.build(config)
    parameters = {key: value.shape for key, value in model.named_parameters()}
    assert {key: value.shape for key, value in checkpoint.state.items()} == parameters
    report = load_into(model, checkpoint)
    assert report.found == 1 and report.initial == [] and report.resized == {}
    assert report.ignored == checkpoint.dropped

    back = convert(checkpoint, "slowfast").state
    assert {key: list(value.shape) for key, value in back.items()} == SHAPES[name]
    assert all(back[key] is state[key] for key in state if not key.startswith("hogs."))


def test_hog_constants_are_the_authors():
    """The written buffers are equal to the buffers of the authors' layer, which reading drops."""
    import numpy as np

    with np.load(Path(__file__).parents[1] / "data" / "image_pretrain.npz") as arrays:
        state = {k[3:]: torch.from_numpy(v) for k, v in arrays.items() if k.startswith("sd.")}
    assert equal(convert(from_state_dict(state), "slowfast").state, state)


@pytest.mark.parametrize("family", ["vit", "mvit"])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    path=st.lists(st.sampled_from(["maskfeat", "slowfast"]), min_size=1, max_size=4),
    separate=st.booleans(),
    wrapped=st.booleans(),
)
def test_round_trips_are_exact(family, seed, path, separate, wrapped):
    """On any way through the formats and the variants of their names, the weights come back bitwise equal."""
    state = pretraining_state(family, seed)
    checkpoint = from_state_dict(state)
    for target in path:
        step = convert(checkpoint, target).state
        if separate:
            step = separated(step, ("q", "k", "v") if seed % 2 else ("query", "key", "value"))
        if wrapped:
            step = {f"module.{key}": value for key, value in step.items()}
        checkpoint = from_state_dict(step)
        assert checkpoint.unknown == [] and checkpoint.task == "pretrain"
    assert equal(checkpoint.state, state)


def separated(state, names):
    """Return the state dict with query, key and value as separate layers."""
    out = {}
    for key, value in state.items():
        if ".attn.qkv." in key:
            for name, third in zip(names, value.chunk(3), strict=True):
                out[key.replace(".qkv.", f".{name}.")] = third
        else:
            out[key] = value
    return out


@pytest.mark.parametrize("kind", ["mmpretrain.VisionTransformer", "mmaction.MViT"])
@pytest.mark.parametrize("prefix", ["", "backbone."])
@pytest.mark.parametrize("names", [None, "qkv", ("query", "key", "value")])
def test_upstream_backbones(kind, prefix, names, save, tmp_path):
    """With and without ``backbone.``, fused or not, and back to a state dict that the plain backbone loads strictly."""
    backbone = randomised(build(kind))
    state = {f"{prefix}{key}": value for key, value in backbone.state_dict().items()}
    stored = separated(state, names) if names else state
    checkpoint = read_checkpoint(save({"state_dict": stored, "meta": {"epoch": 1}}))
    target = "mmpretrain" if "mmpretrain" in kind else "mmaction2"
    assert checkpoint.format.project == target
    written = tmp_path / "plain.pth"
    write_checkpoint(checkpoint, written, target)
    other = build(kind)
    other.load_state_dict(torch.load(written, weights_only=True)["state_dict"], strict=True)
    assert equal(other.state_dict(), backbone.state_dict())


@pytest.mark.parametrize(
    "family, rename, project",
    [
        ("vit", {"neck.fc.": "head.head."}, "mmselfsup"),
        ("vit", {"neck.fc.": "head.predictor.fc."}, "mmselfsup"),
        ("vit", {}, "maskfeat"),
        ("mvit", {}, "maskfeat"),
    ],
)
def test_maskfeat_of_openmmlab(family, rename, project):
    state = pretraining_state(family)
    stored = dict(state)
    for old, new in rename.items():
        stored = {key.replace(old, new): value for key, value in stored.items()}
    checkpoint = from_state_dict(stored)
    assert checkpoint.format.project == project
    assert equal(checkpoint.state, state)


def test_maskfeat_of_mmpretrain():
    """In the state dict of mmpretrain's own model, only its HOG buffers are left out."""
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = PRETRAIN_MODELS.build(
            dict(
                type="MaskFeat",
                backbone=dict(
                    type="MaskFeatViT",
                    arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
                    img_size=32,
                    patch_size=8,
                ),
                neck=dict(type="LinearNeck", in_channels=16, out_channels=108, norm_cfg=None),
                head=dict(type="MIMHead", loss=dict(type="PixelReconstructionLoss", criterion="L2")),
                target_generator=dict(type="HOGGenerator"),
            )
        )
    state = model.state_dict()
    checkpoint = from_state_dict(state)
    assert checkpoint.format.name == "mmpretrain-maskfeat" and checkpoint.task == "pretrain"
    assert checkpoint.unknown == []
    assert set(checkpoint.dropped) == {key for key in state if key.startswith("target_generator.")}
    assert equal(checkpoint.state, {key: state[key] for key in state if key not in checkpoint.dropped})


def test_task_survives_the_plain_backbone(tmp_path):
    """Only the metadata show that a plain backbone was pre-trained, and the norm still gets the correct name."""
    checkpoint = from_state_dict(pretraining_state("mvit"))
    write_checkpoint(checkpoint, tmp_path / "plain.pth", "mmaction2")
    again = read_checkpoint(tmp_path / "plain.pth")
    assert again.format.name == "mmaction2-mvit" and again.task == "pretrain"
    assert again.meta["target"] == "mmaction2"
    names = convert(again, "slowfast").state
    assert "pred_head.transforms.0.0.weight" in names and "norm.weight" not in names


def test_what_a_target_lacks():
    vit, mvit = (from_state_dict(pretraining_state(family)) for family in ("vit", "mvit"))
    with pytest.raises(CheckpointError, match="convert it to 'mmpretrain'"):
        convert(vit, "mmaction2")
    with pytest.raises(CheckpointError, match="convert it to 'mmaction2'"):
        convert(mvit, "mmpretrain")
    left_out = {row.source for row in convert(vit, "mmpretrain").rows if row.target is None}
    assert left_out == {"backbone.mask_token", "neck.fc.weight", "neck.fc.bias"}
    with pytest.raises(CheckpointError, match="unknown; choose one of"):
        convert(vit, "keras")


def test_unknown_formats_and_keys():
    with pytest.raises(CheckpointError, match=r"conv1\.weight.*\n.*slowfast-mvit-pretrain.*\n(.*\n)*.*mmaction2-mvit"):
        from_state_dict({"conv1.weight": torch.zeros(1), "fc.weight": torch.zeros(1)}, "resnet.pth")
    state = {**pretraining_state("vit"), "backbone.layers.0.adapter.weight": torch.zeros(3)}
    checkpoint = from_state_dict(state)
    assert checkpoint.unknown == ["backbone.layers.0.adapter.weight"]
    with pytest.raises(CheckpointError, match="layers.0.adapter.weight"):
        convert(checkpoint, "maskfeat")
    with pytest.raises(CheckpointError, match=r"needs query, key and value"):
        from_state_dict({**pretraining_state("vit"), "backbone.layers.9.attn.q.weight": torch.zeros(2, 2)})
    with pytest.raises(CheckpointError, match="both mean neck.fc.weight"):
        from_state_dict({**pretraining_state("vit"), "head.head.weight": torch.zeros(2, 2)})


@pytest.mark.parametrize("target", TARGETS)
def test_files_hold_their_origin(target, save, tmp_path):
    import hashlib

    source = save({"state_dict": pretraining_state("mvit" if target == "mmaction2" else "vit")}, "mine.pth")
    write_checkpoint(read_checkpoint(source), tmp_path / "out.pth", target, source)
    content = torch.load(tmp_path / "out.pth", weights_only=True)
    assert set(content) == {"model_state" if target == "slowfast" else "state_dict", "meta"}
    block = content["meta"]["maskfeat_plugin"]
    assert block["source"] == "mine.pth" and block["task"] == "pretrain" and block["time"].endswith("Z")
    assert block["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.pth", "out.pth"]
