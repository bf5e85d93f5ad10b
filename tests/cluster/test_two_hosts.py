"""torchrun on two machines with two CPU processes each."""

import re
import shutil

import pytest
from cluster_trainings import (
    EQUAL,
    LONG,
    ROOT,
    STEPS,
    assert_equal_weights,
    assert_same_losses_and_weights,
    environment,
    write_config,
)
from slurm import wait_for_text

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


@pytest.fixture
def start(network, checkout, tmp_path):
    """Return a function that starts tools/dist_train.sh on both machines. It returns the two processes."""

    def call(config, *arguments, work="work", changes=((), ()), variables=({}, {}), **more):
        started = []
        for rank, node in enumerate(network.nodes):
            env = environment(NNODES="2", NODE_RANK=str(rank), MASTER_ADDR="node0", **more) | variables[rank]
            command = ["tools/dist_train.sh", config, "2", "--work-dir", tmp_path / work, *arguments, *changes[rank]]
            started.append(node.start(*command, cwd=checkout, env=env, log=tmp_path / f"log{rank}"))
        return started

    return call


def logs(folder):
    return [(folder / f"log{rank}").read_text() for rank in range(2)]


def test_loss_is_that_of_one_process(start, one_process, tmp_path):
    for machine in start(write_config(tmp_path, EQUAL, batch_size=2)):
        assert machine.wait(300) == 0, logs(tmp_path)
    assert "".join(logs(tmp_path)).count("Iter(train) [2/2]") == 1
    assert_same_losses_and_weights(tmp_path / "work", one_process, 4)


def test_link_goes_down(start, network, tmp_path):
    # the torchrun that cannot reach the other waits for the kernel to give the connection up; 15 minutes by default
    for node in network.nodes:
        node.run("sh", "-c", "echo 3 > /proc/sys/net/ipv4/tcp_retries2")
    machines = start(write_config(tmp_path, LONG), "--cfg-options", "env_cfg.dist_cfg.timeout=20", HOLD_FROM="4")
    wait_for_text(tmp_path / "work" / "losses.0", r"(?m)^5 ")
    network.unplug(network.nodes[1])
    for rank, machine in enumerate(machines):
        assert machine.wait(240) != 0
        said = (tmp_path / f"log{rank}").read_text()
        assert re.search(r"error: process \d of 4 lost contact .*--resume", said), said[-5000:]


def test_max_restarts_goes_on_from_the_newest_checkpoint(start, tmp_path):
    config = write_config(tmp_path, LONG)
    for machine in start(config, work="whole"):
        assert machine.wait(300) == 0, logs(tmp_path)
    for file in tmp_path.glob("log*"):
        file.unlink()
    for machine in start(config, "--resume", MAX_RESTARTS="1", KILL="3:8"):
        assert machine.wait(400) == 0, logs(tmp_path)
    log = "".join(logs(tmp_path))
    assert (tmp_path / "work" / "killed").exists()
    assert log.count("Iter(train) [ 1/") == 1 and log.count("Iter(train) [ 7/") == 2
    name = f"iter_{STEPS}.pth"
    assert_equal_weights(tmp_path / "work" / name, tmp_path / "whole" / name)


def test_machines_with_different_options_are_refused(start, tmp_path):
    changes = [["--cfg-options", f"optim_wrapper.optimizer.lr={rate}"] for rate in (0.125, 0.25)]
    for machine in start(write_config(tmp_path, LONG), changes=changes):
        assert machine.wait(300) != 0
    log = "".join(logs(tmp_path))
    (said,) = set(re.findall(r"error: (optim_wrapper.optimizer.lr is .*)", log))
    assert re.search(r"0\.(125|25) in process \d on node\d, but 0\.(125|25) in process 0 on node\d\. Start all", said)
    assert not list((tmp_path / "work").glob("losses.*"))


def test_a_machine_with_another_version_is_refused(start, tmp_path):
    other = tmp_path / "other"
    for name in ("maskfeat_plugin", "maskfeat_cli"):
        shutil.copytree(ROOT / name, other / name, ignore=shutil.ignore_patterns("__pycache__", ".mim"))
    (other / "maskfeat_plugin" / "version.py").write_text('"""Version of the package."""\n\n__version__ = "0.0.1"\n')
    paths = dict(PYTHONPATH=f"{other}:{ROOT / 'tests' / 'cluster'}")
    for machine in start(write_config(tmp_path, LONG), variables=({}, paths)):
        assert machine.wait(300) != 0
    log = "".join(logs(tmp_path))
    (said,) = set(re.findall(r"error: (maskfeat_plugin.__version__ is .*)", log))
    assert re.search(r"0\.0\.1.* in process \d on node\d", said) and "version or files of maskfeat_plugin" in said
    assert not list((tmp_path / "work").glob("losses.*"))
