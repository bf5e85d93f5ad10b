"""A randomly changed demo config either trains for a step or is refused with one line that names the change."""

import re
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from config_mutations import Mutation, mutate, names
from long_variants import long_except
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from maskfeat_plugin.apis import ConfigError, build_trainer, load_config, train
from maskfeat_plugin.engine.process_info import resident_memory

CONFIGS = Path(__file__).parents[2] / "configs" / "demo"
DEMOS = sorted(path.name for path in CONFIGS.glob("*.py") if not path.stem.endswith("_long"))
CASES, SHORT, SHARD = 500, 60, 10
PATIENCE = 60  # s of processor time: no case may take longer


class Trained(BaseException):
    """Signal that a step of training is done. It is no Exception, so that no handler catches it."""


class StopAfterOneStep(Hook):
    priority = "LOWEST"

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        raise Trained


@pytest.fixture
def demo(digits, tmp_path, monkeypatch):
    """Return a function that reads a demo's config as a plain dict, with batches of two."""
    monkeypatch.chdir(digits)

    def read(name):
        config = load_config(CONFIGS / name, str(tmp_path / "work"))._cfg_dict.to_dict()
        config["train_dataloader"]["batch_size"] = 2
        config["train_dataloader"]["dataset"]["indices"] = 8
        config.update(log_level="ERROR", experiment_name=f"fuzz_{time.monotonic_ns()}")
        return config

    return read


@contextmanager
def no_running_on(what):
    def stop(*_):
        pytest.fail(f"{what} takes more than {PATIENCE} s of the processor")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def outcome(config, name):
    """Return None if a step was trained, else the message of the ConfigError; other exceptions are not caught."""
    try:
        with DefaultScope.overwrite_default_scope("mmengine"), no_running_on(name):
            runner = build_trainer(Config(config, filename=str(CONFIGS / name)))
            runner.register_hook(StopAfterOneStep())
            train(runner)
        pytest.fail("neither trained nor refused")
    except Trained:
        return None
    except ConfigError as error:
        return str(error)
    finally:  # a case may have changed global settings or opened files
        torch.use_deterministic_algorithms(False)
        experiment = config["experiment_name"]
        if MMLogger.check_instance_created(experiment):
            for handler in MMLogger.get_instance(experiment).handlers:
                handler.close()
        if Visualizer.check_instance_created(experiment):
            Visualizer.get_instance(experiment).close()


def check(seeds, demo):
    """Test all mutations of these seeds, and report all failures in one message."""
    wrong = []
    for seed in seeds:
        name = DEMOS[seed % len(DEMOS)]
        config, mutation = mutate(demo(name), seed)
        try:
            message = outcome(config, name)
        except Exception as error:
            wrong.append(f"{seed}, {name}: {mutation}: {type(error).__name__}: {error}")
            continue
        if message is not None and not ("\n" not in message and names(mutation, message)):
            wrong.append(f"{seed}, {name}: {mutation}: does not name it in one line: {message}")
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("start", long_except(range(0, SHORT, SHARD), 0))
def test_changed_configs(demo, start):
    check(range(start, start + SHARD), demo)


@pytest.mark.long
@pytest.mark.parametrize("start", range(SHORT, CASES, 4 * SHARD))
def test_more_changed_configs(demo, start):
    check(range(start, min(start + 4 * SHARD, CASES)), demo)


@pytest.mark.parametrize("name", DEMOS)
def test_unchanged_demo_trains(demo, name):
    assert outcome(demo(name), name) is None


def put(config, key, value):
    *path, last = key.split(".")
    for part in path:
        config = config[int(part) if part.isdigit() else part]
    config[last] = value


IMAGES, CLASSES = "maskfeat_vit-tiny_moving-digits.py", "vit-tiny_moving-digits-class.py"
CLIPS = "maskfeat_mvit-tiny_moving-digits.py"


