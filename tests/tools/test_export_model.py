"""Tests of exported models with onnxruntime and torch.export, compared with the frameworks' own test step."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from full_disk import REASON, full_disk
from long_variants import long_except
from mmaction.structures import ActionDataSample
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from tool_modules import load_tool

from maskfeat_plugin.apis.model_loading import load_backbone
from maskfeat_plugin.evaluation.features import batch_features
from maskfeat_plugin.registry import MODELS

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "configs" / "demo" / "vit-tiny_moving-digits-class.py"
CLIP = ROOT / "configs" / "demo" / "mvit-tiny_moving-digits-motion.py"
PRETRAINING = ROOT / "configs" / "demo" / "maskfeat_vit-tiny_moving-digits.py"


@pytest.fixture(scope="module")
def tool():
    return load_tool("export_model").main


def fine_tuned(config, folder, spread=0.2, seed=0):
    """Return a config's model with weights that distinguish samples, and its checkpoint."""
    cfg = Config.fromfile(config)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += spread * torch.randn(parameter.shape, generator=generator)
    path = folder / "epoch_1.pth"
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=("zero", "one")))), path)
    return model, str(path)


def scores_of(model, samples):
    """Compute the scores of the framework's own test step for packed samples of uint8 frames."""
    if model.data_preprocessor.__class__.__name__ == "ActionDataPreprocessor":
        data = dict(inputs=[x[None] for x in samples], data_samples=[ActionDataSample() for _ in samples])
    else:
        data = dict(inputs=list(samples), data_samples=[DataSample() for _ in samples])
    with torch.no_grad():
        found = model.test_step(data)
    return torch.stack([sample.pred_score for sample in found]).numpy()


