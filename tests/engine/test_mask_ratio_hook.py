"""The masks that the model gets follow the schedule: with workers of any kind, with wrappers, and after resuming."""

import copy
import json
import os
import pickle
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from long_variants import long_except
from mmengine.config import Config
from mmengine.hooks import Hook
from torch.utils.data import DataLoader, Dataset
from warm_python import python

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.apis import ConfigError, build_trainer, load_config
from maskfeat_plugin.engine.hooks.mask_ratio_hook import find_mask_generators
from maskfeat_plugin.engine.ratio_schedules import build_schedule
from maskfeat_plugin.registry import HOOKS, TRANSFORMS

CONFIGS = Path(__file__).parents[2] / "configs"
IMAGES = "masks/maskfeat-rising-ratio_vit-tiny_moving-digits.py"
CLIPS = "masks/maskfeat-tubes_mvit-tiny_moving-digits.py"


class Counts(Hook):
    """Hook that keeps the number of masked tokens of each sample of each batch."""

    priority = "LOW"

    def __init__(self):
        self.batches = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.batches.append([int(np.asarray(sample.mask).sum()) for sample in data_batch["data_samples"]])

    @property
    def one_a_batch(self):
        assert all(len(set(batch)) == 1 for batch in self.batches)
        return [batch[0] for batch in self.batches]


@pytest.fixture
def cfg(digits, tmp_path, monkeypatch):
    """Return a reader of configs that train on 32 samples of a tiny MovingDigits: 4 steps per epoch, or 8 steps."""
    monkeypatch.chdir(digits)

    def read(path=IMAGES, **options):
        config = load_config(str(CONFIGS / path), str(tmp_path / "work"))
        config.experiment_name = f"maskfeat_{time.monotonic_ns()}"  # by default two runners in the same second share it
        config.train_dataloader.update(batch_size=8)
        config.train_dataloader.dataset.indices = 32
        if config.train_cfg.type == "maskfeat.IterBasedTrainLoop":
            config.train_cfg.max_iters = 8
            config.param_scheduler = None
        config.merge_from_dict(options)
        return config

    return read


def by_epoch(config, epochs=4, **schedule):
    """Change an iteration-based config to epochs."""
    config.train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs)
    config.train_dataloader.sampler = dict(type="DefaultSampler", shuffle=True)
    config.custom_hooks = [dict(type="maskfeat.MaskRatioHook", schedule=schedule)]
    config.default_hooks.checkpoint = dict(type="CheckpointHook", interval=1)
    config.log_processor = dict(by_epoch=True)
    return config


def train(config):
    """Train. Return the numbers of masked tokens of each batch, and the runner."""
    runner = build_trainer(config)
    counts = Counts()
    runner.register_hook(counts)
    runner.train()
    return counts, runner


def linear(first, last, steps, places=25):
    return [round(places * (first + (last - first) * i / (steps - 1))) for i in range(steps)]


def test_config_of_iterations(cfg):
    counts, runner = train(cfg(**{"default_hooks.logger.interval": 1}))
    assert counts.one_a_batch == linear(0.2, 0.6, 8)
    assert counts.one_a_batch[0] == 5 and counts.one_a_batch[-1] == 15
    assert runner.message_hub.get_scalar("train/mask_ratio").current() == pytest.approx(0.6)
    logged = [json.loads(line) for line in Path(runner._log_dir, "vis_data", "scalars.json").read_text().splitlines()]
    assert all("mask_ratio" in line for line in logged if "loss" in line)


def test_config_of_tubes(cfg):
    """With two persistent workers, the ratio changes exactly at the right epoch."""
    config = cfg(CLIPS, **{"train_cfg.max_epochs": 4, "train_dataloader.batch_size": 16})
    config.custom_hooks[0].schedule.milestones = (1, 3)
    config.param_scheduler = None
    counts, _ = train(config)
    assert config.train_dataloader.persistent_workers and config.train_dataloader.num_workers == 2
    assert [4 * round(16 * ratio) for ratio in (0.4, 0.4, 0.6, 0.6, 0.6, 0.6, 0.8, 0.8)] == counts.one_a_batch


def wrapped(dataset):
    """Wrap a data set in two repetitions."""
    repeated = dict(type="RepeatDataset", dataset=dataset, times=1)
    return dict(type="ConcatDataset", datasets=[repeated, copy.deepcopy(repeated)], ignore_keys=["classes"])


