"""A training step never waits for the device: it runs on the "meta" device, whose tensors have no values."""

import copy
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import OptimWrapper
from mmengine.runner import LogProcessor
from mmpretrain.structures import DataSample
from test_compiled import PRETRAINING, build, draw_masks

from maskfeat_plugin.engine.deferred_history import DeferredHistory, log_deferred
from maskfeat_plugin.engine.hooks import RuntimeInfoHook, TrainingStateHook
from maskfeat_plugin.engine.optim_wrappers import BFloat16OptimWrapper


class Runner:
    """The parts of a runner that the hooks of the log use."""

    iter = 0
    log_processor = LogProcessor(by_epoch=False)
    hooks = ()
    epoch = 0

    def __init__(self, optim_wrapper):
        self.optim_wrapper = optim_wrapper
        self.message_hub = MessageHub.get_instance("no_waiting")
        self.message_hub.log_scalars.clear()


@pytest.mark.parametrize("wrapper", [OptimWrapper, BFloat16OptimWrapper])
@pytest.mark.parametrize("clip_grad", [None, dict(max_norm=0.02)])
@pytest.mark.parametrize("name", PRETRAINING)
def test_step_reads_no_value(name, clip_grad, wrapper):
    model, inputs = build(name)
    if hasattr(model.backbone, "_units_checked"):
        model.backbone._units_checked = True  # the first mask of a training is checked, with one wait
    mask, _ = draw_masks(model, inputs, 0)
    batch = dict(
        inputs=[torch.randint(0, 256, x.shape, dtype=torch.uint8) for x in inputs],
        data_samples=[DataSample(mask=one.squeeze(0) if len(one) == 1 else one) for one in mask],
    )
    model = model.to("meta")
    optim_wrapper = wrapper(torch.optim.AdamW(model.parameters(), lr=1e-3), clip_grad=clip_grad)
    runner, hooks = Runner(optim_wrapper), (RuntimeInfoHook(), TrainingStateHook())
    hooks[1].before_train(runner)
    for step in range(2):
        runner.iter = step
        hooks[1].before_train_iter(runner, step, batch)
        outputs = model.train_step(batch, optim_wrapper)
        assert all(value.device.type == "meta" for value in outputs.values()) and "loss" in outputs
        for hook in hooks:
            hook.after_train_iter(runner, step, batch, outputs)
    logged = runner.message_hub.log_scalars
    for key in ("train/loss", "train/baseline", "train/grad_norm"):
        assert len(logged[key]._pending) == 2
        with pytest.raises(RuntimeError, match="meta"):  # reading waits, or as here cannot
            logged[key].current()


def test_a_step_that_reads_is_found():
    """The check above can fail: without the number of masked tokens, the host has to count them."""
    model, inputs = build("image")
    mask, _ = draw_masks(model, inputs, 0)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        model.to("meta")(inputs.to("meta"), mask=mask.to("meta"), mode="loss")


VALUES = [0.5, 0.25, 3.0, -1.0, 7.5]


def test_deferred_values_are_those_of_mmengine():
    hub, plain = MessageHub.get_instance("deferred"), HistoryBuffer()
    hub.log_scalars.clear()
    for value in VALUES:
        log_deferred(hub, "train/loss", torch.tensor(value))
        plain.update(value)
    found = hub.log_scalars["train/loss"]
    assert isinstance(found, DeferredHistory) and len(found._pending) == len(VALUES)
    for method in ("current", "mean", "min", "max"):
        assert found.statistics(method) == plain.statistics(method)
    assert found.mean(2) == plain.mean(2)
    np.testing.assert_array_equal(found.data, plain.data)
    assert hub.state_dict()["resumed_keys"]["train/loss"] is True


def test_numbers_tensors_and_means_may_alternate():
    history = DeferredHistory([1.0], [1])
    history.update(torch.tensor([2.0]))
    history.update(3.0)
    history.update(torch.tensor(4.0), count=2)
    history.update(torch.tensor(5))
    np.testing.assert_array_equal(history.data, ([1.0, 2.0, 3.0, 4.0, 5.0], [1, 1, 1, 2, 1]))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_checkpoints_hold_a_plain_history(copied):
    history = DeferredHistory(max_length=3)
    for value in VALUES:
        history.update(torch.tensor(value))
    found = copied(history)
    assert type(found) is HistoryBuffer and found.max_length == 3
    np.testing.assert_array_equal(found.data, (VALUES[-3:], [1, 1, 1]))


def test_a_resumed_history_goes_on():
    hub = MessageHub.get_instance("resumed")
    hub.log_scalars["train/loss"] = HistoryBuffer([1.0, 2.0], [1, 1])
    log_deferred(hub, "train/loss", torch.tensor(3.0))
    np.testing.assert_array_equal(hub.log_scalars["train/loss"].data[0], [1.0, 2.0, 3.0])


def test_unread_values_do_not_pile_up():
    history = DeferredHistory()
    for value in range(2500):
        history.update(torch.tensor(float(value)))
        assert len(history._pending) < 1000
    np.testing.assert_array_equal(history.data[0], np.arange(2500.0))
