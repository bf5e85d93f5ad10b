"""Export of fine-tuned models, compared with the frameworks' own test step; by onnxruntime and torch.export."""

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
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from tool_modules import load_tool

from maskfeat_plugin.registry import MODELS

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "configs" / "demo" / "vit-tiny_moving-digits-class.py"
CLIP = ROOT / "configs" / "demo" / "mvit-tiny_moving-digits-motion.py"
PRETRAINING = ROOT / "configs" / "demo" / "maskfeat_vit-tiny_moving-digits.py"


@pytest.fixture(scope="module")
def tool():
    return load_tool("export_model").main


def fine_tuned(config, folder):
    """A config's model, with weights that tell samples apart, and its checkpoint."""
    cfg = Config.fromfile(config)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    path = folder / "epoch_1.pth"
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=("zero", "one")))), path)
    return model, str(path)


def scores_of(model, samples):
    """What the framework's own test step gives for packed samples of uint8 frames."""
    if model.data_preprocessor.__class__.__name__ == "ActionDataPreprocessor":
        data = dict(inputs=[x[None] for x in samples], data_samples=[ActionDataSample() for _ in samples])
    else:
        data = dict(inputs=list(samples), data_samples=[DataSample() for _ in samples])
    with torch.no_grad():
        found = model.test_step(data)
    return torch.stack([sample.pred_score for sample in found]).numpy()


@pytest.mark.slow
@pytest.mark.parametrize(("config", "shape"), [(IMAGE, (3, 40, 40)), (CLIP, (3, 8, 32, 32))])
def test_scores_are_the_models(tool, tmp_path, capsys, config, shape):
    model, checkpoint = fine_tuned(config, tmp_path)
    samples = torch.randint(0, 256, (4, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected = scores_of(model, samples)
    assert expected.std(0).max() > 0.01  # samples are told apart
    inputs = samples.float()
    if config == IMAGE:
        inputs = inputs.flip(1)  # mmpretrain reads BGR, its preprocessor turns it
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
    assert "choose one of .onnx, .pt2" in error_of(tool, capsys, IMAGE, checkpoint, tmp_path / "model.pth")
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
    assert not out.exists()


def test_missing_package_is_named(tmp_path):
    """In an environment without onnxscript."""
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
