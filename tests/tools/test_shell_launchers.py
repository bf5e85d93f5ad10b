"""Tests of the launchers for several GPUs: they run the right command."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def run(tmp_path):
    """Function that runs a launcher in a checkout without .venv. ``python`` and ``srun`` print their arguments."""
    shutil.copytree(TOOLS, tmp_path / "checkout" / "tools")
    for name in ("python", "srun"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        program.chmod(0o755)

    def call(script, *arguments, **environment):
        env = {**os.environ, "PYTHON": "", "PATH": f"{tmp_path}:{os.environ['PATH']}", **environment}
        return subprocess.run(
            [tmp_path / "checkout" / "tools" / script, *arguments], env=env, capture_output=True, text=True
        )

    return call


@pytest.mark.parametrize("script", ["dist_train.sh", "dist_test.sh", "slurm_train.sh", "slurm_test.sh"])
def test_usage(run, script):
    result = run(script)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: ")


def test_dist_train(run):
    out = run("dist_train.sh", "config.py", "4", "--resume").stdout
    assert out.startswith("python -m torch.distributed.run --standalone --max_restarts=0 --nproc_per_node=4 ")
    assert out.endswith("/train.py config.py --launcher pytorch --resume\n")


@pytest.mark.parametrize(
    "script, arguments", [("dist_train.sh", ["c.py", "4"]), ("dist_test.sh", ["c.py", "w.pth", "4"])]
)
def test_several_machines_or_a_port(run, script, arguments):
    out = run(script, *arguments, NNODES="2", NODE_RANK="1", MASTER_ADDR="node1", MAX_RESTARTS="3").stdout
    meeting = "--nnodes=2 --rdzv_backend=c10d --rdzv_endpoint=node1:29500 --rdzv_id=maskfeat --rdzv_conf=is_host=0"
    assert f" {meeting} --max_restarts=3 --nproc_per_node=4 " in out
    assert "--standalone" not in out
    out = run(script, *arguments, PORT="1234").stdout
    assert " --nnodes=1 " in out and " --rdzv_endpoint=127.0.0.1:1234 " in out
    assert " --rdzv_conf=is_host=1 --max_restarts=0 " in out


def test_dist_test(run):
    out = run("dist_test.sh", "config.py", "weights.pth", "2", "--work-dir", "a b").stdout
    assert out.endswith("/test.py config.py weights.pth --launcher pytorch --work-dir a b\n")


def test_slurm_train(run):
    out = run("slurm_train.sh", "gpu", "job", "config.py", "--amp", GPUS="16", SRUN_ARGS="--time 1 --exclusive").stdout
    assert out.startswith("srun -p gpu --job-name=job --gres=gpu:8 --ntasks=16 --ntasks-per-node=8 ")
    assert " --time 1 --exclusive python -u " in out
    assert out.endswith("/train.py config.py --launcher slurm --amp\n")


def test_slurm_on_fewer_gpus_than_a_machine_has_and_on_none(run):
    out = run("slurm_train.sh", "gpu", "job", "config.py", GPUS="4", SRUN_ARGS="--gres=none").stdout
    assert out.startswith("srun -p gpu --job-name=job --gres=gpu:4 --ntasks=4 --ntasks-per-node=4 ")
    assert " --gres=none python -u " in out


def test_slurm_test(run):
    out = run("slurm_test.sh", "gpu", "job", "config.py", "weights.pth").stdout
    assert out.endswith("/test.py config.py weights.pth --launcher slurm\n")


def test_the_page_shows_the_job_for_sbatch():
    assert f"```shell\n{(TOOLS / 'slurm_job.sh').read_text()}```\n" in (TOOLS.parent / "docs/scaling.md").read_text()


@pytest.mark.parametrize(
    "script, arguments",
    [
        ("torchrun.sh", ["2", "tool.py"]),
        ("dist_train.sh", ["c.py", "2"]),
        ("dist_test.sh", ["c.py", "w.pth", "2"]),
        ("slurm_train.sh", ["gpu", "job", "c.py"]),
        ("slurm_test.sh", ["gpu", "job", "c.py", "w.pth"]),
    ],
)
def test_the_python_of_the_checkout(run, tmp_path, script, arguments):
    """Check that the launchers prefer the Python in ``PYTHON``, then the Python of .venv."""
    own = tmp_path / "checkout" / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.write_text('#!/bin/sh\necho own python "$@"\n')
    assert str(own) not in run(script, *arguments).stdout  # it cannot be run
    own.chmod(0o755)
    out = run(script, *arguments).stdout
    assert out.startswith("own python -m torch") or f" {own} -u " in out
    named = tmp_path / "python"
    assert "own python" not in run(script, *arguments, PYTHON=str(named)).stdout
