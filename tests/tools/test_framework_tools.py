"""Tests of our configs with the frameworks' own entry points: their tools, mim, their loaders and inferencers."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.registry import DefaultScope
from mmengine.runner import save_checkpoint, set_random_seed

from maskfeat_plugin.registry import MODELS

CONFIGS = Path(__file__).parents[2] / "configs" / "demo"
IMAGE = CONFIGS / "vit-tiny_moving-digits-class.py"
CLIP = CONFIGS / "mvit-tiny_moving-digits-motion.py"
BOXES = CONFIGS / "vit-tiny_moving-digits-coco.py"
PRETRAIN = CONFIGS / "maskfeat_vit-tiny_moving-digits.py"
TWO_STEPS = ["train_cfg.max_iters=2", "default_hooks.checkpoint.interval=2", "train_dataloader.batch_size=4"]
TWO_STEPS += ["param_scheduler.0.end=1", "param_scheduler.1.begin=1"]
VALIDATE = ["train_cfg.val_interval=2"]


def run(arguments, folder):
    """Run Python in a folder and return its output. Fail if it fails."""
    command = [sys.executable, "-W", "ignore", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


def metrics(work_dir):
    """Read the metrics that a test run wrote."""
    (file,) = work_dir.glob("*/*.json")
    return json.loads(file.read_text())


@pytest.mark.parametrize(
    "package, config, metric",
    [
        pytest.param("mmpretrain", IMAGE, "accuracy/top1", marks=pytest.mark.long),
        pytest.param("mmaction", CLIP, "acc/top1", marks=pytest.mark.long),
        pytest.param("mmdet", BOXES, "coco/bbox_mAP", marks=pytest.mark.long),
    ],
    ids=["mmpretrain", "mmaction", "mmdet"],
)
def test_their_tools_train_and_test(package, config, metric, digits, tmp_path):
    tools = Path(find_spec(package).submodule_search_locations[0], ".mim", "tools")
    out = tmp_path / "train"
    log = run([tools / "train.py", config, "--work-dir", out, "--cfg-options", *TWO_STEPS, *VALIDATE], digits)
    assert f"{metric}: " in log
    assert "state_dict" in torch.load(out / "iter_2.pth", weights_only=True)
    run([tools / "test.py", config, out / "iter_2.pth", "--work-dir", tmp_path / "test"], digits)
    assert 0 <= metrics(tmp_path / "test")[metric] <= 100


@pytest.mark.long
def test_mim_pretrains_finetunes_and_tests(digits, tmp_path):
    """Pre-train with mmpretrain through mim, fine-tune from the weights, and test."""
    log = run(
        ["-m", "mim", "train", "mmpretrain", PRETRAIN, "--work-dir", tmp_path / "pre", "--cfg-options", *TWO_STEPS],
        digits,
    )
    assert "Training finished successfully" in log
    init_cfg = [
        "model.backbone.init_cfg.type=maskfeat.Pretrained",
        f"model.backbone.init_cfg.checkpoint={tmp_path / 'pre' / 'iter_2.pth'}",
        "optim_wrapper.optimizer.lr=0.0",
    ]
    arguments = ["--work-dir", tmp_path / "fine", "--cfg-options", *TWO_STEPS, *VALIDATE, *init_cfg]
    run(["-m", "mim", "train", "mmpretrain", IMAGE, *arguments], digits)
    before, after = (
        torch.load(tmp_path / name / "iter_2.pth", weights_only=True)["state_dict"] for name in ("pre", "fine")
    )
    key = "backbone.layers.0.attn.qkv.weight"
    assert torch.equal(before[key], after[key])  # it started from these weights and did not learn
    checkpoint = tmp_path / "fine" / "iter_2.pth"
    log = run(
        ["-m", "mim", "test", "mmpretrain", IMAGE, "--checkpoint", checkpoint, "--work-dir", tmp_path / "test"], digits
    )
    assert "Testing finished successfully" in log and 0 <= metrics(tmp_path / "test")["accuracy/top1"] <= 100


@pytest.mark.long
def test_mim_trains_and_tests_in_mmaction2(digits, tmp_path):
    options = ["--work-dir", tmp_path / "train", "--cfg-options", *TWO_STEPS, *VALIDATE]
    assert "acc/top1: " in run(["-m", "mim", "train", "mmaction2", CLIP, *options], digits)
    checkpoint = ["--checkpoint", tmp_path / "train" / "iter_2.pth"]
    run(["-m", "mim", "test", "mmaction2", CLIP, *checkpoint, "--work-dir", tmp_path / "test"], digits)
    assert 0 <= metrics(tmp_path / "test")["acc/top1"] <= 1


@pytest.fixture
def checkpoint(digits, tmp_path, monkeypatch):
    """Function that writes a checkpoint of random weights in mmengine's format, with the training history."""
    monkeypatch.chdir(digits)

    def write(path):
        cfg = Config.fromfile(path)
        set_random_seed(0)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model = MODELS.build(cfg.model)
            model.init_weights()
        history = HistoryBuffer(np.ones(2), np.ones(2))
        content = dict(
            state_dict=model.state_dict(),
            meta=dict(epoch=0, iter=2, dataset_meta=dict(classes=[f"digit {i}" for i in range(10)])),
            message_hub=dict(log_scalars={"train/loss": history}, runtime_info=dict(iter=np.int64(2))),
        )
        save_checkpoint(content, str(tmp_path / "checkpoint.pth"))
        return str(tmp_path / "checkpoint.pth")

    return write


