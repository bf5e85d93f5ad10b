"""A long training takes no more memory, files, processes or time per step than at its beginning.

``MASKFEAT_SOAK_SECONDS`` sets the duration of the long test, 600 by default, which its cases share.
"""

import ctypes
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest
from long_variants import long_except
from mmengine.hooks import Hook

from maskfeat_plugin.apis import build_trainer, load_config, train
from maskfeat_plugin.engine.process_info import child_processes, open_files, resident_memory

CONFIGS = Path(__file__).parents[2] / "configs" / "demo"
SECONDS = float(os.environ.get("MASKFEAT_SOAK_SECONDS", 600))
WARM_UP = 0.2  # share of the steps in which caches fill and the allocator settles
WORKERS = 2
MB = 2**20


@dataclass(frozen=True)
class Sample:
    """Measurements of the process after a step."""

    step: float  # seconds of processor time, which does not depend on other work on the machine
    memory: int  # of the main process, bytes
    workers_memory: int  # of the largest worker
    files: int
    workers: int
    threads: int


class Watch(Hook):
    """Hook that takes a sample after every step, and stops the training after a time and a minimum of steps."""

    priority = "LOWEST"

    def __init__(self, seconds, steps=45):
        self.seconds, self.steps, self.samples = seconds, steps, []

    def before_train(self, runner):
        self.start, self.before = time.monotonic(), time.process_time()
        self.others = set(child_processes())  # child processes of other tests

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        step = time.process_time() - self.before
        workers = set(child_processes()) - self.others
        self.samples.append(
            Sample(
                step,
                resident_memory(),
                max(map(resident_memory, workers), default=0),
                open_files(),
                len(workers),
                threading.active_count(),
            )
        )
        if time.monotonic() - self.start > self.seconds and len(self.samples) >= self.steps:
            runner.train_loop.stop_training = True
        self.before = time.process_time()


def thirds(samples, name):
    """Return the values of the first and of the last third of the steps, after the warm-up."""
    values = [getattr(sample, name) for sample in samples[int(len(samples) * WARM_UP) :]]
    return values[: len(values) // 3], values[-(len(values) // 3) :]


def check_flat(samples):
    """Raise an AssertionError for each value that has grown."""
    for name in ("memory", "workers_memory"):
        first, last = map(median, thirds(samples, name))
        assert last < 1.05 * first + 16 * MB, f"{name} grew from {first / MB:.0f} to {last / MB:.0f} MB"
    # tensors that workers are sending are open files too, so the number varies between steps
    first, last = map(median, thirds(samples, "files"))
    assert last <= first + 8, f"files grew from {first} to {last}"
    for name in ("workers", "threads"):
        first, last = map(max, thirds(samples, name))
        assert last <= first, f"{name} grew from {first} to {last}"
    first, last = map(median, thirds(samples, "step"))
    assert last < 2 * first, f"a step took {first:.4f} s and then {last:.4f} s"


@pytest.fixture
def soak(digits, tmp_path, monkeypatch):
    """Train a demo's config with workers for some seconds, with checkpoints, and return the samples."""
    monkeypatch.chdir(digits)

    def run(name, seconds, *hooks, **options):
        config = load_config(CONFIGS / name, str(tmp_path / "work"))
        config.merge_from_dict(options)
        config.update(experiment_name=f"soak_{time.monotonic_ns()}", log_level="ERROR", param_scheduler=None)
        config.train_dataloader.update(batch_size=4, num_workers=WORKERS)
        watch = Watch(seconds)
        runner = build_trainer(config)
        for hook in (*hooks, watch):
            runner.register_hook(hook)
        train(runner)
        return watch.samples

    return run


def by_iterations(workers=True):
    """Return settings of an endless training with the same workers all the time."""
    return {
        "train_cfg.max_iters": 10**6,
        "train_dataloader.persistent_workers": workers,
        "default_hooks.checkpoint": dict(type="CheckpointHook", interval=50, by_epoch=False, max_keep_ckpts=1),
    }


def by_epochs():
    """Return settings with epochs of eight steps, each with new workers, a validation and a checkpoint."""
    return {
        "train_cfg": dict(type="EpochBasedTrainLoop", max_epochs=10**6, val_interval=1, _delete_=True),
        "train_dataloader.sampler": dict(type="DefaultSampler", shuffle=True),
        "train_dataloader.persistent_workers": False,
        "default_hooks.checkpoint": dict(type="CheckpointHook", interval=1, max_keep_ckpts=1),
        "log_processor.by_epoch": True,
    }


CASES = [
    ("maskfeat_mvit-tiny_moving-digits.py", by_iterations()),
    ("vit-tiny_moving-digits-class.py", by_epochs()),
]


@pytest.mark.long
@pytest.mark.parametrize(("name", "options"), CASES, ids=["iterations", "epochs"])
def test_training_stays_as_it_is(soak, name, options):
    samples = soak(name, SECONDS / len(CASES), **options)
    assert {sample.workers for sample in samples} == {WORKERS}
    check_flat(samples)


class Leak(Hook):
    """Hook with a leak that the watch has to find."""

    def __init__(self, what):
        self.what, self.kept = what, []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.what == "memory":
            if not self.kept:
                ctypes.CDLL(None).malloc_trim(0)  # otherwise the leak would fill memory that earlier tests have freed
            self.kept.append(bytearray(os.urandom(MB)) * 16)
        elif self.what == "files":
            self.kept.append(open(os.devnull))  # noqa: SIM115 (left open)
        elif self.what == "threads":
            self.kept.append(threading.Timer(10**6, print))
            self.kept[-1].daemon = True
            self.kept[-1].start()
        elif self.what == "a step took":
            self.kept.append(None)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.what == "a step took" and len(self.kept) > 35:
            end = time.process_time() + 0.4
            while time.process_time() < end:
                pass


@pytest.mark.parametrize("what", long_except(["memory", "files", "threads", "a step took"], 0))
def test_what_grows_is_found(soak, what):
    samples = soak("maskfeat_vit-tiny_moving-digits.py", 0, Leak(what), **by_iterations())
    with pytest.raises(AssertionError, match=what):
        check_flat(samples)
