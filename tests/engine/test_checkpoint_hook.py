"""Checkpoints in real trainings: a full disk, the best and the kept ones, and files that are refused."""

import os
import re
import shutil
import time
from pathlib import Path

import pytest
import torch
from long_variants import long_except
from mmengine.hooks import Hook

from maskfeat_plugin.apis import ConfigError, build_tester, build_trainer, load_config, train
from maskfeat_plugin.checkpoints import check_whole, read_checkpoint, unfinished_path, write_checkpoint
from maskfeat_plugin.registry import HOOKS

CONFIGS = Path(__file__).parents[2] / "configs"
IMAGES, DIGITS = "demo/maskfeat_vit-tiny_moving-digits.py", "demo/vit-tiny_moving-digits-class.py"


@HOOKS.register_module(force=True)
class FullDiskInTest(Hook):
    """Hook that leaves no space for a checkpoint: its file is replaced by the system's /dev/full."""

    def __init__(self, name):
        self.name = name

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 0:
            unfinished_path(Path(runner.work_dir, self.name)).symlink_to("/dev/full")


class Malicious:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return os.system, (f"touch {self.victim}",)


@pytest.fixture
def cfg(digits, tmp_path, monkeypatch):
    """Return a reader of the demo's configs that train 6 steps of 4 samples, and save every second step."""
    monkeypatch.chdir(digits)

    def read(path=IMAGES, work_dir="work", resume=None, **options):
        config = load_config(str(CONFIGS / path), str(tmp_path / work_dir), resume=resume)
        config.experiment_name = f"checkpoints_{time.monotonic_ns()}"  # else two runners in the same second share it
        config.train_dataloader.batch_size = 4
        config.train_cfg.max_iters = 6
        config.param_scheduler = None
        config.default_hooks.checkpoint.update(interval=2, save_optimizer=True)
        config.merge_from_dict(options)
        return config

    return read


def files(config):
    names = {path.name for path in Path(config.work_dir).iterdir() if path.is_file() and path.suffix != ".py"}
    return names - {".in-use"}  # the lock of the training


def test_full_disk_keeps_what_is_there(cfg):
    hook = dict(type="maskfeat.FullDiskInTest", name="iter_4.pth")
    config = cfg(custom_hooks=[hook], **{"default_hooks.checkpoint.max_keep_ckpts": 1})
    with pytest.raises(ConfigError) as error:
        train(build_trainer(config))
    assert re.search(
        r"iter_4.pth cannot be written: No space left on device .*MB are free.*are kept. Make room.*--resume",
        str(error.value),
    )
    assert files(config) == {"iter_2.pth", "last_checkpoint"}
    assert Path(config.work_dir, "last_checkpoint").read_text().endswith("iter_2.pth")
    # the training continues when there is room
    runner = build_trainer(cfg(resume="auto", **{"default_hooks.checkpoint.max_keep_ckpts": 1}))
    train(runner)
    assert files(config) == {"iter_6.pth", "last_checkpoint"}


def test_full_disk_keeps_the_best(cfg):
    """mmengine would have removed the best checkpoint before writing the next one."""
    options = {
        "train_cfg.val_interval": 2,
        "default_hooks.checkpoint.save_best": "accuracy/top1",
        "default_hooks.checkpoint.rule": "less",
        "optim_wrapper.optimizer.lr": 0.0,
    }
    config = cfg(DIGITS, **options)
    train(build_trainer(config))
    best = [name for name in files(config) if name.startswith("best_")]
    assert best == ["best_accuracy_top1_iter_2.pth"]
    check_whole(Path(config.work_dir, best[0]))
    assert files(config) == {*best, "iter_2.pth", "iter_4.pth", "iter_6.pth", "last_checkpoint"}
    # the same training, with a better checkpoint at each evaluation
    hook = dict(type="maskfeat.FullDiskInTest", name="best_accuracy_top1_iter_4.pth")
    config = cfg(DIGITS, "second", custom_hooks=[hook, dict(type="maskfeat.EverBetterInTest")], **options)
    with pytest.raises(ConfigError, match="best_accuracy_top1_iter_4.pth cannot be written"):
        train(build_trainer(config))
    assert "best_accuracy_top1_iter_2.pth" in files(config)
    config = cfg(DIGITS, "third", custom_hooks=[dict(type="maskfeat.EverBetterInTest")], **options)
    train(build_trainer(config))
    assert [name for name in files(config) if name.startswith("best_")] == ["best_accuracy_top1_iter_6.pth"]


@pytest.mark.parametrize("metrics", long_except(["accuracy/top1", ["accuracy/top1", "accuracy/top5"]], 1))
@pytest.mark.parametrize("copied", [True, False])
def test_a_resumed_copy_leaves_the_first_training_alone(cfg, tmp_path, copied, metrics):
    """A better checkpoint replaces the best one of its own folder, and of no other folder."""
    options = {
        "train_cfg.val_interval": 2,
        "default_hooks.checkpoint.save_best": metrics,
        "default_hooks.checkpoint.rule": "less",
        "default_hooks.checkpoint.max_keep_ckpts": 1,
        "custom_hooks": [dict(type="maskfeat.EverBetterInTest")],
    }
    first = cfg(DIGITS, "first", **options, **{"train_cfg.max_iters": 4})
    train(build_trainer(first))
    before = {path: path.read_bytes() for path in Path(first.work_dir).glob("*.pth")}
    names = ["best_accuracy_top1_iter_4.pth", "best_accuracy_top5_iter_4.pth"]
    assert {path.name for path in before} == {"iter_4.pth", *(names if isinstance(metrics, list) else names[:1])}
    if copied:
        shutil.copytree(first.work_dir, tmp_path / "second")
    resume = "auto" if copied else str(Path(first.work_dir, "iter_4.pth"))
    second = cfg(DIGITS, "second", resume=resume, **options)
    train(build_trainer(second))
    assert {path: path.read_bytes() for path in Path(first.work_dir).glob("*.pth")} == before
    assert {name for name in files(second) if name.endswith(".pth")} == {
        path.name.replace("iter_4", "iter_6") for path in before
    }


