"""A batch with NaN: stop, skip or rewind, the report about it, and cases that the hook must not react to."""

import json
import time
from pathlib import Path

import interruptions  # noqa: F401 (registers the hooks)
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper

from maskfeat_plugin.apis import ConfigError, build_trainer, load_config, train
from maskfeat_plugin.registry import HOOKS, OPTIM_WRAPPERS

CONFIG = Path(__file__).parents[2] / "configs" / "demo" / "maskfeat_vit-tiny_moving-digits.py"

# As on a GPU: the optimizer leaves the step out, and the host hears of it one step later
LATER = {"default_hooks.non_finite_loss.delay": 1, "optim_wrapper.optimizer.fused": True}
both = pytest.mark.parametrize("options", [{}, LATER], ids=["at_once", "later"])


@OPTIM_WRAPPERS.register_module(force=True)
class ScaledInTest(AmpOptimWrapper):
    """mmengine's loss scaling, which it offers on a GPU only, in float32 on the CPU."""

    optim_context = OptimWrapper.optim_context

    def __init__(self, init_scale, **kwargs):
        OptimWrapper.__init__(self, **kwargs)
        self._scale_update_param = None
        self.loss_scaler = torch.amp.GradScaler("cpu", init_scale=init_scale)


@HOOKS.register_module(force=True)
class SpoilGradientsInTest(Hook):
    """Hook that sets gradients to NaN at one iteration, while the loss is finite."""

    def __init__(self, iteration):
        self.iteration = iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.iteration:
            weight = runner.model.neck.fc.weight
            weight.register_hook(lambda gradient: gradient * (torch.nan if runner.iter + 1 == self.iteration else 1))


@HOOKS.register_module(force=True)
class ScaleLossInTest(Hook):
    """Hook that multiplies losses with a factor at some iterations."""

    def __init__(self, iterations, factor):
        self.iterations = iterations
        self.factor = float(factor)

    def before_train(self, runner):
        def scale(module, args, losses):
            return {k: v * self.factor for k, v in losses.items()} if runner.iter + 1 in self.iterations else losses

        runner.model.register_forward_hook(scale)


def spoiled(*iterations, **settings):
    return dict(type="maskfeat.SpoilInTest", iterations=iterations, **settings)


@pytest.fixture
def cfg(digits, tmp_path, monkeypatch):
    """Return a reader of the demo's configs that train 6 steps of 4 samples, and save each step."""
    monkeypatch.chdir(digits)

    def read(action, *hooks, interval=1, **options):
        config = load_config(str(CONFIG), str(tmp_path / "work"))
        config.experiment_name = f"non_finite_{time.monotonic_ns()}"  # else two runners in the same second share it
        config.train_dataloader.batch_size = 4
        config.train_cfg.max_iters = 6
        config.param_scheduler = [dict(type="LinearLR", start_factor=0.5, by_epoch=False, end=6)]
        config.default_hooks.checkpoint.update(interval=interval, save_optimizer=True)
        config.default_hooks.non_finite_loss.action = action
        config.custom_hooks = list(hooks)
        config.merge_from_dict(options)
        return config

    return read


def saved(config, iteration):
    return torch.load(Path(config.work_dir, f"iter_{iteration}.pth"), weights_only=True)


def same(ours, theirs):
    return all(torch.equal(ours["state_dict"][name], value) for name, value in theirs["state_dict"].items())


def reports(config):
    return {
        path.parent.name: json.loads(path.read_text())
        for path in Path(config.work_dir).glob("non_finite/*/report.json")
    }


