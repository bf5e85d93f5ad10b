"""Tests of k-NN with real models on real files: the hook during pre-training, and the tool on a checkpoint."""

import copy
import json
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.runner import Runner
from torch.utils.data import DataLoader
from warm_python import python

from maskfeat_plugin.evaluation.features import compute_features
from maskfeat_plugin.registry import HOOKS
from tools.knn import main

CONFIGS = Path(__file__).parents[2] / "configs" / "demo"
PRETRAIN, FINETUNE = (
    ("maskfeat_vit-tiny_moving-digits.py", "maskfeat_mvit-tiny_moving-digits.py"),
    (
        "vit-tiny_moving-digits-class.py",
        "mvit-tiny_moving-digits-motion.py",
    ),
)


def loader(cfg, split):
    """Build a loader of the labelled data of a fine-tuning config, in order, with its test pipeline."""
    config = copy.deepcopy(cfg.val_dataloader)
    if split == "train":
        config.dataset = copy.deepcopy(cfg.train_dataloader.dataset)
        config.dataset.pipeline = cfg.val_dataloader.dataset.pipeline
    config.pop("sampler")
    config.batch_size = 4
    return config


def trainer(folder, pretrain, finetune, num_classes, hook=True, **changes):
    """Build a runner for three steps of pre-training, with the hook at every second step."""
    cfg, labelled = Config.fromfile(CONFIGS / pretrain), Config.fromfile(CONFIGS / finetune)
    cfg.work_dir = str(folder)
    cfg.experiment_name = folder.name  # the default is a time: two runners in one second would share logs
    cfg.train_cfg.max_iters = 3
    cfg.train_dataloader.batch_size = 4
    cfg.param_scheduler = []
    if hook:
        settings = dict(type="maskfeat.KNNHook", interval=2, by_epoch=False, k=(3,), num_classes=num_classes)
        settings.update(features_dataloader=loader(labelled, "train"), query_dataloader=loader(labelled, "val"))
        cfg.custom_hooks = [dict(settings, **changes)]
    return Runner.from_cfg(cfg)


@pytest.mark.parametrize(
    "pretrain, finetune, num_classes", zip(PRETRAIN, FINETUNE, (10, 8), strict=True), ids=["images", "clips"]
)
def test_hook_logs_and_leaves_training_alone(pretrain, finetune, num_classes, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(digits)
    plain = trainer(tmp_path / "plain", pretrain, finetune, num_classes, hook=False)
    plain.train()
    watched = trainer(tmp_path / "watched", pretrain, finetune, num_classes)
    watched.train()
    for key, value in plain.model.state_dict().items():
        assert torch.equal(value, watched.model.state_dict()[key]), key
    assert watched.model.training
    lines = (Path(watched.log_dir) / "vis_data" / "scalars.json").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if "knn/top1_k3" in row]
    assert [row["step"] for row in rows] == [2, 3]  # every second step, and the last step
    assert all(0 <= row["knn/top1_k3"] <= row["knn/top5_k3"] <= 100 for row in rows)
    hook = next(hook for hook in watched.hooks if type(hook).__name__ == "KNNHook")
    assert hook.evaluate(watched)["knn/top1_k3"] == rows[-1]["knn/top1_k3"]


def test_hook_among_its_own_neighbours(digits, tmp_path, monkeypatch):
    """With one neighbour, each sample is its own nearest neighbour, so all predictions are right."""
    monkeypatch.chdir(digits)
    data = loader(Config.fromfile(CONFIGS / FINETUNE[0]), "train")
    runner = trainer(
        tmp_path, PRETRAIN[0], FINETUNE[0], 10, features_dataloader=data, query_dataloader=copy.deepcopy(data), k=(1,)
    )
    runner.train()
    assert runner.message_hub.get_scalar("knn/top1_k1").current() == 100


@pytest.mark.parametrize(
    "changes, message", [(dict(interval=0), "interval=0"), (dict(query_dataloader=dict(drop_last=True)), "drop_last")]
)
def test_hook_refuses(changes, message):
    settings = dict(type="maskfeat.KNNHook", features_dataloader={}, query_dataloader={}, num_classes=2)
    with pytest.raises(ValueError, match=message):
        HOOKS.build(dict(settings, **changes))


