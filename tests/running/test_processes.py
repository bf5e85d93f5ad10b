"""Several processes train and measure exactly like one process: real configs, forked processes, gloo."""

import fcntl
import itertools
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from warm_python import python

from maskfeat_plugin.apis import ConfigError, load_config
from maskfeat_plugin.running.distributed import (
    connect_processes,
    describe_lost_contact,
    launched_device,
    launched_share,
)

WORLDS = Path(__file__).with_name("worlds.py")
IMAGE, CLIP = "demo/maskfeat_vit-tiny_moving-digits.py", "demo/maskfeat_mvit-tiny_moving-digits.py"
SCALING = {"auto_scale_lr.enable": True, "auto_scale_lr.base_batch_size": 16}

# Trainings: config and settings, the number of samples per step, and the numbers of processes
AGREEING = dict(
    image=(dict(config=IMAGE, uneven=True), 8, (1, 2, 4)),
    clip=(dict(config=CLIP, uneven=True), 4, (1, 2)),
    self_teacher=(dict(config="targets/maskfeat-self-teacher_vit-tiny_moving-digits.py", uneven=True), 8, (1, 2)),
    two_targets=(dict(config="targets/maskfeat-pixel-hog_vit-tiny_moving-digits.py", uneven=True), 8, (1, 2)),
    visible=(dict(config="efficient/maskfeat-visible_vit-tiny_moving-digits.py"), 8, (1, 2)),
    scaled=(dict(config=IMAGE, options=SCALING), 8, (1, 4)),
    # batches of 4, 4 and 2 of 10 samples
    short_batch=(dict(config=IMAGE, uneven=True, samples=10), 4, (1, 2)),
)
# Fine-tunings: config, steps and metrics, chosen so that one of the values is neither 0 nor 100
EVALUATED = dict(
    digit=(
        "vit-tiny_moving-digits-class.py",
        30,
        {"test_evaluator.topk": [1, 2, 3, 5, 7], "test_dataloader.dataset.indices": 23},
    ),
    motion=("mvit-tiny_moving-digits-motion.py", 10, {}),
)
# Starts of two processes: the differences of the second, and the message, if there is one
DIFFERENT = dict(
    paths=(dict(changes={"work_dir": "/elsewhere", "train_dataloader.dataset.data_root": "/elsewhere/data"}), None),
    version=(dict(version="0.0.1"), r"maskfeat_plugin\.__version__ is 0\.0\.1 in process 1 on .*, but .* in process 0"),
    rate=(dict(changes={"optim_wrapper.optimizer.lr": 0.5}), r"optim_wrapper\.optimizer\.lr is 0\.5 in process 1 on "),
    key=(dict(changes={"custom_key": [1, 2]}), r"custom_key\[0\] is 1 in process 1 on .*, but no value in process 0"),
)
KILLED = [(2, 1), (2, 0), (4, 2)]  # (number of processes, the one that is killed)
AVA = "demo/mvit-tiny_moving-digits-ava.py"