@both
def test_stop_and_what_is_written(cfg, digits, options):
    config = cfg("stop", spoiled(3), **options)
    with pytest.raises(ConfigError, match=r"iteration 3: the loss is not finite; .*non_finite.*action='skip'"):
        train(build_trainer(config))
    assert not Path(config.work_dir, "iter_3.pth").exists()
    (report,) = reports(config).values()
    assert report["iteration"] == 3 and report["losses"]["loss"] == "nan" and report["grad_norm"] == "nan"
    assert len(report["samples"]) == 4
    assert all(Path(sample["file"]).is_file() for sample in report["samples"])
    batch = torch.load(Path(config.work_dir, "non_finite", "iter_3_rank_0", "batch.pth"), weights_only=True)
    assert [bool(image.float().isnan().any()) for image in batch["inputs"]] == [True, False, False, False]
    assert [sample["img_path"] for sample in batch["data_samples"]] == [item["file"] for item in report["samples"]]
    assert all(sample["mask"].any() for sample in batch["data_samples"])


@both
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_skip_leaves_the_step_out(cfg, value, options):
    infinite = dict(type="maskfeat.ScaleLossInTest", iterations=[3], factor="inf")
    config = cfg("skip", spoiled(3) if value == "nan" else infinite, **options)
    train(build_trainer(config))
    (report,) = reports(config).values()
    assert report["iteration"] == 3 and report["losses"]["loss"] == value
    before, after, later = (saved(config, i) for i in (2, 3, 4))
    assert same(before, after) and not same(after, later)
    moments = zip(before["optimizer"]["state"].values(), after["optimizer"]["state"].values(), strict=True)
    assert all(torch.equal(ours["exp_avg"], theirs["exp_avg"]) for ours, theirs in moments)
    assert all(value.isfinite().all() for value in saved(config, 6)["state_dict"].values() if value.is_floating_point())


def test_skip_goes_on_where_the_batch_cannot_be_written(cfg):
    config = cfg("skip", spoiled(3))
    Path(config.work_dir).mkdir()
    Path(config.work_dir, "non_finite").touch()
    runner = build_trainer(config)
    train(runner)
    assert same(saved(config, 2), saved(config, 3)) and Path(config.work_dir, "iter_6.pth").is_file()
    (log,) = Path(runner.log_dir).glob("*.log")
    assert "iter_3_rank_0 cannot be written: Not a directory. The step is left out." in log.read_text()


@both
def test_rewind_takes_the_weights_of_the_last_checkpoint(cfg, options):
    config = cfg("rewind", spoiled(4), interval=2, **options)
    runner = build_trainer(config)
    train(runner)
    rewound, saved_before = saved(config, 4), saved(config, 2)
    assert same(rewound, saved_before)
    moments = zip(rewound["optimizer"]["state"].values(), saved_before["optimizer"]["state"].values(), strict=True)
    assert all(torch.equal(ours["exp_avg"], theirs["exp_avg"]) for ours, theirs in moments)
    # the schedule continues
    rates = [saved(config, i)["optimizer"]["param_groups"][0]["lr"] for i in (2, 4, 6)]
    assert rates[0] < rates[1] < rates[2] == pytest.approx(2e-3, rel=1e-2)
    assert not same(saved(config, 6), rewound)


def test_rewind_needs_a_checkpoint(cfg):
    with pytest.raises(ConfigError, match="there is no checkpoint yet, so that action='rewind'.*save_optimizer=True"):
        train(build_trainer(cfg("rewind", spoiled(4), interval=6)))


@both
def test_not_for_ever(cfg, options):
    config = cfg("skip", spoiled(2, 3, 4), **{"default_hooks.non_finite_loss.limit": 2}, **options)
    with pytest.raises(ConfigError, match=r"iteration 4: .*for the 3th time \(limit=2\)"):
        train(build_trainer(config))


@pytest.mark.parametrize(("last", "ended"), [(3, 4), (6, 6)])
def test_host_hears_of_a_step_one_step_later(cfg, last, ended):
    """The weights stay finite until then. The last step of a training is read before its weights are saved."""
    config = cfg("stop", spoiled(last), interval=10, **LATER)
    runner = build_trainer(config)
    with pytest.raises(ConfigError, match=f"iteration {last}: the loss is not finite"):
        train(runner)
    assert runner.iter + 1 == ended and not Path(config.work_dir, "iter_6.pth").exists()
    (report,) = reports(config).values()
    assert report["iteration"] == last and report["losses"]["loss"] == "nan"
    assert all(value.isfinite().all() for value in runner.model.state_dict().values() if value.is_floating_point())