def test_two_processes_find_what_one_does(digits, tmp_path, monkeypatch):
    """Two processes share 7 samples. The sampler gives one sample twice; it counts once."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch\n"
        "from torch.distributed import init_process_group\n"
        "from mmengine.dataset import DefaultSampler\n"
        "from torch.utils.data import DataLoader\n"
        "from maskfeat_plugin.evaluation.features import compute_features\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from planted import Planted, samples\n"
        "init_process_group('gloo')\n"
        "found = compute_features(Planted(), DataLoader(samples, 2, sampler=DefaultSampler(samples, shuffle=False),"
        " collate_fn=list))\n"
        "if found: torch.save(found, sys.argv[1])\n"
    )
    (tmp_path / "planted.py").write_text(
        "import torch\n"
        "from mmpretrain.structures import DataSample\n"
        "samples = list(range(7))\n"
        "class Planted(torch.nn.Module):\n"
        "    def data_preprocessor(self, batch, training):\n"
        "        labels = [DataSample().set_gt_label(i % 3) for i in batch]\n"
        "        return dict(inputs=torch.tensor(batch).float(), data_samples=labels)\n"
        "    def extract_feat(self, inputs):\n"
        "        return (inputs[:, None, None] * torch.tensor([[1.0, 2.0], [3.0, 4.0]]),)\n"
    )
    command = [python(), "-W", "ignore", "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    command += [script, tmp_path / "found.pth", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    features, labels = torch.load(tmp_path / "found.pth", weights_only=True)
    order = torch.arange(7)
    assert torch.equal(labels, order % 3)
    assert torch.equal(features, order[:, None] * torch.tensor([2.0, 3.0]))  # the mean of two tokens


class Views(torch.nn.Module):
    """Model with the output of a recognizer: a feature map for two views of each video, and settings of the head."""

    def data_preprocessor(self, batch, training):
        assert not training and not self.training
        random.random(), np.random.rand(), torch.rand(1)
        return dict(inputs=torch.stack([inputs for inputs, _ in batch]), data_samples=[sample for _, sample in batch])

    def extract_feat(self, inputs):
        return inputs.flatten(0, 1), dict(loss_aux={})


def test_views_and_positions_are_averaged_and_the_random_state_kept():
    from mmaction.structures import ActionDataSample

    inputs = torch.arange(2 * 2 * 3 * 4.0).reshape(2, 2, 3, 1, 2, 2)  # 2 videos, 2 views, 3 channels, positions
    data = [(x, ActionDataSample().set_gt_label(i)) for i, x in enumerate(inputs)]
    state = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    features, labels = compute_features(Views(), DataLoader(data, 2, collate_fn=list))
    torch.testing.assert_close(features, inputs.mean((1, 3, 4, 5)))
    assert labels.tolist() == [0, 1]
    assert random.getstate() == state[0] and torch.equal(torch.get_rng_state(), state[2])
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])


def test_no_label_and_no_features():
    from mmpretrain.structures import DataSample

    data = [(torch.zeros(1, 3, 1, 2, 2), DataSample())]
    with pytest.raises(ValueError, match="one class for each sample"):
        compute_features(Views(), DataLoader(data, 1, collate_fn=list))
    with pytest.raises(ValueError, match="no extract_feat"):
        compute_features(torch.nn.Linear(1, 1), DataLoader(data, 1, collate_fn=list))


@pytest.mark.parametrize("pretrain, finetune", zip(PRETRAIN, FINETUNE, strict=True), ids=["images", "clips"])
def test_tool(pretrain, finetune, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(digits)
    trainer(tmp_path / "pre", pretrain, finetune, 10, hook=False).train()
    checkpoint = tmp_path / "weights.pth"
    cfg = Config.fromfile(CONFIGS / pretrain)
    model = MMENGINE_MODELS.build(dict(cfg.model, _scope_="maskfeat"))
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    options = ["--k", "1", "5", "--device", "cpu", "--out", str(tmp_path / "knn.json"), "--cfg-options"]
    # the evaluation needs neither a GPU nor initial weights, which only training needs
    options += ["optim_wrapper.type=AmpOptimWrapper", "model.backbone.init_cfg.type=maskfeat.Pretrained"]
    options += ["model.backbone.init_cfg.checkpoint=not_there.pth"]
    # the queries are the voters: each sample is its own nearest neighbour
    if "mvit" in finetune:
        options += ["val_dataloader.dataset.ann_file=data/moving_digits/annotations/motion_train_1000_seed0.txt"]
        options += ["val_dataloader.dataset.data_prefix.video=data/moving_digits/videos/train"]
    else:
        options += ["val_dataloader.dataset.ann_file=annotations/image_train_1000_seed0.txt"]
        options += ["val_dataloader.dataset.data_prefix=frames/train"]
    assert main([str(CONFIGS / finetune), str(checkpoint), *options]) == 0
    metrics = json.loads((tmp_path / "knn.json").read_text())
    assert metrics["top1_k1"] == 100 and set(metrics) == {"top1_k1", "top5_k1", "top1_k5", "top5_k5"}
    assert "top1_k1  100.00 %" in capsys.readouterr().out


def test_tool_refuses(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(digits)
    (tmp_path / "any.pth").touch()
    assert main([str(CONFIGS / PRETRAIN[0]), str(tmp_path / "any.pth")]) == 1
    assert "config of fine-tuning the same backbone" in capsys.readouterr().err
    assert main([str(CONFIGS / FINETUNE[0]), str(tmp_path / "none.pth")]) == 1
    assert "none.pth" in capsys.readouterr().err
