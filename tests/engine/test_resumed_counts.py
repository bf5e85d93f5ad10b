"""Resuming with another number of iterations an epoch, as more processes have: counted anew, accumulation included."""

import json
from pathlib import Path

import pytest

from maskfeat_plugin.apis import build_trainer, load_config, train

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("batch_size, iterations", [(8, 12), (16, 6), (4, 24), (2, 48)])
def test_other_length_of_an_epoch(digits, tmp_path, monkeypatch, accumulated, batch_size, iterations):
    """32 images, 3 epochs; the checkpoint is of 2 epochs of 8 iterations."""
    monkeypatch.chdir(digits)

    def run(size, epochs, resume=None):
        config = load_config(str(CONFIGS / "demo/maskfeat_vit-tiny_moving-digits.py"), str(tmp_path), resume=resume)
        config.experiment_name = f"counts_{tmp_path.name}_{epochs}"
        config.train_dataloader.batch_size = size
        config.train_dataloader.dataset.indices = 32
        config.train_dataloader.sampler = dict(type="DefaultSampler", shuffle=True)
        config.train_cfg = dict(type="maskfeat.EpochBasedTrainLoop", max_epochs=epochs)
        config.param_scheduler = None
        config.log_processor = dict(by_epoch=True)
        config.default_hooks.logger.interval = 1
        config.default_hooks.checkpoint = dict(type="maskfeat.CheckpointHook", interval=1)
        config.optim_wrapper.accumulative_counts = accumulated
        runner = build_trainer(config)
        train(runner)
        return runner

    assert run(4, 2).iter == 16
    runner = run(batch_size, 3, resume="auto")
    assert (runner.epoch, runner.iter) == (3, iterations)
    lines = max(tmp_path.glob("*/vis_data/scalars.json")).read_text().splitlines()
    left = [record["seconds_left"] for record in map(json.loads, lines) if "seconds_left" in record]
    assert min(left) >= 0