def test_later_is_the_same_training(cfg):
    """Bit by bit, with a step that is left out and without."""
    for spoil in ([], [spoiled(3)]):
        finals = []
        for options in (LATER, {"optim_wrapper.optimizer.fused": True}):
            config = cfg("skip", *spoil, interval=6, **options)
            train(build_trainer(config))
            finals.append(saved(config, 6))
        assert same(*finals)


@pytest.mark.parametrize(
    "options", [{}, LATER, {"default_hooks.non_finite_loss.delay": 1}], ids=["at_once", "later", "not_fused"]
)
def test_gradients_alone(cfg, options):
    config = cfg("skip", dict(type="maskfeat.SpoilGradientsInTest", iteration=3), **options)
    train(build_trainer(config))
    (report,) = reports(config).values()
    assert report["grad_norm"] == "nan" and isinstance(report["losses"]["loss"], float)
    assert same(saved(config, 2), saved(config, 3)) and not same(saved(config, 3), saved(config, 4))


@both
def test_accumulated_step_is_left_out_whole(cfg, options):
    """A bad batch spoils all batches that are accumulated with it; it is reported once."""
    config = cfg("skip", spoiled(3), **{"optim_wrapper.accumulative_counts": 2}, **options)
    train(build_trainer(config))
    assert list(reports(config)) == ["iter_3_rank_0"]
    assert same(saved(config, 2), saved(config, 4)) and not same(saved(config, 4), saved(config, 6))


@pytest.mark.parametrize("clip", [True, False])
def test_overflow_of_mixed_precision_is_not_mistaken_for_it(cfg, clip):
    large = dict(type="maskfeat.ScaleLossInTest", iterations=list(range(7)), factor=1e4)
    options = {"optim_wrapper.type": "maskfeat.ScaledInTest", "optim_wrapper.init_scale": 2.0**127}
    config = cfg("stop", large, **options)
    if not clip:
        config.optim_wrapper.pop("clip_grad")
    runner = build_trainer(config)
    train(runner)
    assert runner.optim_wrapper.loss_scaler.get_scale() == 2.0**121  # each of the 6 steps was an overflow
    assert not reports(config)


def test_loss_is_found_under_mixed_precision(cfg):
    config = cfg("skip", spoiled(3), **{"optim_wrapper.type": "maskfeat.ScaledInTest", "optim_wrapper.init_scale": 8.0})
    train(build_trainer(config))
    assert list(reports(config)) == ["iter_3_rank_0"]
    assert same(saved(config, 2), saved(config, 3)) and not same(saved(config, 3), saved(config, 4))


@pytest.mark.parametrize("options", [{}, pytest.param(LATER, marks=pytest.mark.long)], ids=["at_once", "later"])
def test_processes_do_the_same(trainings, cfg, tmp_path, options):
    """One of two processes has the bad batch. Both skip the step, and one of them writes the report."""
    config = cfg("skip", spoiled(3, rank=1), **options)
    config.dump(tmp_path / "config.py")
    job = dict(config=str(tmp_path / "config.py"), work_dir=config.work_dir, options={}, output=str(tmp_path / "out"))
    assert trainings.run(**job, processes=2) == [0, 0], (tmp_path / "out").read_text()
    assert list(reports(config)) == ["iter_3_rank_1"]
    assert same(saved(config, 2), saved(config, 3)) and not same(saved(config, 3), saved(config, 4))


@pytest.mark.parametrize(
    "settings, message",
    [(dict(action="go"), "action='go'"), (dict(limit=-1), "limit=-1"), (dict(delay=-1), "delay=-1")],
)
def test_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        HOOKS.build(dict(type="maskfeat.NonFiniteLossHook", **settings))