@pytest.mark.parametrize("workers, persistent", [(0, False), (2, False), (2, True)])
def test_epochs_with_workers(cfg, workers, persistent):
    config = by_epoch(cfg(), type="cosine", ratio=0.8)
    config.train_dataloader.update(num_workers=workers, persistent_workers=persistent)
    counts, _ = train(config)
    expected = [round(25 * (0.2 + 0.6 * (1 - np.cos(np.pi * epoch / 3)) / 2)) for epoch in range(4)]
    assert counts.one_a_batch == [count for count in expected for _ in range(4)]


def test_wrappers_of_data_sets(cfg):
    config = by_epoch(cfg(), epochs=2, type="linear", ratio=0.8)
    loader = config.train_dataloader
    loader.update(num_workers=2, persistent_workers=True)
    loader.dataset = wrapped(loader.dataset)  # `update` would merge the wrapper into the wrapped config
    counts, runner = train(config)
    assert len(list(find_mask_generators(runner.train_dataloader.dataset))) == 2
    assert counts.one_a_batch == [5] * 8 + [20] * 8


def test_repeated_augmentation(cfg):
    """The data set gives several clips of each video, and each clip has its own mask."""
    config = by_epoch(cfg("demo/maskfeat_mvit-tiny_moving-digits.py"), epochs=3, type="linear", ratio=0.8)
    loader = config.train_dataloader
    pipeline = loader.dataset.pipeline
    pipeline[:1] = [dict(step, keep_ratio=False) if step.type == "Resize" else step for step in pipeline[0].transforms]
    loader.dataset.update(type="maskfeat.RepeatAugDataset", num_repeats=2)
    loader.update(num_workers=2, persistent_workers=True, collate_fn=dict(type="repeat_pseudo_collate"))
    config.param_scheduler = None
    counts, _ = train(config)
    assert [len(batch) for batch in counts.batches] == [16] * 12
    assert counts.one_a_batch == [count for count in linear(0.4, 0.8, 3, 64) for _ in range(4)]


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_epochs_have_their_ratio(cfg, workers):
    def config():
        found = by_epoch(cfg(), type="linear", ratio=0.8)
        found.train_dataloader.update(num_workers=workers, persistent_workers=workers > 0)
        return found

    whole, runner = train(config())
    again = config()
    again.update(resume=True, load_from=str(Path(runner.work_dir, "epoch_2.pth")))
    resumed, _ = train(again)
    assert resumed.one_a_batch == whole.one_a_batch[8:]
    assert set(resumed.one_a_batch) == set(linear(0.2, 0.8, 4)[2:])


@pytest.mark.parametrize("workers", long_except([0, 2], 1))
def test_resumed_iterations_have_their_ratio(cfg, workers):
    """Workers draw ahead of the hook at the start of a training, but batches before the resumed one are skipped."""
    config = cfg(**{"default_hooks.checkpoint.interval": 6, "train_cfg.max_iters": 6})
    _, runner = train(config)
    again = cfg(**{"train_dataloader.num_workers": workers, "train_cfg.max_iters": 12})
    again.custom_hooks[0].schedule = dict(type="steps", milestones=(5,), ratios=(0.8,))
    again.update(resume=True, load_from=str(Path(runner.work_dir, "iter_6.pth")))
    counts, runner = train(again)
    assert runner.iter == 12 and counts.one_a_batch == [20] * 6


def test_iterations_with_workers_lag_by_no_more_than_said(cfg):
    config = cfg(**{"train_dataloader.num_workers": 2, "train_cfg.max_iters": 16})
    config.custom_hooks[0].schedule = dict(type="steps", milestones=(8,), ratios=(0.8,))
    counts, _ = train(config)
    masked = counts.batches
    assert all(set(batch) == {5} for batch in masked[:8])
    assert all(set(batch) == {20} for batch in masked[8 + 4 :])


def test_by_iteration_within_epochs(cfg):
    config = by_epoch(cfg(), type="linear", ratio=0.6)
    config.custom_hooks[0].by_epoch = False
    counts, _ = train(config)
    assert counts.one_a_batch == linear(0.2, 0.6, 16)


def test_a_constant_ratio_is_logged(cfg):
    config = cfg()
    config.custom_hooks[0].schedule = dict(type="constant")
    counts, runner = train(config)
    assert counts.one_a_batch == [5] * 8
    assert runner.message_hub.get_scalar("train/mask_ratio").mean() == pytest.approx(0.2)


def test_encoder_of_visible_tokens(cfg):
    """The encoder needs the same count in the whole batch. A schedule by epochs guarantees it, also with workers."""
    config = by_epoch(cfg("efficient/maskfeat-visible_vit-tiny_moving-digits.py"), epochs=3, type="linear", ratio=0.8)
    config.train_dataloader.update(num_workers=2, persistent_workers=True)
    config.param_scheduler = None
    counts, _ = train(config)
    assert counts.one_a_batch == [count for count in linear(0.4, 0.8, 3) for _ in range(4)]


