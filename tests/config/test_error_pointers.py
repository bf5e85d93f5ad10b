"""Errors point to a key of the config only where the traceback or the config proves it; else they point to nothing."""

import re
import time
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import VISBACKENDS, DefaultScope
from mmengine.visualization import LocalVisBackend

from maskfeat_plugin.apis import ConfigError, build_trainer, load_config, train
from maskfeat_plugin.registry import HOOKS, TRANSFORMS

CONFIGS = Path(__file__).parents[2] / "configs" / "demo"
IMAGES, CLASSES = "maskfeat_vit-tiny_moving-digits.py", "vit-tiny_moving-digits-class.py"
CLIPS, MOTION = "maskfeat_mvit-tiny_moving-digits.py", "mvit-tiny_moving-digits-motion.py"
# How a label is refused that the model has no class for
LABEL, NO_CLASS = "train_dataloader.dataset: .* has the label", "and the model has the classes 0 to 1"
# How messages once led away from the fault
GUESSES = ("see also", "it has to fit", "the same numbers")


@HOOKS.register_module(force=True)
class RaisingHook(Hook):
    """Raises in the first step what it is told to."""

    def __init__(self, kind, text=None):
        self.error = dict(assertion=AssertionError, value=ValueError, runtime=RuntimeError, type=TypeError)[kind]
        self.text = text

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        raise self.error(self.text) if self.text else self.error  # without a text


@TRANSFORMS.register_module(force=True)
class RaisingTransform:
    def __call__(self, results):
        raise ValueError("the clip has 4 frames at fps=96.")


@VISBACKENDS.register_module(force=True)
class RaisingBackend(LocalVisBackend):
    """Walks through the config before it fails, as the backends of some services do."""

    def add_config(self, config, **kwargs):
        for step in config.train_dataloader.dataset.pipeline:
            if step["type"] == "RandomCrop":
                raise RuntimeError("the service does not answer")


@pytest.fixture
def refused(digits, tmp_path, monkeypatch):
    """The line of a training of a demo's config with some settings changed."""
    monkeypatch.chdir(digits)

    def run(name, changes):
        options = {"train_dataloader.batch_size": 4, "train_dataloader.dataset.indices": 16, "log_level": "ERROR"}
        cfg = load_config(CONFIGS / name, str(tmp_path / "work"), options)
        cfg = Config(cfg._cfg_dict.to_dict(), filename=str(CONFIGS / name))
        cfg.experiment_name = f"pointers_{time.monotonic_ns()}"
        for key, value in changes.items():
            *path, last = [int(part) if part.isdigit() else part for part in key.split(".")]
            node = cfg
            for part in path:
                node = node[part]
            node[last] = value
        with DefaultScope.overwrite_default_scope("mmengine"), pytest.raises(ConfigError) as caught:
            train(build_trainer(cfg))
        line = str(caught.value)
        assert "\n" not in line and not any(guess in line for guess in GUESSES)
        return line

    return run


PIPELINE = "train_dataloader.dataset.pipeline"


