"""Errors point to a key of the config only where the traceback or the config proves it, else to no key."""

import re
import time
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import VISBACKENDS, DefaultScope
from mmengine.visualization import LocalVisBackend

from maskfeat_plugin.apis import ConfigError, build_trainer, load_config, train
from maskfeat_plugin.config.key_names import with_keys
from maskfeat_plugin.registry import HOOKS, TRANSFORMS

CONFIGS = Path(__file__).parents[2] / "configs" / "demo"
IMAGES, CLASSES = "maskfeat_vit-tiny_moving-digits.py", "vit-tiny_moving-digits-class.py"
CLIPS, MOTION = "maskfeat_mvit-tiny_moving-digits.py", "mvit-tiny_moving-digits-motion.py"
# Parts of the message for a label without a class in the model
LABEL, NO_CLASS = "train_dataloader.dataset: .* has the label", "and the model has the classes 0 to 1"
# Parts of old messages that led away from the fault
GUESSES = ("see also", "it has to fit", "the same numbers")


@HOOKS.register_module(force=True)
class RaisingHook(Hook):
    """Hook that raises a given error in the first step."""

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
    """Backend that walks through the config before it fails, as the backends of some services do."""

    def add_config(self, config, **kwargs):
        for step in config.train_dataloader.dataset.pipeline:
            if step["type"] == "RandomCrop":
                raise RuntimeError("the service does not answer")


@pytest.fixture
def refused(digits, tmp_path, monkeypatch):
    """Return the one-line error of a training with some settings of a demo's config changed."""
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
        # names that no registry has, also where mmengine does not check them
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
        # data that a backend holds when it fails are not the cause
        (
            IMAGES,
            {"visualizer.vis_backends": [dict(type="RaisingBackend")]},
            r"^visualizer.vis_backends\[0\] .*RuntimeError: the service does not answer",
            "pipeline",
        ),
        # labels without a class in the model
        (CLASSES, {"model.head.num_classes": 2}, f"{LABEL} 5, {NO_CLASS}", "target_generator"),
        (MOTION, {"model.cls_head.num_classes": 2}, f"{LABEL} 7, {NO_CLASS}", "average_clips"),
        # numbers in an error are not settings of the model
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
        # for an error without a text, the line of code is named
        (
            IMAGES,
            {"custom_hooks": [dict(type="maskfeat.RaisingHook", kind="assertion")]},
            r"^custom_hooks\[0\] .*AssertionError in .*test_error_pointers.py, line \d+: raise self.error",
            "^of",
        ),
        # an error that a hook itself reports as an error of the config
        (
            IMAGES,
            {"custom_hooks": [dict(type="maskfeat.MaskRatioHook", schedule=dict(type="linear", ratio=0.8))]},
            r"^MaskRatioHook: custom_hooks\[0\].by_epoch=True, but .* Set custom_hooks\[0\].by_epoch=False",
            "model",
        ),
        # folders
        (IMAGES, {"work_dir": "/proc/nope"}, "^work_dir='/proc/nope': nothing can be written there", "cannot be built"),
        (IMAGES, {"work_dir": "{file}/work"}, "^work_dir='.*/work': nothing can be written there", "cannot be built"),
        (IMAGES, {"work_dir": "{file}"}, "^work_dir=.*nothing can be written there", "cannot be built"),
        (IMAGES, {"work_dir": 3}, "^work_dir=3: ", "cannot be built"),
        # sizes that torch compares identify the other setting, if only one setting has that size
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
        # a wrong type is named if the failing code has the value in a variable
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


TARGETS = "model.target_generator.targets"
FRAMES = dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=4)
TEACHER = dict(
    type="maskfeat.TeacherGenerator",
    teacher=dict(type="maskfeat.VisionTransformer", arch="deit-tiny", img_size=32, patch_size=8, out_type="featmap"),
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{TARGETS}.hog.nbins": 0}, rf"{TARGETS}.hog \(maskfeat.HOGGenerator\) of .*: {TARGETS}.hog.nbins must be"),
        # of two targets of one kind, the wrong one
        ({f"{TARGETS}.pixel": FRAMES, f"{TARGETS}.hog.norm": "l7"}, f": {TARGETS}.hog.norm='l7' is unknown"),
        ({f"{TARGETS}.pixel": FRAMES, f"{TARGETS}.hog.cell_size": 5}, f": {TARGETS}.hog.cell_size=5 does not divide"),
        # a part without its own key, while the model is built
        (
            {f"{TARGETS}.pixel": dict(TEACHER, mean=[1, 2], std=[1, 2, 3])},
            ": .*pixel.mean has 2 numbers and std 3,",
        ),
        (
            {f"{TARGETS}.pixel": dict(type="maskfeat.SelfTeacherGenerator", num_layers=9)},
            f": {TARGETS}.pixel.num_layers=9, .* set {TARGETS}.pixel.num_layers to that or fewer",
        ),
        # an error of one part about another
        ({"model.neck.necks.hog.out_channels": 100}, "set model.neck.necks.hog.out_channels=108 of the neck"),
        ({TARGETS: {}}, f": {TARGETS} is empty"),
    ],
)
def test_errors_of_one_target_of_several(refused, changes, message):
    line = refused("../targets/maskfeat-pixel-hog_vit-tiny_moving-digits.py", changes)
    assert re.search(message, line), line
    assert "target_generator.target_generator" not in line and "model.model" not in line


def test_names_that_are_no_arguments_stay():
    """Examples of a config, files and class names in the text of an error, and errors of other packages, stay."""
    nodes = {
        "model": dict(neck={}, head={}),
        "model.neck": dict(type="N", size=3, data=""),
        "model.head": dict(scale=2),
    }

    def named(text, source="maskfeat_plugin.models"):
        scope = dict(__name__=source)
        exec("def fail(text):\n    raise ValueError(text)", scope)
        with pytest.raises(ValueError) as caught:
            scope["fail"](text)
        return with_keys(text, caught.value, "model.neck", None, nodes)

    assert named("size must be 4; set scale=1") == "model.neck.size must be 4; set model.head.scale=1"
    assert named("the size is 3; set size to 4") == "the size is 3; set model.neck.size to 4"
    assert named("head.scale=2 and neck.size=3") == "model.head.scale=2 and model.neck.size=3"
    for text in ("the size is 3", "use dict(type='N', size=3)", "type='N' is old", "sizes=3", "'size=3' is no number"):
        assert named(text) == text
    for text in ("/tmp/size=3 and data/size=4 are lacking", "N.size=3", "model.neck.size=3 is small"):
        assert named(text) == text
    assert named("size=3 is small", "mmpretrain.models") == "size=3 is small"


def test_an_error_from_nowhere_names_the_config_alone(refused, monkeypatch):
    """A user's runner that fails before it builds anything."""
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
