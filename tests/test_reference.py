"""Targets, predictions, losses, gradients and logits equal the authors' recorded numbers.

The recordings in ``tests/data`` come from the authors' own code with random weights. Without them these tests fail.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmaction.registry import MODELS as ACTION_MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from mmpretrain.models.selfsup.maskfeat import HOGGenerator as UpstreamHOGGenerator
from mmpretrain.structures import DataSample

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.checkpoints import from_state_dict, load_into, read_checkpoint, write_checkpoint
from maskfeat_plugin.checkpoints.resize import resize_relative_positions
from maskfeat_plugin.ops.gate import fast_paths
from maskfeat_plugin.registry import MODELS

DATA = Path(__file__).parent / "data"
ARCHITECTURES = json.loads((DATA / "configs.json").read_text())
IMAGE, VIDEO = ARCHITECTURES["image"], ARCHITECTURES["video"]
STEP = {"image": (16, 16), "video": (2, 16, 16)}  # input pixels and frames per token


def recording(name):
    with np.load(DATA / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(np.array(value)) for key, value in arrays.items()}


def part(arrays, prefix):
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def relative_error(ours, reference):
    assert ours.shape == reference.shape
    return ((ours - reference).abs().max() / reference.abs().max()).item()


def mvit_arch(downscale="downscale_indices"):
    keys = ("embed_dims", "num_layers", "num_heads", "dim_mul_indices")
    return dict(**{key: VIDEO[key] for key in keys}, downscale_indices=VIDEO[downscale])


def model_config(kind, checkpoint):
    if kind == "image":
        width = IMAGE["embed_dims"]
        arch = dict(
            embed_dims=width,
            num_layers=IMAGE["num_layers"],
            num_heads=IMAGE["num_heads"],
            feedforward_channels=4 * width,
        )
        backbone = dict(type="maskfeat.MaskedViT", arch=arch, img_size=IMAGE["img_size"])
        backbone["patch_size"] = IMAGE["patch_size"]
        preprocessor = dict(type="maskfeat.MaskFeatDataPreprocessor")
    else:
        width = VIDEO["embed_dims"] * 2 ** len(VIDEO["dim_mul_indices"])
        backbone = dict(type="maskfeat.MaskedMViT", arch=mvit_arch())
        backbone.update({key: VIDEO[key] for key in ("temporal_size", "spatial_size")})
        preprocessor = dict(type="maskfeat.MaskFeatDataPreprocessor", mean=114.75, std=57.375)
    return Config(
        dict(
            model=dict(
                type="maskfeat.MaskFeat",
                data_preprocessor=preprocessor,
                backbone=backbone,
                target_generator=dict(type="maskfeat.HOGGenerator"),
                neck=dict(type="maskfeat.RegressionNeck", in_channels=width, out_channels=108),
                head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss")),
                init_cfg=dict(type="maskfeat.Pretrained", checkpoint=str(checkpoint)),
            )
        )
    ).model


@pytest.fixture(scope="module", params=["image", "video"])
def pretraining(request, tmp_path_factory):
    """Return a recording, the model with its weights, and the model's input."""
    arrays = recording(f"{request.param}_pretrain")
    file = tmp_path_factory.mktemp("reference") / "authors.pyth"
    torch.save({"epoch": 0, "model_state": part(arrays, "sd.")}, file)
    model = MODELS.build(model_config(request.param, file))
    model.init_weights()
    samples = [DataSample(mask=mask) for mask in arrays["mask"].bool()]
    batch = model.data_preprocessor(dict(inputs=arrays["input_u8"], data_samples=samples))
    return arrays, model, batch


@pytest.fixture(params=[True, False], ids=["fast paths on", "off"])
def switch(request):
    with fast_paths(request.param):
        yield


@pytest.mark.usefixtures("switch")
def test_predictions_and_targets(pretraining):
    arrays, model, batch = pretraining
    predicted = model(**batch, mode="predict")
    pred = torch.cat([sample.pred_features for sample in predicted])
    target = torch.cat([sample.target_features for sample in predicted])
    assert relative_error(pred, arrays["pred"]) < 1e-4
    wrong = (target - arrays["target"]).abs() > 1e-5
    assert wrong.view(-1, 9).any(1).float().mean() <= 1e-4