@pytest.mark.parametrize(
    ("name", "changes", "message", "wrong"),
    [
        # names that no registry has, also where mmengine takes what it finds without a look
        (
            IMAGES,
            {"optim_wrapper.optimizer.type": "AdamWW"},
            r"optim_wrapper.optimizer .*'AdamWW'.*'AdamW'",
            "callable",
        ),
        (
            IMAGES,
            {"optim_wrapper.optimizer.type": "mmpretrain.Lam"},
            "optim_wrapper.optimizer .*'mmpretrain.Lam'",
            "None",
        ),
        (
            IMAGES,
            {"train_dataloader.collate_fn": dict(type="pseudo_colate")},
            r"train_dataloader.collate_fn .*did you mean 'pseudo_collate'",
            "batch_size",
        ),
        (
            IMAGES,
            {"train_dataloader.worker_init_fn": dict(type="no_function")},
            "train_dataloader.worker_init_fn .*'no_function' is not registered",
            "batch_size",
        ),
        (
            IMAGES,
            {"model_wrapper_cfg": dict(type="Wraper")},
            "^model_wrapper_cfg .*'Wraper' is not registered",
            "model.b",
        ),
        (
            IMAGES,
            {"visualizer.vis_backends": [dict(type="NoBackend")]},
            r"^visualizer.vis_backends\[0\] .*'NoBackend' is not registered",
            "pipeline",
        ),
        # what a backend holds when it fails is not what is wrong
        (
            IMAGES,
            {"visualizer.vis_backends": [dict(type="RaisingBackend")]},
            r"^visualizer.vis_backends\[0\] .*RuntimeError: the service does not answer",
            "pipeline",
        ),
        # labels that the model has no class for
        (CLASSES, {"model.head.num_classes": 2}, f"{LABEL} 5, {NO_CLASS}", "target_generator"),
        (MOTION, {"model.cls_head.num_classes": 2}, f"{LABEL} 7, {NO_CLASS}", "average_clips"),
        # numbers of an error are no settings of the model
        (
            IMAGES,
            {PIPELINE: [dict(type="maskfeat.RaisingTransform")]},
            r"pipeline\[0\] .*the clip has 4 frames at fps=96",
            "num_layers|embed_dims",
        ),
        (
            IMAGES,
            {"custom_hooks": [dict(type="maskfeat.RaisingHook", kind="runtime", text="4 is not 96")]},
            r"^custom_hooks\[0\] .*RuntimeError: 4 is not 96",
            "num_layers|embed_dims",
        ),
        # an error without a text names the line of code
        (
            IMAGES,
            {"custom_hooks": [dict(type="maskfeat.RaisingHook", kind="assertion")]},
            r"^custom_hooks\[0\] .*AssertionError in .*test_error_pointers.py, line \d+: raise self.error",
            "^of",
        ),
        # folders
        (IMAGES, {"work_dir": "/proc/nope"}, "^work_dir='/proc/nope': nothing can be written there", "cannot be built"),
        (IMAGES, {"work_dir": "{file}/work"}, "^work_dir='.*/work': nothing can be written there", "cannot be built"),
        (IMAGES, {"work_dir": "{file}"}, "^work_dir=.*nothing can be written there", "cannot be built"),
        (IMAGES, {"work_dir": 3}, "^work_dir=3: ", "cannot be built"),
        # sizes that torch compares prove the other one, where one setting alone has it
        (
            IMAGES,
            {"model.neck.in_channels": 97},
            "^model.neck .*in_channels=97.*model.backbone.arch.embed_dims=96",
            "head",
        ),
        (IMAGES, {"model.neck.out_channels": 109}, "set model.neck.out_channels=108", "embed_dims"),
        (
            IMAGES,
            {"param_scheduler.1.begin": 1300},
            r"^param_scheduler\[1\] .*begin=1300.*train_cfg \(max_iters=1200\)",
            "optim",
        ),
        # a wrong type is named where the code that fails has the value at hand
        (IMAGES, {"optim_wrapper.optimizer.lr": "fast"}, r"look at lr='fast' \(float or Tensor expected\)", "betas"),
    ],
)
def test_only_what_is_proven(refused, tmp_path, name, changes, message, wrong):
    (tmp_path / "file").write_text("")
    changes = {
        key: value.format(file=tmp_path / "file") if isinstance(value, str) else value for key, value in changes.items()
    }
    line = refused(name, changes)
    assert re.search(message, line), line
    assert not re.search(wrong, line), line


def test_an_error_from_nowhere_names_the_config_alone(refused, monkeypatch):
    """A runner of others that fails before it builds anything."""
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    class FailingRunner(Runner):
        @classmethod
        def from_cfg(cls, cfg):
            raise AssertionError

    RUNNERS.register_module(module=FailingRunner, force=True)
    line = refused(IMAGES, {"runner_type": "FailingRunner"})
    assert line.startswith(f"the config {CONFIGS / IMAGES} cannot be built: AssertionError in ")
    assert line.endswith("raise AssertionError")
