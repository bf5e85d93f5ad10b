"""A training that is interrupted in any way at any moment, and resumed, has the weights of an uninterrupted one."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from long_variants import long_except

from maskfeat_plugin.checkpoints import load_file

CONFIGS = Path(__file__).parents[2] / "configs"

# All parts that have a state: a moving average, drop path, random crops and masks, schedules, the mask ratio
COMMON = """
_base_ = "CONFIGS/targets/maskfeat-self-teacher_vit-tiny_moving-digits.py"
model = dict(backbone=dict(drop_path_rate=0.2))
experiment_name = "interrupted"
env_cfg = dict(mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0))
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
"""
BY_ITERATION = (
    COMMON
    + """
train_dataloader = dict(batch_size=3, num_workers=0)
train_cfg = dict(max_iters=ITERATIONS)
param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=False, T_max=ITERATIONS)]
default_hooks = dict(checkpoint=dict(interval=INTERVAL, save_optimizer=True, max_keep_ckpts=2))
schedule = dict(type="linear", ratio=0.6)
custom_hooks = [dict(type="maskfeat.MaskRatioHook", by_epoch=False, schedule=schedule), *EXTRA]
"""
)
# 32 images: 5 steps per epoch
BY_EPOCH = (
    COMMON
    + """
train_dataloader = dict(
    batch_size=7,
    num_workers=WORKERS,
    persistent_workers=False,
    sampler=dict(_delete_=True, type="DefaultSampler", shuffle=True),
    dataset=dict(indices=32),
)
train_cfg = dict(_delete_=True, type="maskfeat.EpochBasedTrainLoop", max_epochs=EPOCHS)
param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=True, T_max=EPOCHS)]
default_hooks = dict(
    checkpoint=dict(_delete_=True, type="maskfeat.CheckpointHook", INTERVAL, max_keep_ckpts=2),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
log_processor = dict(by_epoch=True)
custom_hooks = [dict(type="maskfeat.MaskRatioHook", schedule=dict(type="linear", ratio=0.6)), *EXTRA]
"""
)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a config with additional hooks, and returns the settings of its training."""

    def job(text, work_dir, hooks=(), **values):
        for name, value in dict(values, CONFIGS=CONFIGS, EXTRA=list(hooks)).items():
            text = text.replace(name, str(value))
        number = len(list(tmp_path.glob("*.py")))
        path = tmp_path / f"config_{number}.py"
        path.write_text(text)
        return dict(
            config=str(path), work_dir=str(tmp_path / work_dir), options={}, output=str(tmp_path / f"{work_dir}.txt")
        )

    return job


def said(job):
    return Path(job["output"]).read_text()


def newest(job):
    """Return the iterations of the last checkpoint, from the name in mmengine's file."""
    file = Path(job["work_dir"], "last_checkpoint")
    return load_file(Path(file.read_text()))["meta"]["iter"] if file.exists() else 0


def assert_same_weights(ours, theirs):
    """Check that weights and optimizer state are bitwise equal."""
    ours, theirs = (load_file(Path(path)) for path in (ours, theirs))
    assert ours["meta"]["iter"] == theirs["meta"]["iter"]
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    assert all(torch.equal(ours["state_dict"][name], value) for name, value in theirs["state_dict"].items())
    for state, other in zip(ours["optimizer"]["state"].values(), theirs["optimizer"]["state"].values(), strict=True):
        assert all(torch.equal(state[key], other[key]) for key in other)
    assert ours["optimizer"]["param_groups"] == theirs["optimizer"]["param_groups"]


def signalled(iteration, **settings):
    return dict(type="maskfeat.SignalInTest", iteration=iteration, **settings)


def kill(iteration, at="step"):
    return dict(type="maskfeat.KillInTest", iteration=iteration, at=at)


ITERATED = dict(text=BY_ITERATION, ITERATIONS=12, INTERVAL=3)
# two views of each frame, and a second moving average with its own heads
CONTRAST = dict(
    ITERATED, text=BY_ITERATION.replace("targets/maskfeat-self-teacher_vit-tiny", "contrast/maskfeat-moco_vit-tiny")
)
EPOCHS = dict(text=BY_EPOCH, EPOCHS=3, WORKERS=2, INTERVAL="interval=1")


@pytest.mark.parametrize(
    "settings, kills, last",
    long_except(
        [
            (ITERATED, [(5, "step"), (6, "half"), (9, "written")], "iter_12.pth"),
            (EPOCHS, [(3, "step"), (5, "begun"), (9, "step")], "epoch_3.pth"),
            (CONTRAST, [(5, "step"), (6, "half")], "iter_12.pth"),
        ],
        1,
    ),
    ids=["iterations", "epochs", "contrast"],
)
def test_killed_training_ends_with_the_same_weights(trainings, write, settings, kills, last):
    whole = write(work_dir="whole", **settings)
    assert trainings.run(**whole) == 0, said(whole)
    for kill_at in kills:
        job = write(work_dir="parts", hooks=[kill(*kill_at)], **settings)
        assert trainings.run(**job, resume="auto") == -signal.SIGKILL, said(job)
    job = write(work_dir="parts", **settings)
    assert trainings.run(**job, resume="auto") == 0, said(job)
    assert_same_weights(Path(job["work_dir"], last), Path(whole["work_dir"], last))
    assert not list(Path(job["work_dir"]).glob(".*.unfinished"))


@pytest.mark.parametrize(
    "settings, hook, saved, last",
    long_except(
        [
            (ITERATED, signalled(5), 5, "iter_12.pth"),
            # in the middle of an epoch; the signal also goes to the workers, which would end
            (EPOCHS, signalled(8, group=True), 8, "epoch_3.pth"),
            # the last step of an epoch that is not finished yet
            (EPOCHS, signalled(5), 5, "epoch_3.pth"),
        ],
        1,
    ),
    ids=["iterations", "epochs", "last_of_epoch"],
)
def test_sigterm_saves_at_the_step_and_asks_to_be_started_again(trainings, write, settings, hook, saved, last):
    whole = write(work_dir="whole", **settings)
    assert trainings.run(**whole) == 0, said(whole)
    job = write(work_dir="parts", hooks=[hook], **settings)
    assert trainings.run(**job) == 75, said(job)
    assert "SIGTERM" in said(job) and "--resume goes on from there" in said(job)
    folder = Path(job["work_dir"])
    assert newest(job) == saved and (folder / f"iter_{saved}.pth").exists()
    job = write(work_dir="parts", **settings)
    assert trainings.run(**job, resume="auto") == 0, said(job)
    assert_same_weights(folder / last, Path(whole["work_dir"], last))
    regular = {f"iter_{i}.pth" for i in (9, 12)} if settings is ITERATED else {"epoch_2.pth", "epoch_3.pth"}
    assert {path.name for path in folder.glob("*.pth")} == regular  # the extra checkpoint has been removed


VALIDATED = """
_base_ = "CONFIGS/demo/vit-tiny_moving-digits-class.py"
model = dict(backbone=dict(drop_path_rate=0.2))
experiment_name = "validated"
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
train_dataloader = dict(batch_size=3)
val_dataloader = dict(batch_size=2, num_workers=1, persistent_workers=False)
train_cfg = dict(max_iters=6, val_interval=2)
param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=False, T_max=6)]
default_hooks = dict(checkpoint=dict(interval=6, save_optimizer=True, save_best="accuracy/top1"))
custom_hooks = EXTRA
"""


def test_sigterm_in_an_evaluation(trainings, write):
    whole = write(VALIDATED, work_dir="whole")
    assert trainings.run(**whole) == 0, said(whole)
    job = write(VALIDATED, work_dir="parts", hooks=[signalled(4, group=True, in_val=True)])
    assert trainings.run(**job) == 75, said(job)
    assert newest(job) == 4 and not Path(job["work_dir"], "iter_6.pth").exists()
    job = write(VALIDATED, work_dir="parts")
    assert trainings.run(**job, resume="auto") == 0, said(job)
    assert_same_weights(Path(job["work_dir"], "iter_6.pth"), Path(whole["work_dir"], "iter_6.pth"))


@pytest.mark.long
def test_sigterm_waits_for_an_accumulated_step(trainings, write):
    settings = dict(ITERATED, INTERVAL=4)
    whole, job = write(work_dir="whole", **settings), write(work_dir="parts", hooks=[signalled(5)], **settings)
    options = {"optim_wrapper.accumulative_counts": 3}
    assert trainings.run(**{**whole, "options": options}) == 0, said(whole)
    assert trainings.run(**{**job, "options": options}) == 75, said(job)
    assert newest(job) == 6
    job = write(work_dir="parts", **settings)
    assert trainings.run(**{**job, "options": options}, resume="auto") == 0, said(job)
    assert_same_weights(Path(job["work_dir"], "iter_12.pth"), Path(whole["work_dir"], "iter_12.pth"))


@pytest.mark.long
def test_sigterm_to_one_of_two_processes_ends_both_at_one_step(trainings, write):
    whole = write(work_dir="whole", **EPOCHS)
    assert trainings.run(**whole, processes=2) == [0, 0], said(whole)
    job = write(work_dir="parts", hooks=[signalled(4, rank=1)], **EPOCHS)
    assert trainings.run(**job, processes=2) == [75, 75], said(job)
    assert newest(job) == 4
    job = write(work_dir="parts", **EPOCHS)
    assert trainings.run(**job, processes=2, resume="auto") == [0, 0], said(job)
    assert_same_weights(Path(job["work_dir"], "epoch_3.pth"), Path(whole["work_dir"], "epoch_3.pth"))


@pytest.mark.long
@pytest.mark.parametrize(
    "settings, interval, last",
    [
        (dict(ITERATED, ITERATIONS=120), 3, "iter_120.pth"),
        (dict(EPOCHS, EPOCHS=24), 5, "epoch_24.pth"),
    ],
    ids=["iterations", "epochs"],
)
def test_twenty_kills(trainings, write, settings, interval, last):
    """Kills are at random moments with a seed: within a step, while a checkpoint is written, and after some time."""
    whole = write(work_dir="whole", **settings)
    begin = time.monotonic()
    assert trainings.run(**whole) == 0, said(whole)
    seconds = time.monotonic() - begin
    rng = random.Random(0)
    moments = rng.sample(["step"] * 10 + ["clock"] * 4 + ["begun", "half", "written"] * 2, 20)
    reached = []
    for at in moments:
        reached.append(newest(write(work_dir="parts", **settings)))
        if at == "step":
            iteration = reached[-1] + rng.randint(1, 3 * interval)
        elif at == "clock":
            iteration = reached[-1] + 10  # if the timer was late
        else:
            iteration = reached[-1] + interval
        job = write(work_dir="parts", hooks=[kill(iteration, "step" if at == "clock" else at)], **settings)
        process = trainings.start(**job, resume="auto")
        if at == "clock":
            time.sleep(rng.uniform(0, seconds / 3))
            try:
                os.killpg(process, signal.SIGKILL)
            except ProcessLookupError:  # the timer was late, and the training has ended
                pass
        assert trainings.wait() == -signal.SIGKILL, said(job)
    assert len(set(reached)) > 5  # the kills hit many places
    job = write(work_dir="parts", **settings)
    assert trainings.run(**job, resume="auto") == 0, said(job)
    assert_same_weights(Path(job["work_dir"], last), Path(whole["work_dir"], last))