def test_mmpretrains_loader_and_inferencer(checkpoint):
    from mmpretrain import ImageClassificationInferencer, get_model

    file, image = checkpoint(IMAGE), str(sorted(Path("data/moving_digits/frames/test").glob("*.png"))[0])
    model = get_model(str(IMAGE), pretrained=file, device="cpu")
    state = torch.load(file, weights_only=True)["state_dict"]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    with DefaultScope.overwrite_default_scope("mmpretrain"):  # a fixture may have left another scope
        (found,) = ImageClassificationInferencer(model)(image)
        (again,) = ImageClassificationInferencer(str(IMAGE), pretrained=file, device="cpu")(image)
    scores = found["pred_scores"]
    assert scores.shape == (10,) and scores.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(again["pred_scores"], scores, rtol=1e-5)
    assert again["pred_class"] == f"digit {scores.argmax()}"


def test_mmpretrains_loader_takes_the_pretrained_model(checkpoint):
    from mmpretrain import get_model

    model = get_model(str(PRETRAIN), pretrained=checkpoint(PRETRAIN), device="cpu")
    (vector,) = model.extract_feat(torch.zeros(1, 3, 40, 40))
    assert vector.shape == (1, 96)


def test_mmactions_loader_and_inferencers(checkpoint):
    from mmaction.apis import inference_recognizer, init_recognizer
    from mmaction.apis.inferencers import ActionRecogInferencer, MMAction2Inferencer

    file, clip = checkpoint(CLIP), str(sorted(Path("data/moving_digits/videos/test").glob("*.mp4"))[0])
    model = init_recognizer(str(CLIP), file, device="cpu")
    scores = inference_recognizer(model, clip).pred_score
    assert scores.shape == (8,) and scores.sum().item() == pytest.approx(1, abs=1e-5)
    both = MMAction2Inferencer(rec=str(CLIP), rec_weights=file, device="cpu")(clip)["predictions"][0]
    np.testing.assert_allclose(both["rec_scores"][0], scores, rtol=1e-5)
    (one,) = ActionRecogInferencer(str(CLIP), weights=file, device="cpu")(clip)["predictions"]
    np.testing.assert_allclose(one["pred_scores"], scores, rtol=1e-5)


def test_mmdets_loader_and_inferencer(checkpoint):
    from mmdet.apis import DetInferencer, inference_detector, init_detector

    file, image = checkpoint(BOXES), str(sorted(Path("data/moving_digits/frames/test").glob("*.png"))[0])
    model = init_detector(str(BOXES), file, device="cpu", palette="random")
    found = inference_detector(model, image).pred_instances
    assert len(found.bboxes) and found.bboxes.shape == (len(found.scores), 4)
    assert found.bboxes.min() >= 0 and found.bboxes.max() <= 64  # pixels of the file, not of the network's input
    assert found.bboxes.max() > 41
    inferencer = DetInferencer(str(BOXES), file, device="cpu", palette="random")
    (again,) = inferencer(image, no_save_vis=True)["predictions"]
    np.testing.assert_allclose(again["bboxes"], found.bboxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(again["scores"], found.scores, rtol=1e-4)
