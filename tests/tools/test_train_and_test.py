"""Tests of tools/train.py and tools/test.py: from pre-training to a tested classifier, interrupted or not."""

import json
from pathlib import Path

import torch
from mmengine.hooks import Hook

from maskfeat_plugin.registry import HOOKS


@HOOKS.register_module(force=True)
class InterruptInTest(Hook):
    """Hook that raises KeyboardInterrupt in the middle of the second epoch."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 4:
            raise KeyboardInterrupt


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def test_interrupted_training_resumes_to_the_same_result(project, train, capsys):
    assert train(["pretrain.py", "--work-dir", "whole"]) == 0
    Path("interrupted.py").write_text(
        "_base_ = 'pretrain.py'\ncustom_hooks = [dict(type='maskfeat.InterruptInTest')]\n"
    )
    assert train(["interrupted.py", "--work-dir", "parts"]) == 130
    assert "--resume" in capsys.readouterr().err.splitlines()[-1]
    assert Path("parts/epoch_1.pth").exists() and not Path("parts/epoch_2.pth").exists()

    assert train(["pretrain.py", "--work-dir", "parts", "--resume"]) == 0
    whole, parts = weights("whole/epoch_3.pth"), weights("parts/epoch_3.pth")
    assert whole.keys() == parts.keys()
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=0, atol=0)
    assert any(not torch.equal(whole[name], weights("whole/epoch_1.pth")[name]) for name in whole)


def test_resume_from_a_given_checkpoint(project, train):
    assert train(["pretrain.py", "--work-dir", "whole"]) == 0
    assert train(["pretrain.py", "--work-dir", "again", "--resume", "whole/epoch_2.pth"]) == 0
    whole, again = weights("whole/epoch_3.pth"), weights("again/epoch_3.pth")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_pretrain_finetune_and_test(project, train, test):
    assert train(["pretrain.py"]) == 0
    assert train(["finetune.py", "--cfg-options", "optim_wrapper.optimizer.lr=0.0"]) == 0
    # with a learning rate of 0 the fine-tuned backbone keeps its pre-trained weights
    before, after = weights("work_dirs/pretrain/epoch_3.pth"), weights("work_dirs/finetune/epoch_1.pth")
    name = "backbone.layers.0.attn.qkv.weight"
    assert torch.equal(before[name], after[name])
    assert test(["finetune.py", "work_dirs/finetune/epoch_1.pth", "--work-dir", "tested"]) == 0
    (metrics,) = Path("tested").glob("*/*.json")
    assert 0 <= json.loads(metrics.read_text())["accuracy/top1"] <= 100


def test_cfg_options_come_last(project, train):
    assert train(["pretrain.py", "--work-dir", "short", "--cfg-options", "train_cfg.max_epochs=1"]) == 0
    assert Path("short/epoch_1.pth").exists() and not Path("short/epoch_2.pth").exists()
