"""A training step never waits for the device: it runs on the "meta" device, whose tensors have no values."""

import copy
import importlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import DefaultScope
from mmengine.runner import LogProcessor
from mmengine.runner import Runner as MMEngineRunner
from mmpretrain.structures import DataSample
from test_compiled import PRETRAINING, build, draw_masks
from torch.utils._python_dispatch import TorchDispatchMode

from maskfeat_plugin.engine.deferred_history import DeferredHistory, LateValue, log_deferred
from maskfeat_plugin.engine.hooks import NonFiniteLossHook, RuntimeInfoHook, TerminationHook, TrainingStateHook
from maskfeat_plugin.engine.optim_wrappers import BFloat16OptimWrapper

RUNTIME = Path(__file__).parents[2] / "configs" / "_base_" / "default_runtime.py"


class Device(TorchDispatchMode):
    """Make "meta" a device whose values can be copied to the host without waiting, where they are zeros.

    A copy that waits fails there. A copy to the device that waits fails with this mode.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and "device" in kwargs:
            source, target = args[0].device.type, torch.device(kwargs["device"]).type
            if source != target and not kwargs.get("non_blocking"):
                raise RuntimeError(f"a copy from {source} to {target} waits")
            if source == "meta" and target == "cpu":
                return torch.zeros(args[0].shape, dtype=kwargs.get("dtype", args[0].dtype))
        return func(*args, **kwargs)


class Scaled(AmpOptimWrapper):
    """mmengine's loss scaling, which it offers on a GPU only."""

    optim_context = OptimWrapper.optim_context

    def __init__(self, **kwargs):
        OptimWrapper.__init__(self, **kwargs)
        self._scale_update_param = None
        self.loss_scaler = torch.amp.GradScaler("cpu")  # its tensors are on the device of the loss


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


def batch_of(model, inputs):
    """Samples as a data loader gives them."""
    mask, _ = draw_masks(model, inputs, 0)
    return dict(
        inputs=[torch.randint(0, 256, x.shape, dtype=torch.uint8) for x in inputs],
        data_samples=[DataSample(mask=one.squeeze(0) if len(one) == 1 else one) for one in mask],
    )


@pytest.mark.parametrize("wrapper", [OptimWrapper, BFloat16OptimWrapper])
@pytest.mark.parametrize("clip_grad", [None, dict(max_norm=0.02)])
@pytest.mark.parametrize("name", PRETRAINING)
def test_step_reads_no_value(name, clip_grad, wrapper):
    model, inputs = build(name)
    if hasattr(model.backbone, "_units_checked"):
        model.backbone._units_checked = True  # the first mask of a training is checked, with one wait
    batch = batch_of(model, inputs)
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


class EnoughError(Exception):
    """End of a training of the test, before a checkpoint is saved."""


class StopInTest(Hook):
    """Hook that ends the training after some steps, without saving the weights."""

    priority = "LOWEST"

    def __init__(self, steps):
        self.steps = steps

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.steps:
            raise EnoughError


class RunnerOnDevice(MMEngineRunner):
    """mmengine's runner of a model that stays on "meta", where weights need no values."""

    def wrap_model(self, model_wrapper_cfg, model):
        return model.to("meta")

    def _init_model_weights(self):
        pass


def run_steps(model, batch, optim_wrapper, folder, **hooks):
    """Train four steps with the hooks of the full-size configs, as the runner calls them."""
    with DefaultScope.overwrite_default_scope("mmengine"):
        runner = RunnerOnDevice(
            model=model,
            work_dir=str(folder),
            train_dataloader=dict(
                dataset=[dict(inputs=x, data_samples=s) for x, s in zip(*batch.values(), strict=True)] * 8,
                sampler=dict(type="DefaultSampler", shuffle=False),
                collate_fn=dict(type="pseudo_collate"),
                batch_size=2,
                num_workers=0,
            ),
            train_cfg=dict(type="maskfeat.EpochBasedTrainLoop", max_epochs=1),
            optim_wrapper=optim_wrapper,
            param_scheduler=[dict(type="CosineAnnealingLR", T_max=8, by_epoch=False)],
            default_hooks=dict(Config.fromfile(RUNTIME).default_hooks, **hooks),
            custom_hooks=[StopInTest(4)],
            randomness=dict(seed=0),
            experiment_name=folder.name,
            log_level="ERROR",
        )
        assert any(isinstance(hook, NonFiniteLossHook) for hook in runner.hooks)
        try:
            with Device(), pytest.raises(EnoughError):
                runner.train()
        finally:
            next(hook for hook in runner.hooks if isinstance(hook, TerminationHook)).after_train(runner)
    return runner


@pytest.fixture
def fused(monkeypatch):
    """Make AdamW take "meta" for a device that has its fused kernel."""
    adam = importlib.import_module("torch.optim.adam")  # torch.optim hides it
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda parameter, **_: None)


@pytest.mark.parametrize("name", ["image", "visible_clip"])
@pytest.mark.parametrize("wrapper", [OptimWrapper, BFloat16OptimWrapper, Scaled])
def test_runner_reads_no_value(name, wrapper, fused, tmp_path):
    """With all hooks of the full-size configs, and their fused optimizer."""
    model, inputs = build(name)
    batch = batch_of(model, inputs)
    model.backbone._units_checked = True
    optimizer = torch.optim.AdamW(model.to("meta").parameters(), lr=1e-3, fused=True)
    runner = run_steps(model, batch, wrapper(optimizer=optimizer, clip_grad=dict(max_norm=0.02)), tmp_path)
    assert runner.iter == 3 and len(runner.message_hub.log_scalars["train/loss"]._pending) == 4


@pytest.mark.parametrize(("is_fused", "delay"), [(False, None), (True, 0)])
def test_a_runner_that_reads_is_found(is_fused, delay, fused, tmp_path):
    """The host has to read the gradients for an optimizer that is not fused, and the loss without a delay."""
    model, inputs = build("image")
    batch = batch_of(model, inputs)
    optimizer = torch.optim.AdamW(model.to("meta").parameters(), lr=1e-3, fused=is_fused)
    hook = dict(type="maskfeat.NonFiniteLossHook", delay=delay)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        run_steps(model, batch, OptimWrapper(optimizer), tmp_path, non_finite_loss=hook)


def test_late_values_are_copies_of_their_time():
    value = torch.zeros(2)
    late = LateValue(value + 1)
    value.fill_(7)
    assert late.read().tolist() == [1, 1]


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
