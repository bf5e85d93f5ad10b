"""Pictures during training: their content, their files, and that they do not change the training."""

import random
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from maskfeat_plugin.apis import ConfigError, build_trainer, load_config
from maskfeat_plugin.registry import HOOKS

CONFIGS = Path(__file__).parents[2] / "configs"
IMAGE, CLIP = "demo/maskfeat_vit-tiny_moving-digits.py", "demo/maskfeat_mvit-tiny_moving-digits.py"
SELF_TEACHER = "targets/maskfeat-self-teacher_vit-tiny_moving-digits.py"


@pytest.fixture
def cfg(digits, tmp_path, monkeypatch):
    """Return a reader of configs that train 4 steps on a tiny MovingDigits and draw two samples every third step."""
    monkeypatch.chdir(digits)

    def read(path=IMAGE, **hook):
        config = load_config(str(CONFIGS / path), str(tmp_path / f"work_{time.monotonic_ns()}"))
        config.experiment_name = f"maskfeat_{time.monotonic_ns()}"  # by default two runners in the same second share it
        config.train_dataloader.update(batch_size=8)
        config.train_cfg.max_iters = 4
        config.param_scheduler = None
        config.visualizer.type = "maskfeat.MaskFeatVisualizer"
        hook = dict(type="maskfeat.MaskFeatVisualizationHook", interval=3, indices=(0, 5), **hook)
        config.default_hooks.visualization = hook
        return config

    return read


class Modes(Hook):
    """Hook that records whether each step was in training mode."""

    priority = "VERY_LOW"

    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append(all(module.training for module in runner.model.modules()))


def train(config):
    runner = build_trainer(config)
    runner.register_hook(Modes())
    runner.train()
    runner.visualizer.close()
    return runner


def pictures(runner):
    folder = Path(runner.log_dir, "vis_data", "vis_image")
    return {path.name: path for path in folder.glob("*")}


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(float)


@pytest.mark.parametrize("path", [IMAGE, CLIP])
def test_the_same_samples_are_drawn_at_the_start_every_n_steps_and_at_the_end(cfg, path):
    runner = train(cfg(path))
    found = pictures(runner)
    endings = ["png"] if path == IMAGE else ["gif", "png"]
    assert sorted(found) == [f"prediction_{i}_{s}.{e}" for i in (0, 5) for s in (0, 3, 4) for e in endings]
    for index in (0, 5):
        begin, middle, end = (pixels(found[f"prediction_{index}_{step}.png"]) for step in (0, 3, 4))
        # the masked input, on the left or at the top, does not change; the prediction, beside or below it, does
        part = np.s_[34:, :240] if path == IMAGE else np.s_[60:284]
        rest = np.s_[34:, 256:496] if path == IMAGE else np.s_[310:534]
        for later in (middle, end):
            np.testing.assert_array_equal(begin[part], later[part])
            assert np.abs(begin[rest] - later[rest]).mean() > 0.1
    assert np.abs(pixels(found["prediction_0_0.png"]) - pixels(found["prediction_5_0.png"])).mean() > 5
    events = EventAccumulator(str(Path(runner.log_dir, "vis_data"))).Reload()
    assert [event.step for event in events.Images("prediction_5")] == [0, 3, 4]
    if path == CLIP:
        assert Image.open(found["prediction_0_3.gif"]).n_frames == 4


@pytest.mark.parametrize("path", [IMAGE, CLIP, SELF_TEACHER])
def test_training_is_the_same_with_and_without_pictures(cfg, path):
    states, ends = [], []
    for drawn in (True, False):
        config = cfg(path, attention=True)
        if not drawn:
            del config.default_hooks["visualization"]
        runner = train(config)
        modes = next(hook for hook in runner.hooks if isinstance(hook, Modes))
        assert modes.seen == [True] * 4 and runner.model.training
        states.append(runner.model.state_dict())
        ends.append((torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()))
        assert bool(pictures(runner)) == drawn
    assert list(states[0]) == list(states[1])
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    assert ends[0] == ends[1]


def test_given_samples_are_drawn(cfg):
    """The masks of the test pipeline have a seed, so they are the same with any seed of the training."""
    shown = []
    for seed in (0, 1):
        config = cfg(attention=True)
        config.randomness.seed = seed
        dataset = dict(config.train_dataloader.dataset, pipeline=config.test_pipeline)
        config.default_hooks.visualization.dataset = dataset
        config.train_cfg.max_iters = 1
        shown.append(pixels(pictures(train(config))["prediction_0_0.png"]))
    np.testing.assert_array_equal(shown[0][:, :250], shown[1][:, :250])
    assert shown[0].shape[1] == 8 + 5 * 248  # with the attention too


def test_videos_instead_of_gifs(cfg):
    config = cfg(CLIP, animation="mp4")
    config.train_cfg.max_iters = 1
    assert {Path(name).suffix for name in pictures(train(config))} == {".png", ".mp4"}


def test_the_first_of_two_processes_draws(cfg, trainings, tmp_path):
    config = cfg(CLIP)
    config.dump(tmp_path / "config.py")
    job = dict(config=str(tmp_path / "config.py"), work_dir=config.work_dir, options={}, output=str(tmp_path / "out"))
    assert trainings.run(**job, processes=2) == [0, 0], (tmp_path / "out").read_text()
    drawn = sorted(path.name for path in Path(config.work_dir).glob("*/vis_data/vis_image/*"))
    assert drawn == [f"prediction_{i}_{s}.{e}" for i in (0, 5) for s in (0, 3, 4) for e in ("gif", "png")]


def test_what_cannot_be_drawn_is_named(cfg):
    hook = dict(type="maskfeat.MaskFeatVisualizationHook")
    with pytest.raises(ConfigError, match="interval=0 has to be at least 1"):
        HOOKS.build(dict(hook, interval=0))
    with pytest.raises(ConfigError, match="animation='avi' has to be 'gif', 'mp4' or None"):
        HOOKS.build(dict(hook, animation="avi"))
    config = cfg()
    config.visualizer.type = "Visualizer"
    with pytest.raises(ConfigError, match="Set visualizer.type='maskfeat.MaskFeatVisualizer'"):
        train(config)
    config = cfg()
    config.default_hooks.visualization.indices = (0, 99)
    with pytest.raises(ConfigError, match=r"indices=\[99\] are not in the data set of \d+ samples"):
        train(config)
    config = cfg("demo/vit-tiny_moving-digits-class.py")
    with pytest.raises(ConfigError, match="model.type='ImageClassifier' .* needs maskfeat.MaskFeat"):
        train(config)
