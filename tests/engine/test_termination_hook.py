"""Signals to processes that are forked while a training listens for SIGTERM."""

import multiprocessing
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from maskfeat_plugin.registry import HOOKS


@pytest.fixture
def listening():
    """Return a hook that listens. It is stopped after the test."""
    hook = HOOKS.build(dict(type="maskfeat.TerminationHook"))
    saver = HOOKS.build(dict(type="maskfeat.CheckpointHook"))
    runner = SimpleNamespace(hooks=[hook, saver], train_loop=SimpleNamespace(dataloader=DataLoader([0])), val_loop=None)
    before = signal.getsignal(signal.SIGTERM)
    hook.before_train(runner)
    assert signal.getsignal(signal.SIGTERM) not in (before, signal.SIG_DFL)
    yield hook
    hook.after_train(runner)
    assert signal.getsignal(signal.SIGTERM) is before


def test_processes_of_a_pool_end(listening):
    """A pool, which some metrics use, sends SIGTERM to its processes and waits for them."""
    children = [multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.terminate()
    for child in children:
        child.join(60)
        alive = child.is_alive()
        child.kill()
        assert not alive
    assert [child.exitcode for child in children] == [-signal.SIGTERM] * 3


def test_a_process_ends_that_is_told_to_before_it_has_begun(listening):
    """Python loses a signal that reaches a process between its fork and its first line."""
    fork = multiprocessing.get_context("fork")
    for _ in range(100):
        child = fork.Process(target=time.sleep, args=(600,))
        child.start()
        child.terminate()
        child.join(60)
        status = child.exitcode
        child.kill()
        assert status == -signal.SIGTERM


def test_training_still_listens_after_it_has_forked(listening):
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0,))
    child.start()
    child.join()
    signal.raise_signal(signal.SIGTERM)
    assert listening._received == signal.SIGTERM


def test_on_a_gpu_the_answer_is_read_one_step_later():
    hook = HOOKS.build(dict(type="maskfeat.TerminationHook"))
    answers = []
    for step in range(4):
        hook._received = signal.SIGTERM if step >= 2 else None
        answers.append(hook._is_told(torch.device("cpu"), late=True))
    assert answers == [False, False, False, True]
    assert hook._is_told(torch.device("cpu"), late=False)
