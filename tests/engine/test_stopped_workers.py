"""A training ends soon after a signal, also with stopped workers or a closed terminal, and has its folder alone."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from long_variants import long_except

from maskfeat_plugin.registry import HOOKS

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "demo" / "maskfeat_vit-tiny_moving-digits.py"


def command(work_dir, *options, tool="tools/train.py"):
    return [
        *(sys.executable, "-W", "ignore", str(ROOT / tool), str(CONFIG), "--work-dir", str(work_dir), "--cfg-options"),
        *("train_cfg.max_iters=100000", "train_dataloader.batch_size=4", "train_dataloader.num_workers=2"),
        *("default_hooks.logger.interval=1", "default_hooks.termination.patience=2.0", *options),
    ]


ENV = os.environ | dict(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", PYTHONPATH=str(ROOT))


def start(digits, work_dir, *options, **settings):
    """Start a training and wait for its first steps."""
    settings = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) | settings
    before = lines_of(work_dir)
    process = subprocess.Popen(command(work_dir, *options), cwd=digits, env=ENV, **settings)
    wait_for(lambda: lines_of(work_dir) > before + 3, process)
    return process


def wait_for(is_so, process, seconds=120):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.1)


def lines_of(work_dir):
    return sum(file.read_text().count("\n") for file in Path(work_dir).glob("*/vis_data/scalars.json"))


def workers_of(process):
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(pid) for pid in text.split()]


def end(process, number, seconds=40):
    """Send a signal, wait for the end, and return the exit status."""
    process.send_signal(number)
    try:
        return process.wait(seconds)
    finally:
        if process.poll() is None:
            process.kill()


def saved(work_dir):
    """Return the iteration of the only checkpoint, which has to be whole."""
    (path,) = Path(work_dir).glob("iter_*.pth")
    return torch.load(path, weights_only=True)["meta"]["iter"]


@pytest.mark.parametrize("stopped", long_except([1, 2], 1))
@pytest.mark.parametrize("number", long_except([signal.SIGTERM, signal.SIGHUP], 0))
def test_stopped_workers_do_not_hold_up_the_end(digits, tmp_path, number, stopped):
    process = start(digits, tmp_path / "work")
    workers = workers_of(process)[-stopped:]
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    time.sleep(2)  # until the batches that are already read have been used
    assert end(process, number) == 75
    steps = lines_of(tmp_path / "work")
    assert saved(tmp_path / "work") in (steps, steps + 1)  # one more if its log line was not written yet
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_a_terminal_that_is_closed(digits, tmp_path):
    main, other = pty.openpty()
    process = start(
        *(digits, tmp_path / "work"),
        **dict(stdin=other, stdout=other, stderr=other, start_new_session=True, text=False),
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    )
    os.close(other)
    os.close(main)  # the kernel sends SIGHUP
    try:
        assert process.wait(60) == 75
    finally:
        process.kill()
    assert saved(tmp_path / "work") > 0


def test_nohup_stays_nohup(digits, tmp_path):
    process = start(digits, tmp_path / "work", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    before = lines_of(tmp_path / "work")
    wait_for(lambda: lines_of(tmp_path / "work") > before + 3, process)
    assert end(process, signal.SIGTERM) == 75


def test_a_work_directory_is_for_one_training(digits, tmp_path):
    """The second training fails at once and the first continues. A killed training holds nothing."""
    first = start(digits, tmp_path / "work")
    second = subprocess.run(command(tmp_path / "work"), cwd=digits, env=ENV, capture_output=True, text=True)
    assert second.returncode == 1
    assert f"is in use by another training (process {first.pid} on " in second.stderr.splitlines()[-1]
    assert "--work-dir" in second.stderr.splitlines()[-1]
    before = lines_of(tmp_path / "work")
    wait_for(lambda: lines_of(tmp_path / "work") > before + 3, first)
    for worker in workers_of(first):
        os.kill(worker, signal.SIGSTOP)  # the workers stay alive
    workers = workers_of(first)
    first.kill()
    first.wait()
    third = start(digits, tmp_path / "work")
    assert end(third, signal.SIGTERM) == 75
    for worker in workers:
        os.kill(worker, signal.SIGKILL)


@pytest.mark.parametrize("patience", [0, -1.0, float("nan")])
def test_patience_has_to_be_positive(patience):
    with pytest.raises(ValueError, match="patience="):
        HOOKS.build(dict(type="maskfeat.TerminationHook", patience=patience))