class Masks(Dataset):
    """Data set that only draws masks, in the workers of a dataloader."""

    def __init__(self, **settings):
        self.generator = TRANSFORMS.build(dict(type="maskfeat.CubeMaskGenerator", token_grid=(4, 4, 4), **settings))

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return self.generator({})["mask"]


@pytest.mark.parametrize("method, workers", [("fork", 2), ("spawn", 1), ("forkserver", 1)])
def test_workers_of_any_start_method(method, workers):
    """Workers that are not forked have to import everything, so there is only one of them."""
    dataset = Masks(mask_ratio=0.25)
    dataset = pickle.loads(pickle.dumps(dataset)) if method == "spawn" else copy.deepcopy(dataset)
    loader = DataLoader(dataset, 4, num_workers=workers, persistent_workers=True, multiprocessing_context=method)
    for ratio in (0.25, 0.5, 0.75):
        dataset.generator.mask_ratio = ratio
        masks = torch.cat(list(loader))
        assert masks.sum((1, 2, 3)).tolist() == [64 * ratio] * 12
        assert len(torch.unique(masks, dim=0)) > 6  # a few may be equal by chance


def test_copies_have_ratios_of_their_own():
    dataset = Masks(mask_ratio=0.25)
    copies = [copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))]
    dataset.generator.mask_ratio = 0.5
    assert [c.generator.mask_ratio for c in copies] == [0.25, 0.25]
    copies[0].generator.mask_ratio = 0.75
    assert [c[0].sum() for c in copies] == [48, 16] and dataset[0].sum() == 32


WORKER = """
import sys
from pathlib import Path
from torch.distributed import get_rank, init_process_group
from test_mask_ratio_hook import build_trainer, by_epoch, load_config, train, CONFIGS, IMAGES
init_process_group("gloo")  # mmengine would ask for a GPU first
config = load_config(str(CONFIGS / IMAGES), sys.argv[1], launcher="pytorch")
config.train_dataloader.update(batch_size=4, num_workers=1, persistent_workers=True)
config.train_dataloader.dataset.indices = 32
config.param_scheduler = None
config.model_wrapper_cfg = dict(type="MMDistributedDataParallel", device_ids=None)  # the default is a GPU
config = by_epoch(config, epochs=3, type="linear", ratio=0.8)
counts, _ = train(config)
Path(sys.argv[1], f"rank{get_rank()}").write_text(str(counts.one_a_batch))
"""


