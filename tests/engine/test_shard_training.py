"""Trainings on tar shards, also in several processes and after ``kill -9``: the same samples, each once in an epoch."""

import json
from pathlib import Path

import pytest

from maskfeat_plugin.checkpoints import load_file
from maskfeat_plugin.config.load import load_config
from maskfeat_plugin.preparation.shard_writing import ShardSettings, build_dataset, write_shards

CONFIG = Path(__file__).parents[2] / "configs" / "demo" / "maskfeat_vit-tiny_moving-digits.py"
COUNT, EPOCHS = 32, 2
TRAINING = """
_base_ = "{base}"
env_cfg = dict(mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0))
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
train_dataloader = dict(
    batch_size=4,
    num_workers={workers},
    persistent_workers=False,
    sampler=dict(_delete_=True, type="maskfeat.ShardSampler", window=7),
    dataset=dict(
        _delete_=True,
        type="maskfeat.SkipBadFiles",
        dataset_type="maskfeat.ImageDataset",
        with_label=False,
        ann_file="{shards}",
        pipeline={{{{_base_.train_pipeline}}}},
    ),
)
train_cfg = dict(_delete_=True, type="maskfeat.EpochBasedTrainLoop", max_epochs={epochs})
param_scheduler = None
default_hooks = dict(
    checkpoint=dict(_delete_=True, type="maskfeat.CheckpointHook", interval=5, by_epoch=False, max_keep_ckpts=1),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
log_processor = dict(by_epoch=True)
custom_hooks = [dict(type="maskfeat.NoteSamplesInTest"), *{hooks}]
"""


@pytest.fixture(scope="module")
def pattern(digits, tmp_path_factory):
    """Return the pattern of seven shards with the 32 images of the tiny MovingDigits."""
    folder = tmp_path_factory.mktemp("shards")
    data = dict(data_root=f"{digits}/data/moving_digits/", indices=COUNT)
    options = {f"train_dataloader.dataset.{key}": value for key, value in data.items()}
    cfg = load_config(CONFIG, str(folder), options)
    report = write_shards(build_dataset(cfg, "train_dataloader"), folder, ShardSettings(samples=5), progress=False)
    assert report.samples == COUNT
    return str(folder / "shard-{000000..000006}.tar")


@pytest.fixture
def job(tmp_path, pattern):
    def make(name, workers=0, hooks=(), **settings):
        path = tmp_path / f"{name}_{len(hooks)}.py"
        path.write_text(TRAINING.format(base=CONFIG, shards=pattern, workers=workers, epochs=EPOCHS, hooks=list(hooks)))
        output = str(tmp_path / f"{name}.txt")
        return dict(config=str(path), work_dir=str(tmp_path / name), options={}, output=output, **settings)

    return make


def noted(job, processes=1):
    """Return the names of each epoch's samples in the order of the steps; a later note of a step counts."""
    epochs = [[] for _ in range(EPOCHS)]
    for rank in range(processes):
        lines = Path(job["work_dir"], f"samples.{rank}.txt").read_text().splitlines()
        steps = {iteration: (epoch, names) for epoch, iteration, names in map(json.loads, lines)}
        assert list(steps) == list(range(len(steps)))
        for epoch, names in steps.values():
            epochs[epoch] += names
    return epochs


@pytest.mark.parametrize("processes, workers", [(1, 2), (2, 1), (4, 0)])
def test_each_sample_once_in_an_epoch(trainings, job, processes, workers):
    training = job("whole", workers, processes=processes)
    assert set([trainings.run(**training)] if processes == 1 else trainings.run(**training)) == {0}
    first, second = noted(training, processes)
    assert len(set(first)) == len(first) == COUNT and set(first) == set(second) and first != second


def test_killed_training_continues_with_the_same_samples(trainings, job):
    whole, broken = job("whole", 2), job("broken", 2, [dict(type="maskfeat.KillInTest", iteration=11)])
    assert trainings.run(**whole) == 0
    assert trainings.run(**broken) == -9
    before = Path(broken["work_dir"], "samples.0.txt").read_text().splitlines()
    resumed = dict(job("broken", 2), resume="auto")
    assert trainings.run(**resumed) == 0
    after = Path(broken["work_dir"], "samples.0.txt").read_text().splitlines()[len(before) :]
    assert json.loads(after[0])[1] == 10  # in the middle of the second epoch of eight steps
    assert noted(resumed) == noted(whole)
    ours, theirs = (load_file(Path(run["work_dir"], "iter_16.pth"))["state_dict"] for run in (resumed, whole))
    assert all((ours[name] == value).all() for name, value in theirs.items())
