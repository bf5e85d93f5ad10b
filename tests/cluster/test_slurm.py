"""Trainings in a real Slurm: two machines with two CPU processes each, and a third machine in reserve."""

import re
import subprocess
import sys

import pytest
from cluster_trainings import (
    EQUAL,
    LONG,
    STEPS,
    assert_equal_weights,
    assert_same_losses_and_weights,
    environment,
    variables,
    write_config,
)
from slurm import wait_for_text, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
TWO_BY_TWO = dict(GPUS="4", GPUS_PER_NODE="2", CPUS_PER_TASK="1", SRUN_ARGS="--gres=none")
RESOURCES = ["--partition=cpu", "--nodes=2", "--ntasks-per-node=2", "--cpus-per-task=1"]


def test_slurm_train_gives_the_loss_of_one_process(slurm, checkout, one_process, tmp_path):
    config = write_config(tmp_path, EQUAL, batch_size=2)
    arguments = ["cpu", "job", config, "--work-dir", tmp_path / "work"]
    out = slurm.run("tools/slurm_train.sh", *arguments, cwd=checkout, **variables(**TWO_BY_TWO))
    assert out.count("Iter(train) [2/2]") == 1  # one process writes the log
    assert_same_losses_and_weights(tmp_path / "work", one_process, 4)


def test_slurm_test_gives_the_metrics_of_one_process(slurm, checkout, tmp_path):
    config = "configs/demo/vit-tiny_moving-digits-class.py"
    changes = ["train_dataloader.batch_size=4", "param_scheduler=None", "train_cfg.max_iters=10"]
    changes += ["train_cfg.val_interval=10", "default_hooks.checkpoint.interval=10"]
    train = [sys.executable, "tools/train.py", config, "--work-dir", tmp_path / "work", "--cfg-options", *changes]
    subprocess.run(train, cwd=checkout, env=environment(), check=True, capture_output=True, timeout=300)
    checkpoint = tmp_path / "work" / "iter_10.pth"
    test = [sys.executable, "tools/test.py", config, checkpoint, "--work-dir", tmp_path / "one"]
    one = subprocess.run(test, cwd=checkout, env=environment(), check=True, capture_output=True, text=True).stdout
    arguments = ["cpu", "job", config, checkpoint, "--work-dir", tmp_path / "four"]
    four = slurm.run("tools/slurm_test.sh", *arguments, cwd=checkout, **variables(**TWO_BY_TWO))
    found = [re.findall(r"accuracy/top1: ([\d.]+)", out) for out in (one, four)]
    assert len(found[0]) == 1 and found[0] == found[1]