def test_several_processes(digits, tmp_path):
    script = tmp_path / "work.py"
    script.write_text(WORKER)
    folder = Path(__file__).parent
    command = [python(), "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    environment = dict(os.environ, PYTHONPATH=f"{folder}:{folder.parent}", OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    done = subprocess.run(
        [*command, str(script), str(tmp_path / "work")], cwd=digits, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    expected = [count for count in linear(0.2, 0.8, 3) for _ in range(4)]
    # results go through files, because the output of two processes mixes
    assert [(tmp_path / "work" / f"rank{rank}").read_text() for rank in (0, 1)] == [str(expected)] * 2


def test_mask_generators_are_found_in_wrappers_of_transforms():
    generator = dict(type="maskfeat.RandomMaskGenerator", token_grid=(4, 4))
    wrapped = [
        dict(type="RandomApply", transforms=[generator], prob=1.0),
        dict(type="RandomChoice", transforms=[[generator], [generator]]),
        dict(type="maskfeat.TrackCrop", transforms=[generator]),
    ]
    pipeline = [TRANSFORMS.build(transform) for transform in wrapped]
    assert len(list(find_mask_generators(pipeline))) == 4
    assert len(list(find_mask_generators(pipeline + pipeline))) == 4
    cached = TRANSFORMS.build(dict(type="maskfeat.Cached", transforms=[generator]))
    assert not list(find_mask_generators([cached]))


steps = st.integers(2, 300)
shares = st.floats(0.01, 0.99)


@given(st.sampled_from(["linear", "cosine"]), shares, shares, steps)
def test_slopes_begin_and_end_where_they_should(kind, first, ratio, total):
    schedule = build_schedule(dict(type=kind, ratio=ratio))
    schedule.check(total)
    values = [schedule(first, step, total) for step in range(total)]
    assert values[0] == first and values[-1] == pytest.approx(ratio)
    changes = np.diff(values) * np.sign(ratio - first)
    assert (changes >= -1e-12).all()
    assert min(first, ratio) - 1e-12 <= min(values) and max(values) <= max(first, ratio) + 1e-12


@given(shares, shares, steps, st.data())
def test_slopes_are_level_before_and_after(first, ratio, total, data):
    begin = data.draw(st.integers(0, total - 2))
    end = data.draw(st.integers(begin + 2, total))
    schedule = build_schedule(dict(type="linear", ratio=ratio, begin=begin, end=end))
    schedule.check(total)
    values = [schedule(first, step, total) for step in range(total)]
    assert values[: begin + 1] == [first] * (begin + 1)
    assert values[end - 1 :] == pytest.approx([ratio] * (total - end + 1))


def test_steps():
    schedule = build_schedule(dict(type="steps", milestones=(2, 4), ratios=(0.6, 0.8)))
    assert [schedule(0.4, step, 6) for step in range(6)] == [0.4, 0.4, 0.6, 0.6, 0.8, 0.8]


@pytest.mark.parametrize(
    "schedule, message",
    [
        (dict(), "schedule.type=None is unknown; choose one of constant, linear, cosine, steps"),
        (dict(type="sine", ratio=0.5), "schedule.type='sine'"),
        (dict(type="linear"), "takes ratio, begin, end"),
        (dict(type="linear", ratio=0.5, start=0.1), "takes ratio, begin, end"),
        (dict(type="linear", ratio=1.0), r"1.0 is outside \(0, 1\)"),
        (dict(type="linear", ratio="0.5"), "'0.5' is outside"),
        (dict(type="cosine", ratio=0.5, begin=-1), "schedule.begin has to be counted"),
        (dict(type="cosine", ratio=0.5, end=2.5), "schedule.end has to be counted"),
        (dict(type="steps", milestones=(3, 2), ratios=(0.5, 0.6)), "have to rise"),
        (dict(type="steps", milestones=(3,), ratios=(0.5, 0.6)), "with one ratio for each"),
        (dict(type="steps", milestones=(3,), ratios=(0.0,)), r"0.0 is outside \(0, 1\)"),
    ],
)
def test_bad_schedules_name_the_key(schedule, message):
    with pytest.raises(ValueError, match=message):
        HOOKS.build(dict(type="maskfeat.MaskRatioHook", schedule=schedule))


def without_masks(config):
    del config.train_dataloader.dataset.pipeline[2]


def cached_masks(config):
    pipeline = config.train_dataloader.dataset.pipeline
    pipeline[2] = dict(type="maskfeat.Cached", transforms=[pipeline[2]])


def two_ratios(config):
    other = copy.deepcopy(config.train_dataloader.dataset)
    other.pipeline[2].mask_ratio = 0.4
    config.train_dataloader.dataset = dict(type="ConcatDataset", datasets=[config.train_dataloader.dataset, other])


def no_epochs(config):
    config.custom_hooks[0].by_epoch = True


def too_long(config):
    config.custom_hooks[0].schedule.end = 9


def too_short(config):
    config.custom_hooks[0].schedule.begin = 7


def late(config):
    config.custom_hooks[0].schedule = dict(type="steps", milestones=(8,), ratios=(0.5,))


def large_blocks(config):
    config.train_dataloader.dataset.pipeline[2].min_num_patches = 4
    config.custom_hooks[0].schedule.ratio = 0.1


@pytest.mark.parametrize(
    "change, message",
    [
        (without_masks, "has no mask generator of maskfeat's"),
        (cached_masks, "outside maskfeat.Cached"),
        (two_ratios, r"several mask ratios, \[0.2, 0.4\]"),
        (no_epochs, "by_epoch=True, but IterBasedTrainLoop counts no epochs"),
        (too_long, "schedule: begin=0 and end=9"),
        (too_short, "schedule: begin=7 and end=None"),
        (late, "go beyond the training's 8 steps"),
        (large_blocks, "min_num_patches=4 must lie between 1 and max_num_patches=2"),
    ],
)
def test_what_does_not_fit_the_training_is_said_before_it(cfg, change, message):
    config = cfg()
    change(config)
    with pytest.raises(ConfigError, match=f"MaskRatioHook: .*{message}"):
        build_trainer(config).train()


def test_visible_tokens_refuse_a_change_within_a_batch(cfg):
    config = cfg("efficient/maskfeat-visible_vit-tiny_moving-digits.py", **{"train_dataloader.num_workers": 2})
    config.custom_hooks = [dict(type="maskfeat.MaskRatioHook", schedule=dict(type="linear", ratio=0.8), by_epoch=False)]
    with pytest.raises(ConfigError, match="Set train_dataloader.num_workers=0"):
        build_trainer(config).train()


def test_configs_name_the_tools_own_hooks():
    for path in (IMAGES, CLIPS):
        assert Config.fromfile(CONFIGS / path).custom_hooks[0].type == "maskfeat.MaskRatioHook"
