"""The launchers for several GPUs pass the right command on."""

import os
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def run(tmp_path):
    """Runs a launcher with ``python`` and ``srun`` that print what they are called with."""
    for name in ("python", "srun"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        program.chmod(0o755)

    def call(script, *arguments, **environment):
        env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", **environment}
        return subprocess.run([TOOLS / script, *arguments], env=env, capture_output=True, text=True)

    return call


@pytest.mark.parametrize("script", ["dist_train.sh", "dist_test.sh", "slurm_train.sh", "slurm_test.sh"])
def test_usage(run, script):
    result = run(script)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: ")


def test_dist_train(run):
    out = run("dist_train.sh", "config.py", "4", "--resume", NNODES="2").stdout
    assert out.startswith("python -m torch.distributed.run --nnodes=2 ")
    assert "--nproc_per_node=4 " in out
    assert out.endswith("/train.py config.py --launcher pytorch --resume\n")


def test_dist_test(run):
    out = run("dist_test.sh", "config.py", "weights.pth", "2", "--work-dir", "a b").stdout
    assert out.endswith("/test.py config.py weights.pth --launcher pytorch --work-dir a b\n")


def test_slurm_train(run):
    out = run("slurm_train.sh", "gpu", "job", "config.py", "--amp", GPUS="16", SRUN_ARGS="--time 1 --exclusive").stdout
    assert out.startswith("srun -p gpu --job-name=job --gres=gpu:8 --ntasks=16 --ntasks-per-node=8 ")
    assert " --time 1 --exclusive python -u " in out
    assert out.endswith("/train.py config.py --launcher slurm --amp\n")


def test_slurm_test(run):
    out = run("slurm_test.sh", "gpu", "job", "config.py", "weights.pth").stdout
    assert out.endswith("/test.py config.py weights.pth --launcher slurm\n")