@pytest.fixture(scope="module")
def uninterrupted(slurm, checkout, tmp_path_factory):
    """Return the last checkpoint of a training that nothing interrupted."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    arguments = ["cpu", "job", write_config(folder, LONG), "--work-dir", folder / "work"]
    slurm.run("tools/slurm_train.sh", *arguments, cwd=checkout, **variables(**TWO_BY_TWO))
    return folder / "work" / f"iter_{STEPS}.pth"


@pytest.fixture
def submit(slurm, checkout, tmp_path):
    """Return a function that submits tools/slurm_job.sh with options of sbatch."""
    config = write_config(tmp_path, LONG)

    def call(*options, **more):
        command = ["sbatch", "--parsable", f"--output={tmp_path / 'log'}", *RESOURCES, *options, "tools/slurm_job.sh"]
        command += [config, "--work-dir", tmp_path / "work"]
        env = variables(SRUN_ARGS="--gres=none", **more)
        return int(slurm.run(*command, cwd=checkout, **env))

    return call


def test_scancel_saves_a_checkpoint_and_the_next_job_resumes(slurm, submit, uninterrupted, tmp_path):
    log = tmp_path / "log"
    job = submit(HOLD_FROM="4")
    wait_for_text(log, r"Iter\(train\) \[ *5/")
    slurm.run("scancel", job)
    slurm.wait(job, ("CANCELLED",), 60)
    wait_for_text(log, r"iter_(\d+)\.pth is saved", 60)
    last = int(re.search(r"iter_(\d+)\.pth is saved", log.read_text())[1])
    slurm.wait(submit(), ("COMPLETED",), 300)
    assert re.search(rf"Iter\(train\) \[ *{last + 1}/", log.read_text())
    assert log.read_text().count("Iter(train) [ 1/") == 1
    assert_equal_weights(tmp_path / "work" / f"iter_{STEPS}.pth", uninterrupted)


def test_time_limit_requeues_the_job(slurm, submit, uninterrupted, tmp_path):
    log = tmp_path / "log"
    # Slurm sends the signal up to a minute earlier
    job = submit("--time=3", "--signal=TERM@60", HOLD_FROM="4")
    wait_for_text(log, r"SIGTERM: .*iter_(\d+)\.pth is saved.*Exit status 75", 200)
    found = slurm.wait(job, ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED"), 400)
    assert found["JobState"] == "COMPLETED" and found["Restarts"] == "1", log.read_text()[-5000:]
    assert log.read_text().count("Iter(train) [ 1/") == 1
    assert_equal_weights(tmp_path / "work" / f"iter_{STEPS}.pth", uninterrupted)


def test_killed_process_of_a_step_ends_the_others(slurm, checkout, tmp_path):
    log, env = tmp_path / "log", slurm.env | variables(**TWO_BY_TWO, KILL="3:8")
    command = ["tools/slurm_train.sh", "cpu", "job", write_config(tmp_path, LONG), "--work-dir", tmp_path / "work"]
    srun = slurm.controller.start(*command, cwd=checkout, env=env, log=log)
    wait_until((tmp_path / "work" / "killed").exists, 300, lambda: log.read_text()[-5000:])
    assert srun.wait(90) > 128, log.read_text()[-5000:]  # the signal of the killed process, or of those that srun ended
    said = log.read_text()
    assert re.search(r"srun: error: node\d: task 3: Killed", said)
    assert re.search(r"error: process \d of 4 lost contact .*--resume", said), said[-5000:]
    wait_until(lambda: not slurm.run("squeue", "--noheader").strip(), 60, log)


def test_killed_process_requeues_the_job(slurm, submit, uninterrupted, tmp_path):
    log = tmp_path / "log"
    job = submit(KILL="3:8", MAX_RESTARTS="1")
    found = slurm.wait(job, ("COMPLETED", "FAILED", "CANCELLED"), 500)
    assert found["JobState"] == "COMPLETED" and found["Restarts"] == "1", log.read_text()[-5000:]
    assert (tmp_path / "work" / "killed").exists()
    assert log.read_text().count("Iter(train) [ 1/") == 1 and log.read_text().count("Iter(train) [ 7/") == 2
    assert_equal_weights(tmp_path / "work" / f"iter_{STEPS}.pth", uninterrupted)


@pytest.mark.parametrize("which", ["last", "first"])
def test_job_goes_on_after_a_machine_fails(slurm, submit, uninterrupted, tmp_path, which):
    log = tmp_path / "log"
    job = submit(HOLD_FROM="7")
    wait_for_text(log, r"Saving checkpoint at 6 iterations[\s\S]*Iter\(train\) \[ *7/")
    names = slurm.run("scontrol", "show", "hostnames", slurm.job(job)["NodeList"]).split()
    failed = next(node for node in slurm.workers if node.name == names[0 if which == "first" else -1])
    slurm.fail(failed)
    try:
        wait_until(lambda: slurm.job(job)["Restarts"] == "1", 300, lambda: slurm.job(job))
        found = slurm.wait(job, ("COMPLETED", "FAILED", "CANCELLED"), 400)
    finally:
        slurm.repair(failed)
    assert found["JobState"] == "COMPLETED", log.read_text()[-5000:]
    assert failed.name not in slurm.run("scontrol", "show", "hostnames", found["NodeList"]).split()
    assert log.read_text().count("Iter(train) [ 1/") == 1
    assert_equal_weights(tmp_path / "work" / f"iter_{STEPS}.pth", uninterrupted)
