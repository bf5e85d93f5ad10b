"""Tests of tools/dist_train.sh and the other launchers without a GPU, also if one of the processes dies."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "demo" / "maskfeat_vit-tiny_moving-digits.py"
ENDLESS = ["train_cfg.max_iters=1000000", "default_hooks.checkpoint.interval=5"]
# Imitation of mpirun and srun. It starts the processes with the variables that the real programs set.
STARTER = """#!{python}
import os, subprocess, sys
size, command = {size}, sys.argv[sys.argv.index("python"):]
names = {names}
processes = [
    subprocess.Popen(command, env={{**os.environ, **{{n: v.format(rank=r, size=size) for n, v in names.items()}}}})
    for r in range(size)
]
sys.exit(max(process.wait() for process in processes))
"""
SLURM = dict(SLURM_PROCID="{rank}", SLURM_LOCALID="{rank}", SLURM_NTASKS="{size}", SLURM_NODELIST="node[1-1]")
OPEN_MPI = {
    f"OMPI_COMM_WORLD_{name}": value
    for name, value in dict(RANK="{rank}", LOCAL_RANK="{rank}", SIZE="{size}", LOCAL_SIZE="{size}").items()
}


@pytest.fixture
def environment(tmp_path):
    """Return the environment of a machine without a GPU, which also finds programs in ``tmp_path``."""
    folders = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": folders, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def put_program(folder, name, text):
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def options(*changes):
    small = ["train_dataloader.batch_size=4", "param_scheduler=None", "default_hooks.logger.interval=1"]
    return ["--cfg-options", *small, *changes]


class Training:
    """Training that a launcher runs in parallel to the test."""

    def __init__(self, command, cwd, env, log):
        self.log = log
        with open(log, "w") as file:
            self.launcher = subprocess.Popen(
                command, cwd=cwd, env=env, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait_for(self, text, timeout=300):
        """Wait until the log matches ``text``."""
        end = time.monotonic() + timeout
        while not re.search(text, self.log.read_text()):
            assert self.launcher.poll() is None and time.monotonic() < end, self.log.read_text()[-5000:]
            time.sleep(0.1)

    def processes(self):
        """Return rank -> process id of the processes that the launcher started."""
        found = {}
        children = Path(f"/proc/{self.launcher.pid}/task/{self.launcher.pid}/children").read_text().split()
        for child in children:
            variables = Path(f"/proc/{child}/environ").read_text().split("\0")
            found |= {int(v.removeprefix("RANK=")): int(child) for v in variables if v.startswith("RANK=")}
        return found

    def kill(self, rank, how):
        os.kill(self.processes()[rank], how)

    def end(self, timeout):
        """Wait for the end, and return exit status, log and waiting time.

        Raises:
            TimeoutExpired: If the training hangs.
        """
        start = time.monotonic()
        status = self.launcher.wait(timeout)
        return status, self.log.read_text(), time.monotonic() - start

    def clear(self):
        """End all processes."""
        try:
            os.killpg(self.launcher.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.launcher.wait()


@pytest.fixture
def start(digits, tmp_path, environment):
    """Function that starts ``tools/dist_train.sh`` on the demo's config with a number of processes."""
    started = []

    def call(size, *arguments):
        command = [ROOT / "tools" / "dist_train.sh", CONFIG, str(size), "--work-dir", tmp_path / "work", *arguments]
        started.append(Training(command, digits, environment, tmp_path / f"{len(started)}.log"))
        return started[-1]

    yield call
    for training in started:
        training.clear()


