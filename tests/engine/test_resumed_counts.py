"""Resuming with another number of iterations per epoch, for example with more processes, also with accumulation."""

import json
from pathlib import Path

import pytest
from long_variants import long_except

from maskfeat_plugin.apis import build_trainer, load_config, train

CONFIGS = Path(__file__).parents[2] / "configs"


def records(work_dir):
    """Return the records of the newest run of a training."""
    lines = max(work_dir.glob("2*/vis_data/scalars.json")).read_text().splitlines()
    return [record for record in map(json.loads, lines) if "seconds_left" in record]


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("batch_size, iterations", long_except([(8, 12), (16, 6), (4, 24), (2, 48)], 3))
def test_other_length_of_an_epoch(digits, tmp_path, monkeypatch, accumulated, batch_size, iterations):
    """There are 32 images and 3 epochs. The checkpoint is from epoch 2, with 8 iterations per epoch."""
    monkeypatch.chdir(digits)

    def run(size, epochs, resume=None, work_dir=tmp_path):
        config = load_config(str(CONFIGS / "demo/maskfeat_vit-tiny_moving-digits.py"), str(work_dir), resume=resume)
        config.experiment_name = f"counts_{work_dir.name}_{tmp_path.name}_{epochs}"
        config.train_dataloader.batch_size = size
        config.train_dataloader.dataset.indices = 32
        config.train_dataloader.sampler = dict(type="DefaultSampler", shuffle=True)
        config.train_cfg = dict(type="maskfeat.EpochBasedTrainLoop", max_epochs=epochs)
        config.param_scheduler = [
            dict(type="LinearLR", start_factor=0.1, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
            dict(
                type="CosineAnnealingLR",
                by_epoch=True,
                begin=1,
                end=3,
                T_max=2,
                eta_min_ratio=0.01,
                convert_to_iter_based=True,
            ),
        ]
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
    resumed = records(tmp_path)
    assert min(record["seconds_left"] for record in resumed) >= 0
    # the last epoch has the rates of a training of this length
    run(batch_size, 3, work_dir=tmp_path / "whole")
    rates = [record["lr"] for record in records(tmp_path / "whole")]
    assert [record["lr"] for record in resumed] == pytest.approx(rates[-len(resumed) :], rel=1e-6)
    assert len(resumed) == iterations / 3 and rates[-1] < 0.2 * max(rates)