@pytest.mark.parametrize(("config", "shape"), long_except([(IMAGE, (3, 40, 40)), (CLIP, (3, 8, 32, 32))], 0))
def test_scores_are_the_models(tool, tmp_path, capsys, config, shape):
    model, checkpoint = fine_tuned(config, tmp_path)
    samples = torch.randint(0, 256, (4, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected = scores_of(model, samples)
    assert expected.std(0).max() > 0.01  # the model distinguishes samples
    inputs = samples.float()
    if config == IMAGE:
        inputs = inputs.flip(1)  # mmpretrain reads BGR, and its preprocessor converts it
    for name in ("model.onnx", "model.pt2"):
        out = tmp_path / "exported" / name
        assert tool([str(config), checkpoint, str(out)]) == 0
        printed = capsys.readouterr().out
        assert " x ".join(map(str, shape)) in printed and f"{expected.shape[1]} classes" in printed
        if name == "model.onnx":
            onnx.checker.check_model(str(out))
            about = {entry.key: entry.value for entry in onnx.load(str(out)).metadata_props}
            session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
            found = session.run(["scores"], {"inputs": inputs.numpy()})[0]
        else:
            extra = {"about.json": ""}
            found = torch.export.load(str(out), extra_files=extra).module()(inputs).detach().numpy()
            about = json.loads(extra["about.json"])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        assert json.loads(about["classes"]) == ["zero", "one"] and about["config"] == config.name
        assert "RGB" in about["inputs"]
    assert sorted(path.name for path in out.parent.iterdir()) == ["model.onnx", "model.pt2"]


WEIGHTS = ROOT / "configs" / "demo" / "weights"
CLIP_PRETRAINING = ROOT / "configs" / "demo" / "maskfeat_mvit-tiny_moving-digits.py"
DETECTION = ROOT / "configs" / "demo" / "vit-tiny_moving-digits-coco.py"


def features_of(config, checkpoint, samples):
    """Compute the vectors that maskfeat extract writes for packed samples."""
    cfg = Config.fromfile(config)
    model = load_backbone(cfg, checkpoint)
    if model.data_preprocessor.__class__.__name__ == "ActionDataPreprocessor":
        batch = dict(inputs=[x[None] for x in samples], data_samples=[ActionDataSample() for _ in samples])
    else:
        batch = dict(inputs=list(samples), data_samples=[DataSample() for _ in samples])
    if config == DETECTION:
        batch["data_samples"] = [DetDataSample() for _ in samples]
    return batch_features(model, batch)[0].numpy()


@pytest.mark.parametrize(
    ("config", "weights", "shape", "name"),
    [
        (PRETRAINING, "maskfeat_vit-tiny_moving-digits.pth", (3, 40, 40), "model.onnx"),
        pytest.param(
            CLIP_PRETRAINING,
            "maskfeat_mvit-tiny_moving-digits.pth",
            (3, 8, 32, 32),
            "model.onnx",
            marks=pytest.mark.long,
        ),
        (IMAGE, None, (3, 40, 40), "model.pt2"),
        (CLIP, None, (3, 8, 32, 32), "model.pt2"),
        (DETECTION, None, (3, 40, 40), "model.pt2"),
    ],
)
def test_features_of_a_backbone_are_those_of_extract(tool, tmp_path, capsys, config, weights, shape, name):
    checkpoint = str(WEIGHTS / weights) if weights else fine_tuned(config, tmp_path)[1]
    samples = torch.randint(0, 256, (4, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected = features_of(config, checkpoint, samples)
    assert expected.std(0).max() > 0.01  # the model distinguishes samples
    out = tmp_path / "exported" / name
    assert tool(["--backbone", str(config), checkpoint, str(out)]) == 0
    assert f"features of {expected.shape[1]} channels" in capsys.readouterr().out
    inputs = samples.float()
    if len(shape) == 3:
        inputs = inputs.flip(1)  # mmpretrain and mmdet read BGR, and their preprocessors convert it
    if name == "model.onnx":
        session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
        found = session.run(["features"], {"inputs": inputs.numpy()})[0]
        about = {entry.key: entry.value for entry in onnx.load(str(out)).metadata_props}
    else:
        extra = {"about.json": ""}
        found = torch.export.load(str(out), extra_files=extra).module()(inputs).detach().numpy()
        about = json.loads(extra["about.json"])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert about["config"] == config.name and "RGB" in about["inputs"] and "classes" not in about


MASK_RCNN = f"""
_base_ = {str(DETECTION)!r}
pooling = dict(roi_layer=dict(type="RoIAlign", output_size=6, sampling_ratio=0), out_channels=64, finest_scale=8)
model = dict(
    type="MaskRCNN",
    roi_head=dict(
        bbox_head=dict(reg_class_agnostic=False),
        mask_roi_extractor=dict(type="SingleRoIExtractor", featmap_strides=[2, 4, 8, 16], **pooling),
        mask_head=dict(
            type="FCNMaskHead",
            num_convs=1,
            in_channels=64,
            conv_out_channels=32,
            num_classes=10,
            loss_mask=dict(type="CrossEntropyLoss", use_mask=True),
        ),
    ),
    train_cfg=dict(rcnn=dict(mask_size=12)),
    test_cfg=dict(rcnn=dict(score_thr=0.95, mask_thr_binary=0.5)),
)
"""


def detections_of(model, image):
    """Run mmdet's own test step on an image, and its mask head on the boxes found."""
    size = tuple(image.shape[-2:])
    sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
    data = dict(inputs=[image], data_samples=[sample])
    with torch.no_grad():
        found = model.test_step(data)[0].pred_instances
        if not model.with_mask:
            return found, None
        maps = model.extract_feat(model.data_preprocessor(data)["inputs"])
        masks = model.roi_head._mask_forward(maps, bbox2roi([found.bboxes]))["mask_preds"].sigmoid()
    return found, masks[torch.arange(len(found)), found.labels].numpy()


def test_a_detector_that_finds_nothing_says_so(tool, tmp_path, capsys):
    _, checkpoint = fine_tuned(DETECTION, tmp_path)
    options = ["--cfg-options", "model.test_cfg.rcnn.score_thr=1.0"]
    assert tool([str(DETECTION), checkpoint, str(tmp_path / "model.pt2"), "--size", "48", "40", *options]) == 0
    printed = capsys.readouterr().out
    assert "3 x 48 x 40 to boxes" in printed and "found nothing in the random images" in printed
    found = torch.export.load(str(tmp_path / "model.pt2")).module()(torch.zeros(1, 3, 48, 40))
    assert [float(output.abs().max()) for output in found] == [0, 0, 1]


@pytest.mark.parametrize(
    ("kind", "name"),
    long_except([(kind, name) for kind in ("faster", "mask") for name in ("model.onnx", "model.pt2")], 0, 3),
)
def test_detections_are_the_models(tool, tmp_path, capsys, kind, name):
    config = DETECTION
    if kind == "mask":
        config = tmp_path / "mask-rcnn.py"
        config.write_text(MASK_RCNN)
    # large weights multiply rounding errors, and small weights find no boxes
    weights = dict(faster=dict(spread=0.1), mask=dict(spread=0.2, seed=3))[kind]
    model, checkpoint = fine_tuned(config, tmp_path, **weights)
    out = tmp_path / name
    assert tool([str(config), checkpoint, str(out)]) == 0
    printed = capsys.readouterr().out
    assert "3 x 40 x 40 to boxes, scores, labels" in printed and "random images" not in printed
    images = torch.randint(0, 256, (4, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    numbers = []
    for image in images:
        inputs = image[None].flip(1).float()
        if name == "model.onnx":
            session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
            boxes, scores, labels, *masks = session.run(None, {"inputs": inputs.numpy()})
        else:
            boxes, scores, labels, *masks = (x.detach().numpy() for x in torch.export.load(str(out)).module()(inputs))
        expected, expected_masks = detections_of(model, image)
        count = len(expected)
        # random weights amplify rounding errors: scores in float64 and float32 differ by up to 4e-4
        np.testing.assert_allclose(scores[:count], expected.scores, atol=5e-3)
        np.testing.assert_array_equal(labels[:count], expected.labels)
        np.testing.assert_allclose(boxes[:count], expected.bboxes, atol=0.02)
        assert (labels[count:] == -1).all() and not scores[count:].any() and not boxes[count:].any()
        assert len(masks) == (kind == "mask")
        if masks:
            assert masks[0].shape == (10, 12, 12) and not masks[0][count:].any()
            np.testing.assert_allclose(masks[0][:count], expected_masks, atol=5e-3)
        numbers.append(count)
    assert min(numbers) > 0 and (kind == "faster" or min(numbers) < 10)  # some of the places are empty


def error_of(tool, capsys, *arguments):
    assert tool([str(argument) for argument in arguments]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2"])
def test_full_disk_is_one_line(tool, tmp_path, capsys, name):
    _, checkpoint = fine_tuned(IMAGE, tmp_path)
    out = tmp_path / "out" / name
    with full_disk():
        assert tool([str(IMAGE), checkpoint, str(out)]) == 1
    error = f"error: {out} cannot be written: {REASON}. Make room there, or name another place."
    assert capsys.readouterr().err.splitlines()[-1] == error
    assert not list(out.parent.iterdir())


def test_errors(tool, tmp_path, capsys):
    _, checkpoint = fine_tuned(IMAGE, tmp_path)
    out = tmp_path / "out" / "model.onnx"
    assert "Use one of .onnx, .pt2" in error_of(tool, capsys, IMAGE, checkpoint, tmp_path / "model.pth")
    assert "ImageClassifier" in error_of(
        tool, capsys, PRETRAINING, ROOT / "configs/demo/weights/maskfeat_vit-tiny_moving-digits.pth", out
    )
    assert f"{checkpoint} does not fit {CLIP}" in error_of(tool, capsys, CLIP, checkpoint, out)
    assert "missing.pth" in error_of(tool, capsys, IMAGE, tmp_path / "missing.pth", out)
    options = ("--cfg-options", "test_dataloader.dataset.pipeline=[]", "val_dataloader.dataset.pipeline=[]")
    options += ("train_dataloader.dataset.pipeline=[]",)
    assert "does not say the height and width" in error_of(tool, capsys, IMAGE, checkpoint, out, *options)
    options = ("--cfg-options", "model.head.type=MultiLabelLinearClsHead", "model.head.loss.use_sigmoid=True")
    assert "several labels" in error_of(tool, capsys, IMAGE, checkpoint, out, *options)
    (tmp_path / "det").mkdir()
    _, checkpoint = fine_tuned(DETECTION, tmp_path / "det")
    options = ("--cfg-options", "model.test_cfg.rcnn.nms.type=soft_nms")
    assert "cannot be exported. Set nms.type='nms' and max_per_img above 0" in error_of(
        tool, capsys, DETECTION, checkpoint, out, *options
    )
    options = ("--cfg-options", "test_dataloader.dataset.pipeline=[]", "val_dataloader.dataset.pipeline=[]")
    options += ("train_dataloader.dataset.pipeline=[]",)
    assert "give the size of images with --size" in error_of(tool, capsys, DETECTION, checkpoint, out, *options)
    assert not out.exists()


def test_missing_package_is_named(tmp_path):
    """Export in an environment without onnxscript."""
    (tmp_path / "onnxscript.py").write_text("raise ImportError('not installed')")
    _, checkpoint = fine_tuned(IMAGE, tmp_path)
    command = [
        sys.executable,
        str(ROOT / "tools" / "export_model.py"),
        str(IMAGE),
        checkpoint,
        str(tmp_path / "m.onnx"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, PYTHONPATH=str(tmp_path)))
    assert done.returncode == 1
    assert "needs the package onnxscript: pip install" in done.stderr.splitlines()[-1]
