"""Trainings one after another in the same processes. test_strategies.py starts them by torchrun, or calls them itself.

    torchrun ... train_by_strategies.py JOBS.json RESULTS.pth

A job is a dict: ``config``, ``work_dir``, and ``options``, the changes of the config. The result of each job is the
loss of every step, the mean of all processes.
"""

import json
import sys
from pathlib import Path

import torch
from mmengine.dist import all_reduce, get_rank
from mmengine.hooks import Hook

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.apis import build_trainer, load_config


class Recorder(Hook):
    """Hook that keeps the losses; each is the mean over the processes."""

    def __init__(self):
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        loss = outputs["loss"].detach().clone()
        all_reduce(loss, "mean")
        self.losses.append(loss.item())


def train(job, launcher="none"):
    """Train and return the runner and the losses."""
    cfg = load_config(job["config"], job["work_dir"], job["options"], launcher)
    runner = build_trainer(cfg)
    recorder = Recorder()
    runner.register_hook(recorder)
    runner.train()
    return runner, recorder.losses


if __name__ == "__main__":
    results = [train(job, "pytorch")[1] for job in json.loads(Path(sys.argv[1]).read_text())]
    if get_rank() == 0:
        torch.save(results, sys.argv[2])