def is_gone(process):
    """Return whether a process has ended, or is a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_one_process_is_killed(start, tmp_path):
    training = start(2, *options(*ENDLESS, "env_cfg.dist_cfg.backend=nccl"))
    training.wait_for(r"Saving checkpoint at 5 iterations[\s\S]*Iter\(train\) \[ *7/")
    processes = training.processes()
    assert sorted(processes) == [0, 1]
    training.kill(1, signal.SIGKILL)
    status, log, _ = training.end(timeout=60)
    assert status != 0
    assert log.count("connected by gloo, not by nccl") == 1
    # the launcher names the process and its exit status
    assert re.search(r"rank +: 1 .*\n.*exitcode +: -9 .*SIGKILL", log)
    assert "[rank0]: Traceback" not in log
    assert all(is_gone(process) for process in processes.values())
    checkpoint = torch.load(next((tmp_path / "work").glob("iter_*.pth")), weights_only=True)
    assert checkpoint["meta"]["iter"] % 5 == 0


@pytest.mark.long
def test_one_of_four_is_killed_and_training_resumes(start, tmp_path):
    training = start(4, *options(*ENDLESS))
    training.wait_for(r"Saving checkpoint at 5 iterations[\s\S]*Iter\(train\) \[ *7/")
    processes = training.processes()
    training.kill(0, signal.SIGKILL)
    status, log, _ = training.end(timeout=60)
    assert status != 0 and re.search(r"rank +: 0 .*\n.*exitcode +: -9 .*SIGKILL", log)
    assert all(is_gone(process) for process in processes.values())
    last = max(int(file.stem.removeprefix("iter_")) for file in (tmp_path / "work").glob("iter_*.pth"))

    again = start(4, "--resume", *options(f"train_cfg.max_iters={last + 2}", ENDLESS[1]))
    status, log, _ = again.end(timeout=300)
    assert status == 0, log[-5000:]
    assert re.search(rf"Iter\(train\) \[ *{last + 1}/{last + 2}\]", log) and not re.search(r"Iter\(train\) \[ *1/", log)


@pytest.mark.long
def test_one_process_hangs(start):
    """Stop one process. The others wait for the config's timeout, and the launcher waits 30 seconds more."""
    training = start(2, *options(*ENDLESS, "env_cfg.dist_cfg.timeout=10"))
    training.wait_for(r"Iter\(train\) \[ *3/")
    processes = training.processes()
    training.kill(1, signal.SIGSTOP)
    status, log, seconds = training.end(timeout=100)
    assert status != 0 and 5 < seconds < 70, seconds
    assert re.search(r"error: process 0 of 2 lost contact .*Timed out.*--resume", log), log[-5000:]
    assert all(is_gone(process) for process in processes.values())


@pytest.mark.long
@pytest.mark.parametrize("launcher, names", [("slurm", SLURM), ("mpi", OPEN_MPI)])
def test_other_launchers(launcher, names, digits, tmp_path, environment):
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK"):
        environment.pop(name, None)
    arguments = ["--work-dir", tmp_path / "work", *options("train_cfg.max_iters=2")]
    starter = STARTER.format(python=sys.executable, size=2, names=names)
    if launcher == "slurm":
        put_program(tmp_path, "srun", starter)
        put_program(tmp_path, "scontrol", "#!/bin/sh\necho localhost\n")
        command = [ROOT / "tools" / "slurm_train.sh", "partition", "job", CONFIG, *arguments]
    else:
        put_program(tmp_path, "mpirun", starter)
        environment["MASTER_PORT"] = "29517"
        command = ["mpirun", "python", ROOT / "tools" / "train.py", CONFIG, "--launcher", "mpi", *arguments]
    done = subprocess.run(command, cwd=digits, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-5000:]
    assert done.stdout.count("Iter(train) [2/2]") == 1  # one process writes the log
    assert len(list((tmp_path / "work").glob("*/*.log"))) == 1
    assert (tmp_path / "work" / "iter_2.pth").exists()


@pytest.mark.long
def test_dist_test_gives_what_one_process_does(digits, tmp_path, environment):
    config = ROOT / "configs" / "demo" / "vit-tiny_moving-digits-class.py"
    train = [sys.executable, ROOT / "tools" / "train.py", config, "--work-dir", tmp_path / "work"]
    settings = options("train_cfg.max_iters=10", "train_cfg.val_interval=10", "default_hooks.checkpoint.interval=10")
    subprocess.run([*train, *settings], cwd=digits, env=environment, check=True, capture_output=True)
    checkpoint = tmp_path / "work" / "iter_10.pth"
    found = []
    for command in (
        [sys.executable, ROOT / "tools" / "test.py", config, checkpoint],
        [ROOT / "tools" / "dist_test.sh", config, checkpoint, "3"],
    ):
        done = subprocess.run(
            [*command, "--work-dir", tmp_path / "tested"], cwd=digits, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-5000:]
        found.append(re.findall(r"accuracy/top1: ([\d.]+)", done.stdout))
    assert len(found[0]) == 1 and found[0] == found[1]


def test_an_error_in_the_config_is_said_once(digits, tmp_path, environment):
    command = [ROOT / "tools" / "dist_train.sh", CONFIG, "2", "--work-dir", tmp_path / "work"]
    command += options("train_dataloader.dataset.ann_file=missing.txt")
    done = subprocess.run(command, cwd=digits, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    (said,) = re.findall(r"^error: .*", done.stderr, re.MULTILINE)
    assert "train_dataloader.dataset.ann_file='missing.txt'" in said