@pytest.mark.parametrize(
    ("name", "key", "value", "words"),
    [
        # sizes that no machine can hold, and numbers of layers that would take forever to build
        (IMAGES, "model.backbone.arch.embed_dims", 10**9, "absurdly large"),
        (IMAGES, "model.backbone.arch.embed_dims", 999_999, "GB of memory"),
        (CLASSES, "model.backbone.arch.embed_dims", 999_999, "not enough memory"),
        (IMAGES, "model.backbone.arch.num_layers", 10**9, "absurdly large"),
        (CLIPS, "model.backbone.arch.num_layers", 100_000, "give it fewer layers"),
        (CLASSES, "model.backbone.arch.num_layers", 100_000, "give it fewer layers"),
        (IMAGES, "train_dataloader.batch_size", 10**9, "absurdly large"),
        (IMAGES, "train_dataloader.num_workers", 10**5, "from 0 to"),
        (CLIPS, "train_dataloader.dataset.pipeline.0.transforms.1.clip_len", 10**9, "absurdly large"),
    ],
)
def test_absurd_sizes_are_refused_before_they_take_memory(demo, name, key, value, words):
    config = demo(name)
    put(config, key, value)
    before = resident_memory()
    message = outcome(config, name)
    assert words in message and key.rpartition(".")[2] in message and str(value) in message
    assert resident_memory() - before < 2**30


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train_dataloader.dataset.indices", 1_281_167),  # number of images in ImageNet
        ("train_dataloader.dataset.max_refetch", 2_000_000),
        ("train_dataloader.sampler.seed", 2**31 - 1),
        ("train_dataloader.dataset.indices", [0, 1, 2, 3]),
        ("train_dataloader.dataset.metainfo", dict(num_images=14_197_122)),
        ("train_cfg.max_iters", 5_000_000),
        ("randomness", dict(seed=2**32 - 1)),
    ],
)
def test_numbers_that_are_no_sizes_may_be_large(demo, key, value):
    config = demo(IMAGES)
    put(config, key, value)
    assert outcome(config, IMAGES) is None


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        (
            IMAGES,
            "model.neck.in_channel",
            96,
            "model.neck .*it has no argument 'in_channel'; did you mean 'in_channels'",
        ),
        (IMAGES, "model.backbone.type", "maskfeat.MaskdViT", "model.backbone .*did you mean 'maskfeat.MaskedViT'"),
        (IMAGES, "model.neck.in_channels", 97, r"model.neck .*\bin_channels=97.*model.backbone.arch.embed_dims=96"),
        (CLASSES, "model.backbone.patch_size", "8", r"model.backbone .*patch_size='8'"),
        (
            IMAGES,
            "train_dataloader.dataset.pipeline.0.transforms.1.scale",
            "big",
            r"pipeline\[0\].transforms\[1\] .*scale",
        ),
        (IMAGES, "train_cfg.max_iters", 5, r"param_scheduler\[1\] .*begin=200.*train_cfg \(max_iters=5\)"),
        (IMAGES, "optim_wrapper.optimizer.lr", "fast", "optim_wrapper.*lr='fast'"),
        (IMAGES, "default_hooks.logger.interval", 0, "default_hooks.logger .*interval"),
        (IMAGES, "param_scheduler.0.start_factor", 7, r"param_scheduler\[0\] .*start_factor=7"),
        (IMAGES, "randomness.sed", 1, "randomness has no setting 'sed'; did you mean 'seed'"),
        (IMAGES, "optim_wrapper", None, "has no optim_wrapper"),
    ],
)
def test_what_the_line_says(demo, name, key, value, message):
    config = demo(name)
    put(config, key, value)
    line = outcome(config, name)
    assert re.search(message, line) and "\n" not in line


def test_errors_after_the_first_step_stay_what_they_are(demo):
    class Fails(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == 1:
                raise ZeroDivisionError("a fault of the code")

    runner = build_trainer(Config(demo(IMAGES), filename=str(CONFIGS / IMAGES)))
    runner.register_hook(Fails())
    with pytest.raises(ZeroDivisionError, match="a fault of the code"):
        train(runner)


def test_the_cause_stays_at_hand(demo):
    config = demo(IMAGES)
    put(config, "model.neck.in_channels", 97)
    runner = build_trainer(Config(config, filename=str(CONFIGS / IMAGES)))
    with pytest.raises(ConfigError) as caught:
        train(runner)
    assert isinstance(caught.value.__cause__, RuntimeError) and "mat1 and mat2" in str(caught.value.__cause__)


def test_names_is_no_formality():
    """The judge of the messages refuses a message about another part of the config."""
    mutation = Mutation(("model", "neck", "in_channels"), "value", 96, 97)
    assert names(mutation, "model.neck fails; its settings are in_channels=97")
    assert names(mutation, "model.neck.in_channels=97 is wrong")
    assert not names(mutation, "model.head fails; its settings are in_channels=97")
    assert not names(mutation, "model.neck fails")