@HOOKS.register_module(force=True)
class EverBetterInTest(Hook):
    """Hook that makes the accuracies fall from evaluation to evaluation."""

    priority = "VERY_HIGH"

    def after_val_epoch(self, runner, metrics=None):
        metrics["accuracy/top1"] = metrics["accuracy/top5"] = -float(runner.iter)


def damaged(path, tmp_path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return "iter_2.pth is not whole|is cut off"


def malicious(path, tmp_path):
    content = torch.load(path, weights_only=True)
    torch.save({**content, "message_hub": Malicious(tmp_path / "victim")}, path)
    return "is refused: it asks for .*system"


def of_another_width(path, tmp_path):
    content = torch.load(path, weights_only=True)
    content["state_dict"] = {name: torch.cat([value, value]) for name, value in content["state_dict"].items()}
    torch.save(content, path)
    return r"is of another.*Of another shape are .*, here \("


def of_other_names(path, tmp_path):
    content = torch.load(path, weights_only=True)
    content["state_dict"] = {f"other.{name}": value for name, value in content["state_dict"].items()}
    torch.save(content, path)
    return r"is of another.*It lacks "


def without_weights(path, tmp_path):
    content = torch.load(path, weights_only=True)
    torch.save(dict(meta=content["meta"], state_dict={}), path)
    return "holds no weights"


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """Return the checkpoint of a training of two steps."""
    folder = tmp_path_factory.mktemp("trained")
    before = os.getcwd()
    os.chdir(digits)
    try:
        config = load_config(str(CONFIGS / IMAGES), str(folder))
        config.train_dataloader.batch_size = 4
        config.param_scheduler = None
        config.train_cfg.max_iters = 2
        config.default_hooks.checkpoint.update(interval=2, save_optimizer=True)
        config.experiment_name = "trained"
        train(build_trainer(config))
    finally:
        os.chdir(before)
    return folder / "iter_2.pth"


@pytest.mark.parametrize("harm", [damaged, malicious, of_another_width, of_other_names, without_weights])
@pytest.mark.parametrize("how", ["resume", "load_from"])
def test_refused_before_the_model_is_touched(cfg, trained, tmp_path, harm, how):
    path = tmp_path / "iter_2.pth"
    path.write_bytes(trained.read_bytes())
    message = harm(path, tmp_path)
    config = cfg(resume=str(path)) if how == "resume" else cfg(load_from=str(path))
    runner = weights = None
    with pytest.raises(ConfigError, match=message) as error:
        runner = build_trainer(config)
        # the weights at the start, so that the initialization does not count as a change
        runner.model.init_weights()
        weights = {name: value.clone() for name, value in runner.model.state_dict().items()}
        runner._init_model_weights = lambda: None
        train(runner)
    assert str(path) in str(error.value)
    assert not (tmp_path / "victim").exists()
    if runner is not None:
        assert all(torch.equal(weights[name], value) for name, value in runner.model.state_dict().items())


def test_refused_by_url(cfg, trained, tmp_path, monkeypatch):
    """mmengine would unpickle a downloaded file without restrictions."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    path = tmp_path / "evil.pth"
    path.write_bytes(trained.read_bytes())
    malicious(path, tmp_path)
    with pytest.raises(ConfigError, match="is refused"):
        build_trainer(cfg(load_from=path.as_uri()))
    assert not (tmp_path / "victim").exists()


def test_pre_trained_weights_are_not_tested_as_a_classifier(cfg, trained):
    config = cfg(DIGITS)
    config.load_from = str(trained)
    with pytest.raises(ConfigError, match="cannot be tested: it is of another model.*It lacks .*head.fc"):
        build_tester(config).test()


def test_load_from_takes_a_model_with_another_head(cfg, trained):
    """The weights of this architecture are loaded, as before."""
    runner = build_trainer(cfg(load_from=str(trained), **{"neck.out_channels": 108}))
    weights = torch.load(trained, weights_only=True)["state_dict"]
    runner.train_loop  # noqa: B018
    runner.load_or_resume()
    assert all(torch.equal(weights[name], value) for name, value in runner.model.state_dict().items())


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_weights_alone_start_a_training_and_resume_none(cfg, trained, tmp_path, ending):
    path = tmp_path / f"weights.{ending}"
    write_checkpoint(read_checkpoint(trained), path, "maskfeat")
    for how in ("load_from", "resume"):
        runner = build_trainer(cfg(**{how: str(path)}))
        runner.train_loop  # noqa: B018
        if how == "load_from":
            runner.load_or_resume()
            weights = torch.load(trained, weights_only=True)["state_dict"]
            assert all(torch.equal(weights[name], value) for name, value in runner.model.state_dict().items())
        else:
            with pytest.raises(
                ConfigError, match=f"weights.{ending} cannot be resumed: it holds weights alone.*load_from"
            ):
                runner.load_or_resume()
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ConfigError, match=f"weights.{ending} is not"):
        build_trainer(cfg(load_from=str(path)))