@pytest.mark.usefixtures("switch")
def test_loss_and_gradients(pretraining):
    arrays, model, batch = pretraining
    model.zero_grad()
    loss = model(**batch, mode="loss")["loss"]
    loss.backward()
    assert loss.item() == pytest.approx(arrays["loss"].item(), rel=1e-4)

    # the gradients have the names of the weights, so the converter can rename them too
    gradients = part(arrays, "grad.")
    weights = part(arrays, "sd.")
    named = from_state_dict(
        {key: gradients.get(key, torch.full_like(value, torch.nan)) for key, value in weights.items()}
    ).state
    parameters = dict(model.named_parameters())
    compared = 0
    for name, reference in named.items():
        if not reference.isnan().any():
            assert relative_error(parameters[name].grad, reference) < 1e-3, name
            compared += 1
    assert compared == len(gradients)


@pytest.mark.parametrize("nbins, cell_size, window", [(9, 8, 0), (9, 8, 16), (18, 4, 0)])
def test_hog(nbins, cell_size, window):
    arrays = recording("hog")
    images = arrays["image_u8"].float() - arrays["mean"].view(1, 3, 1, 1)
    images = images / arrays["std"].view(1, 3, 1, 1)
    generator = MODELS.build(
        dict(type="maskfeat.HOGGenerator", nbins=nbins, cell_size=cell_size, gaussian_window=window)
    )
    ours = generator.hog(images)
    reference = arrays[f"hog_n{nbins}_p{cell_size}_g{window}"]
    assert ours.shape == reference.shape
    wrong_cells = ((ours - reference).abs() > 1e-5).any(2)
    assert wrong_cells.float().mean() <= 1e-4

    upstream = UpstreamHOGGenerator(nbins=nbins, pool=cell_size, gaussian_window=window)
    per_token = upstream(images)  # (N, 196, 108); it only works for 224 x 224
    different = ((ours - upstream.out).abs() > 1e-5).any(2)
    assert different.float().mean() <= 1e-4
    mask = torch.ones(len(images), 1, 14, 14, dtype=torch.bool)
    tokens = generator(images, mask).view_as(per_token)
    assert ((tokens - per_token).abs() > 1e-5).float().mean() <= 1e-4


def finetuning_config(checkpoint):
    width = VIDEO["embed_dims"] * 2 ** len(VIDEO["dim_mul_indices"])
    config = Config.fromstring(
        f"""
custom_imports = dict(imports=['maskfeat_plugin', 'maskfeat_plugin.checkpoints'], allow_failed_imports=False)
default_scope = 'mmaction'
model = dict(
    type='Recognizer3D',
    data_preprocessor=dict(
        type='ActionDataPreprocessor', mean=[114.75] * 3, std=[57.375] * 3, format_shape='NCTHW'),
    backbone=dict(
        type='maskfeat.MViT',
        arch={mvit_arch("downscale_indices_finetune")},
        out_type='avg_featmap',
        temporal_size={VIDEO["temporal_size"]},
        spatial_size={VIDEO["spatial_size"]}),
    cls_head=dict(type='MViTHead', in_channels={width}, num_classes={VIDEO["num_classes_finetune"]}))
""",
        ".py",
    )
    if checkpoint is not None:
        config.model.backbone.init_cfg = dict(type="maskfeat.Pretrained", checkpoint=str(checkpoint))
    return config


def build_recognizer(config):
    with DefaultScope.overwrite_default_scope("mmaction"):
        model = ACTION_MODELS.build(config.model)
        model.init_weights()
    return model.eval()


@torch.no_grad()
def logits_of(model, clips):
    samples = [ActionDataSample() for _ in clips]
    batch = model.data_preprocessor(dict(inputs=[clip[None] for clip in clips], data_samples=samples))
    return model(batch["inputs"], mode="tensor", stage="head")


