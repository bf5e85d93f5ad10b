"""Trainings of a tiny model that the tests of a cluster compare."""

import os
import sys
from pathlib import Path

import torch

from maskfeat_plugin.checkpoints.reader import read_state

ROOT = Path(__file__).parents[2]
PRETRAINING = ROOT / "configs" / "demo" / "maskfeat_vit-tiny_moving-digits.py"
HEADER = """
_base_ = {base!r}
custom_imports = dict(imports=["maskfeat_plugin", "cluster_hooks"], allow_failed_imports=False)
custom_hooks = [dict(type="maskfeat.ClusterTestHook")]
env_cfg = dict(dist_cfg=dict(timeout=60))
param_scheduler = None
randomness = dict(seed=0, diff_rank_seed=True)  # set with a launcher; it decides the order of the samples
"""
# Two steps with the same masks in all processes, so that any number of them has the same loss
EQUAL = """
optim_wrapper = dict(optimizer=dict(_delete_=True, type="SGD", lr=0.1))
train_dataloader = dict(batch_size={batch_size}, dataset=dict(pipeline={{{{_base_.test_pipeline}}}}))
train_cfg = dict(max_iters=2)
default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=1))
"""
STEPS = 40
# Forty steps with random crops and masks
LONG = f"""
train_dataloader = dict(batch_size=2)
train_cfg = dict(max_iters={STEPS})
default_hooks = dict(checkpoint=dict(interval=3, max_keep_ckpts=3, save_optimizer=True), logger=dict(interval=1))
"""


def write_config(folder, text, **values):
    """Write a config whose base is the demo's pre-training, and return its path."""
    path = folder / f"config{len(list(folder.glob('config*.py')))}.py"
    header = HEADER.format(base=str(PRETRAINING))
    path.write_text(header + (text.format(**values) if values else text))
    return path


def variables(**more):
    """Return variables for processes on CPUs that find this checkout and its test hooks."""
    path = f"{ROOT}:{Path(__file__).parent}"
    return dict(PYTHONPATH=path, PYTHON=sys.executable, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", **more)


def environment(**more):
    """Return the environment of a process that no launcher has started."""
    unset = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    return {k: v for k, v in os.environ.items() if k not in unset} | variables(**more)


def weights(path):
    """Return the weights of a checkpoint."""
    return read_state(path)


def losses(folder, size):
    """Return the losses of the steps, as means over the processes."""
    read = [[float(line.split()[1]) for line in (folder / f"losses.{r}").read_text().splitlines()] for r in range(size)]
    return torch.tensor(read).mean(0)


def assert_same_losses_and_weights(ours, theirs, size):
    """Compare the two steps of ``size`` processes with the two steps of one process."""
    assert len(losses(ours, size)) == 2
    torch.testing.assert_close(losses(ours, size), losses(theirs, 1))
    torch.testing.assert_close(weights(ours / "iter_2.pth"), weights(theirs / "iter_2.pth"), rtol=1e-5, atol=1e-6)


def assert_equal_weights(ours, theirs):
    """Check that two checkpoints have the same weights to rounding: four processes may add gradients in any order."""
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-4, atol=1e-6)
