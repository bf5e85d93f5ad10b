"""Schedules that are longer than the training: shortened, or named in the log, without a crash."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from maskfeat_plugin.apis import build_trainer, load_config, train
from maskfeat_plugin.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
FOLDER = """
_base_ = [
    "CONFIGS/_base_/models/maskfeat_vit-tiny-p16.py",
    "CONFIGS/_base_/datasets/folder_images.py",
    "CONFIGS/_base_/schedules/folder_pretrain.py",
    "CONFIGS/_base_/default_runtime.py",
]
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(data_root="DATA"))
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=100, save_last=False))
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Return a config for a plain folder of six images: three iterations per epoch."""
    folder = tmp_path_factory.mktemp("folder")
    (folder / "data").mkdir()
    for i in range(6):
        cv2.imwrite(str(folder / "data" / f"{i}.png"), np.full((32, 32, 3), 40 * i, np.uint8))
    config = folder / "images.py"
    config.write_text(FOLDER.replace("CONFIGS", str(CONFIGS)).replace("DATA", str(folder / "data")))
    return config


def rates(config, work_dir, **options):
    """Train. Return the learning rate of each iteration, as a share of the full one, and the log."""
    cfg = load_config(str(config), str(work_dir), options)
    cfg.experiment_name = work_dir.name
    train(build_trainer(cfg))
    lines = next(work_dir.glob("*/vis_data/scalars.json")).read_text().splitlines()
    log = next(work_dir.glob("*/*.log")).read_text()
    return [json.loads(line)["lr"] / cfg.optim_wrapper.optimizer.lr for line in lines], log


@pytest.mark.parametrize("epochs", range(1, 7))
def test_fewer_epochs_than_the_warm_up(images, tmp_path, epochs):
    lr, log = rates(images, tmp_path, **{"train_cfg.max_epochs": epochs})
    assert len(lr) == 3 * epochs
    warm_up = 15 if epochs == 6 else round(1.5 * epochs)  # 5 epochs of three iterations, or half of the training
    assert lr[0] == pytest.approx(0.01) and lr[warm_up - 1] == pytest.approx(1)
    assert lr[warm_up:] == sorted(lr[warm_up:], reverse=True) and (epochs == 1 or lr[-1] < 0.6)
    assert ("param_scheduler: its last part would begin" in log) == (epochs < 6)


def test_too_few_iterations_for_any_schedule(images, tmp_path):
    lr, log = rates(images, tmp_path, **{"train_cfg.max_epochs": 1, "train_dataloader.batch_size": 6})
    assert lr == [1] and "is left out" in log


@pytest.mark.parametrize(
    "kind, length, warm_up",
    [
        ("EpochBasedTrainLoop", dict(max_epochs=2), 3),
        ("maskfeat.IterBasedTrainLoop", dict(max_iters=7), 4),
        ("maskfeat.IterBasedTrainLoop", dict(max_iters=20), 15),  # the warm-up of five epochs fits
    ],
)
def test_other_loops(images, tmp_path, kind, length, warm_up):
    lr, _ = rates(images, tmp_path, train_cfg=dict(_delete_=True, type=kind, **length))
    assert lr[warm_up - 1] == pytest.approx(1) and lr[-1] < 0.6


@pytest.mark.parametrize("config", ["maskfeat_vit-tiny_moving-digits", "mvit-tiny_moving-digits-motion"])
def test_fewer_iterations_than_the_warm_up_of_a_fixed_schedule(digits, tmp_path, monkeypatch, config):
    """The decay has its own length, ``T_max``, so it is refused."""
    monkeypatch.chdir(digits)
    begin = 200 if config.startswith("maskfeat") else 50
    advice = (
        rf"param_scheduler\[1\].*train_cfg \(max_iters={begin}.*Set train_cfg.max_iters above {begin}, or begin and"
    )
    with pytest.raises(ConfigError, match=advice):
        rates(CONFIGS / f"demo/{config}.py", tmp_path, **{"train_cfg.max_iters": begin})


@pytest.mark.parametrize(
    "schedule, named",
    [
        (
            "mvit_pretrain_300e",
            "param_scheduler[1] (CosineAnnealingLR) begins at epoch 10, and the training ends at epoch 2",
        ),
        (
            "vit_detection_100e",
            "param_scheduler[0] (LinearLR) ends at iteration 250, and the training ends at iteration 6",
        ),
    ],
)
def test_a_schedule_with_ends_of_its_own_is_kept_and_named(images, tmp_path, schedule, named):
    parts = Config.fromfile(CONFIGS / "_base_/schedules" / f"{schedule}.py").param_scheduler
    lr, log = rates(images, tmp_path, **{"train_cfg.max_epochs": 2, "param_scheduler": list(parts)})
    assert named in log and "its last part" not in log and lr == sorted(lr) and lr[-1] < 0.3


def test_all_parts_are_shortened(images, tmp_path):
    steps = [
        dict(type="LinearLR", start_factor=0.5, end=6),
        dict(type="MultiStepLR", begin=6, end=12, milestones=[3], gamma=0.1),
        dict(type="PolyLR", begin=12),
    ]
    lr, log = rates(images, tmp_path, **{"train_cfg.max_epochs": 8, "param_scheduler": steps})
    assert lr[::3] == pytest.approx([0.5, 1, 1, 0.1, 0.1, 0.1 * 2 / 3, 0.1 / 3, 0]) and "is shortened" in log