def jobs(folder):
    """Return all trainings and tests, as jobs of :mod:`worlds`."""
    for name, (settings, samples, sizes) in AGREEING.items():
        options = {"train_cfg.max_iters": 2, **settings.get("options", {})}
        for size in sizes:
            yield f"{name}{size}", "train", size, dict(settings, batch_size=samples // size, options=options)
    for size in 1, 2:
        options = {"train_cfg.max_iters": 4, "optim_wrapper.accumulative_counts": 2, **SCALING}
        yield f"accumulated{size}", "train", size, dict(config=IMAGE, batch_size=4 // size, options=options)
    # 9 samples are not divisible by 2, so the first one is used twice
    yield "padded", "train", 2, dict(config=IMAGE, batch_size=2, samples=9)
    options = {"train_dataloader.sampler.round_up": False}
    yield "refused", "refused", 2, dict(config=IMAGE, batch_size=1, samples=9, options=options)
    options = {"optim_wrapper.accumulative_counts": 0, **SCALING}
    yield "no_batches", "refused", 1, dict(config=IMAGE, batch_size=1, options=options)
    yield "absent", "absent", 2, dict(config=IMAGE, batch_size=2, rank=1)
    for name, (settings, _) in DIFFERENT.items():
        yield f"different_{name}", "different", 2, settings
    for workers in 0, 2:
        yield f"masks{workers}", "masks", 2, dict(config=IMAGE, batch_size=4, workers=workers)
    options = {"randomness.diff_rank_seed": False}
    yield "same_masks", "masks", 2, dict(config=IMAGE, batch_size=4, workers=0, options=options)
    for size, rank in KILLED:
        yield f"killed{rank}of{size}", "killed", size, dict(config=IMAGE, batch_size=2, rank=rank)
    for name, (config, steps, options) in EVALUATED.items():
        config = f"demo/{config}"
        yield f"{name}_training", "finetune", 1, dict(config=config, steps=steps)
        checkpoint = str(folder / f"{name}_training" / f"iter_{steps}.pth")
        for size in 1, 3:
            yield f"{name}{size}", "test", size, dict(config=config, checkpoint=checkpoint, options=options)
    for size in 1, 3:
        yield f"ava{size}", "test", size, dict(config=AVA)
        yield f"watched{size}", "watched", size, dict(config=IMAGE, labelled="demo/vit-tiny_moving-digits-class.py")


@pytest.fixture(scope="module")
def found(digits, tmp_path_factory):
    """Return a function: ``found(name, rank)`` gives the result of process ``rank`` of a job."""
    # the workers of pytest-xdist share the results of one worker
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    folder = shared / "worlds"
    with open(shared / "worlds.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            folder.mkdir()
            run_jobs(folder, digits)
            (folder / "done").touch()
    return lambda name, rank=0: torch.load(folder / f"{name}.{rank}.pth", weights_only=True)


def run_jobs(folder, digits):
    (folder / "jobs.json").write_text(json.dumps(list(jobs(folder))))
    command = [python(), "-W", "ignore", WORLDS, folder / "jobs.json", folder]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=digits, env=env, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-5000:]


def mean_losses(found, name, size):
    """Compute the loss of each batch, averaged over the processes, as their gradients are."""
    return torch.tensor([found(name, rank)["losses"] for rank in range(size)]).mean(0)


def assert_same_training(ours, theirs):
    assert len(ours["steps"]) == len(theirs["steps"]) >= 2
    for ours_step, theirs_step in zip(ours["steps"], theirs["steps"], strict=True):
        assert ours_step["lr"] == theirs_step["lr"]
        torch.testing.assert_close(ours_step["gradients"], theirs_step["gradients"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours["weights"], theirs["weights"], rtol=1e-5, atol=1e-6)


PAIRS = [(name, size) for name, (_, _, sizes) in AGREEING.items() for size in sizes[1:]]


@pytest.mark.parametrize("name, size", PAIRS, ids=[f"{name}-{size}" for name, size in PAIRS])
def test_loss_gradients_and_weights_are_those_of_one_process(found, name, size):
    one = found(f"{name}1")
    torch.testing.assert_close(mean_losses(found, f"{name}{size}", size), torch.tensor(one["losses"]))
    for rank in range(size):
        assert_same_training(found(f"{name}{size}", rank), one)
    # the processes do not see the same data: the loss of each process alone is different
    assert found(f"{name}{size}")["losses"][0] != pytest.approx(one["losses"][0], rel=1e-5)


@pytest.mark.parametrize("size", [2, 4])
def test_the_mean_over_processes_of_their_means_is_another(found, size):
    """The processes have different numbers of masked tokens, so their weights in the mean matter."""
    one, several = found("image1"), [found(f"image{size}", rank) for rank in range(size)]
    tokens = [process["tokens"][0] for process in several]
    assert len(set(tokens)) > 1 and sum(tokens) == one["tokens"][0]
    # the loss of a process is the sum over its tokens, divided by the mean number of tokens of all
    sums = [process["losses"][0] * sum(tokens) / size for process in several]
    means = [total / count for total, count in zip(sums, tokens, strict=True)]
    assert sum(sums) / sum(tokens) == pytest.approx(one["losses"][0], rel=1e-5)
    assert sum(means) / size != pytest.approx(one["losses"][0], rel=1e-4)


@pytest.mark.parametrize("size", [1, 2])
def test_accumulated_batches_are_one_large_batch(found, size):
    assert_same_training(found(f"accumulated{size}"), found("scaled1"))
    losses = mean_losses(found, f"accumulated{size}", size).reshape(2, 2).mean(1)
    torch.testing.assert_close(losses, torch.tensor(found("scaled1")["losses"]))


@pytest.mark.parametrize("name", ["scaled1", "scaled4", "accumulated1", "accumulated2"])
def test_rate_follows_the_samples_of_a_step(found, name):
    """A step has 8 samples, and the learning rate is set for 16, with any number of processes and batches."""
    assert [step["lr"] for step in found(name)["steps"]] == pytest.approx([0.05, 0.05])


def test_a_step_of_no_batches_is_refused(found):
    assert found("no_batches") == "optim_wrapper.accumulative_counts=0 has to be a positive whole number."


def test_samples_that_do_not_divide(found):
    ours, theirs = found("padded"), found("padded", 1)
    assert len(ours["steps"]) == len(theirs["steps"]) == 3  # 2 and 2, 2 and 2, 1 and 1
    torch.testing.assert_close(ours["weights"], theirs["weights"], rtol=0, atol=0)
    for rank in 0, 1:
        assert "between 4 and 5 batches" in found("refused", rank) and "round_up=True" in found("refused", rank)


def test_a_checkpoint_that_one_machine_lacks_is_refused_by_all(found):
    assert found("absent", 0) == found("absent", 1)
    assert re.fullmatch(r"load_from: process 1: .*absent.pth.*", found("absent", 0))


@pytest.mark.parametrize("name", DIFFERENT)
def test_processes_with_another_version_or_config_are_refused(found, name):
    said, message = found(f"different_{name}"), DIFFERENT[name][1]
    assert said == found(f"different_{name}", 1)
    if message is None:
        assert said is None
    else:
        assert re.match(message, said) and said.endswith("config and options." if name != "version" else "plugin.")


@pytest.mark.parametrize("workers", [0, 2])
def test_processes_draw_different_masks(found, workers):
    ours, theirs = found(f"masks{workers}"), found(f"masks{workers}", 1)
    assert not {path for path, _ in ours} & {path for path, _ in theirs}
    assert all(not torch.equal(a, b) for (_, a), (_, b) in zip(ours, theirs, strict=True))
    assert all(not torch.equal(a, b) for (_, a), (_, b) in itertools.combinations(ours, 2))


def test_masks_are_the_same_where_the_config_says_so(found):
    ours, theirs = found("same_masks"), found("same_masks", 1)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", [*EVALUATED, "ava"])
def test_metrics_are_those_of_one_process(found, name):
    """There are 8 or 23 samples on 3 processes: one sample is given out twice, and counted once."""
    one = found(f"{name}1")
    for rank in range(3):
        assert found(f"{name}3", rank) == pytest.approx(one, nan_ok=True)
    assert any(0 < value < 100 and value != 1 for value in one.values())


def test_knn_is_that_of_one_process(found):
    one = found("watched1")["knn"]
    assert one and any(0 < value < 100 for value in one.values())
    for rank in range(3):
        assert found("watched3", rank)["knn"] == pytest.approx(one)


def test_only_the_first_process_writes(found):
    names = {Path(file).name for file in found("watched3")["written"]}
    assert {"iter_2.pth", "last_checkpoint", "scalars.json", "maskfeat_vit-tiny_moving-digits.py"} <= names
    assert found("watched3", 1)["written"] == found("watched3", 2)["written"] == []


@pytest.mark.parametrize("size, dead", KILLED)
def test_when_one_is_killed_the_others_stop_and_say_so(found, size, dead):
    """Only the lost connection tells the other processes, because no launcher watches them."""
    for rank in set(range(size)) - {dead}:
        process = found(f"killed{dead}of{size}", rank)
        assert process["status"] == 1
        (said,) = [line for line in process["said"].splitlines() if line.startswith("error:")]
        assert f"process {rank} of {size} lost contact" in said and "--resume" in said
        assert "Traceback" not in process["said"]
        assert process["seconds"] < 60


@pytest.mark.parametrize(
    "launcher, names",
    [
        ("pytorch", ("RANK", "LOCAL_RANK", "WORLD_SIZE")),
        ("slurm", ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS")),
        ("mpi", ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE")),
    ],
)
def test_share_and_device_of_processes_that_are_not_connected(launcher, names, monkeypatch):
    for name, own, value in zip(names, ("RANK", "LOCAL_RANK", "WORLD_SIZE"), ("5", "99", "8"), strict=True):
        monkeypatch.setenv(own, "0")  # restored afterwards
        monkeypatch.setenv(name, value)
    assert launched_share(launcher) == (5, 8) and launched_share("none") == (0, 1)
    assert launched_device(launcher, "cpu") == "cpu" and launched_device("none", "cuda") == "cuda"
    with pytest.raises(ConfigError, match="process 99 of this machine"):
        launched_device(launcher, "cuda")


@pytest.mark.parametrize("launcher, variable", [("pytorch", "RANK"), ("slurm", "SLURM_PROCID"), ("mpi", "OMPI_COMM")])
def test_a_process_that_nobody_launched(launcher, variable, monkeypatch):
    for name in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"):
        monkeypatch.delenv(name, raising=False)
    cfg = load_config(WORLDS.parents[2] / "configs" / IMAGE, launcher=launcher)
    with pytest.raises(ConfigError, match=f"--launcher {launcher} is for .* which sets {variable}"):
        connect_processes(cfg)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(timeout="soon"), "env_cfg.dist_cfg.timeout='soon' has to be a number"),
        (dict(timeout=0), "timeout=0"),
        (dict(backend="mpi"), "env_cfg.dist_cfg.backend='mpi' is not in this torch"),
    ],
)
def test_settings_that_do_not_work(settings, message, monkeypatch):
    for name, value in dict(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1").items():
        monkeypatch.setenv(name, value)
    cfg = Config(dict(launcher="pytorch", env_cfg=dict(dist_cfg=settings)))
    with pytest.raises(ConfigError, match=message):
        connect_processes(cfg)


def test_mpirun_on_several_machines_needs_an_address(monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    for name, value in dict(RANK="3", LOCAL_RANK="1", SIZE="4", LOCAL_SIZE="2").items():
        monkeypatch.setenv(f"OMPI_COMM_WORLD_{name}", value)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "")  # restored afterwards
    with pytest.raises(ConfigError, match="MASTER_ADDR"):
        connect_processes(Config(dict(launcher="mpi")))


def test_an_error_of_one_process_is_no_lost_contact():
    assert describe_lost_contact(RuntimeError("shapes cannot be multiplied")) is None