def test_finetuning_starts_as_the_authors(tmp_path):
    arrays = recording("video_finetune")
    file = tmp_path / "pretrained.pyth"
    torch.save({"model_state": part(recording("video_pretrain"), "sd.")}, file)
    model = build_recognizer(finetuning_config(file))

    tables = part(arrays, "ft.blocks.")
    assert tables
    state = model.backbone.state_dict()
    for name, reference in tables.items():
        assert (state[f"blocks.{name}"] - reference).abs().max() <= 1e-6, name
    # the final norm and the classifier are new; the recording has their random values
    model.backbone.norm3.load_state_dict(part(arrays, "ft.norm."))
    model.cls_head.fc_cls.load_state_dict(part(arrays, "ft.head.projection."))
    assert relative_error(logits_of(model, arrays["input_u8"]), arrays["logits"]) < 1e-4


def test_finetuned_checkpoint_of_the_authors(tmp_path):
    """Converted to our names, it is a checkpoint of the mmaction2 model, for ``load_from``."""
    arrays = recording("video_finetune")
    pretrained = part(recording("video_pretrain"), "sd.")
    kept = {k: v for k, v in pretrained.items() if k.startswith(("cls_token", "patch", "blocks."))}
    strides = [[i, 1, 2, 2] for i in VIDEO["downscale_indices_finetune"]]
    content = {
        "model_state": {**kept, **part(arrays, "ft.")},
        "cfg": f"MVIT:\n  DEPTH: {VIDEO['num_layers']}\n  POOL_Q_STRIDE: {strides}\n",
    }
    file, converted = tmp_path / "finetuned.pyth", tmp_path / "converted.pth"
    torch.save(content, file)
    write_checkpoint(read_checkpoint(file), converted, "maskfeat", file)
    model = build_recognizer(finetuning_config(None))
    load_checkpoint(model, str(converted), strict=True)
    assert relative_error(logits_of(model, arrays["input_u8"]), arrays["logits"]) < 1e-4

    # without the authors' config in the file, the last scale is the model's
    other = build_recognizer(finetuning_config(None))
    checkpoint = from_state_dict(content["model_state"])
    report = load_into(other, checkpoint)
    assert report.initial == [] and report.ignored == {}
    assert relative_error(logits_of(other, arrays["input_u8"]), arrays["logits"]) < 1e-4


def test_interpolated_relative_positions():
    """If the lengths differ, positions are interpolated linearly in one dimension with half-pixel centres, as here."""
    table = recording("video_pretrain")["sd.blocks.0.attn.rel_pos_h"]  # (31, C)
    for length in (15, 31, 43, 61):
        at = np.clip((np.arange(length) + 0.5) * len(table) / length - 0.5, 0, len(table) - 1)
        expected = np.stack([np.interp(at, np.arange(len(table)), c) for c in table.numpy().T], 1)
        assert np.abs(resize_relative_positions(table, length).numpy() - expected).max() <= 1e-6


@pytest.mark.parametrize("scale", [0, 1, 2])
def test_upstream_mvit_has_the_same_features(scale):
    """mmaction2's own MViT and ours have the same features of class token and patches with the same weights.

    One scale at a time: if several are requested, mmaction2's MViT continues with the normalised tokens.
    """
    arrays = recording("video_pretrain")
    checkpoint = from_state_dict(part(arrays, "sd."))
    clips = (arrays["input_u8"].float() - 114.75) / 57.375
    config = dict(
        arch=mvit_arch(),
        temporal_size=VIDEO["temporal_size"],
        spatial_size=VIDEO["spatial_size"],
        dim_mul_in_attention=False,
        out_scales=[scale],
    )
    features = []
    for kind in ("mmaction.MViT", "maskfeat.MViT"):
        torch.manual_seed(0)
        backbone = MODELS.build(dict(type=kind, **config)).eval()
        load_into(backbone, checkpoint)
        with torch.no_grad():
            features.append([tensor for scale in backbone(clips) for tensor in scale])
    theirs, ours = features
    assert len(theirs) == 2
    for a, b in zip(ours, theirs, strict=True):
        assert relative_error(a, b) < 1e-4
