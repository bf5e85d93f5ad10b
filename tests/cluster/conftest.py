"""Fixtures of the tests of a cluster."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from cluster_trainings import EQUAL, ROOT, environment, write_config
from hosts import PROGRAMS, SLURM_PROGRAMS, Network, check_programs
from slurm import Slurm


@pytest.fixture(scope="module")
def open_folder():
    """Return a temporary folder that other users may read, as munge demands of the folder of its socket."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def slurm(open_folder):
    """Return a running Slurm with three machines and a controller."""
    check_programs(PROGRAMS | SLURM_PROGRAMS)
    cluster = Slurm(open_folder, nodes=3)
    yield cluster
    cluster.close()


@pytest.fixture
def network(tmp_path):
    """Return two connected machines, and a third without a task."""
    check_programs(PROGRAMS)
    machines = Network(tmp_path, 2)
    yield machines
    machines.close()


@pytest.fixture(scope="session")
def checkout(digits):
    """Return a folder with the data, and with the tools and configs at their usual places."""
    for name in ("tools", "configs"):
        (digits / name).symlink_to(ROOT / name)
    return digits


@pytest.fixture(scope="session")
def one_process(checkout, tmp_path_factory):
    """Return the work directory of two steps of one process."""
    folder = tmp_path_factory.mktemp("one")
    config = write_config(folder, EQUAL, batch_size=8)
    command = [sys.executable, "tools/train.py", config, "--work-dir", folder / "work"]
    subprocess.run(command, cwd=checkout, env=environment(), check=True, capture_output=True, timeout=300)
    return folder / "work"
