"""Plans of studies: the runs with their configs, seeds and folders."""

import copy
import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from maskfeat_plugin.config import check
from maskfeat_plugin.config.load import load_config
from maskfeat_plugin.config.sample_sizes import sample_channels
from maskfeat_plugin.config.training_inputs import input_size, mask_generator
from maskfeat_plugin.config.walking import remove_weights, replace_text
from maskfeat_plugin.errors import ConfigError, describe
from maskfeat_plugin.registry import MODELS, TRANSFORMS
from maskfeat_plugin.running.log_streams import quiet
from projects.demo.tasks import IMAGE, SEEDS, TASKS, VIDEO
from projects.demo.train import load_config as load_demo_config
from projects.demo.train import read_json, write_json
from projects.demo.training_length import length_of, set_length

from .data import ROOTS
from .settings import CLASSIFIER, SCRATCH, STUDIES, VERSION, Setting, Study, kind_of

RESULT = "result.json"
FOLDERS = {"pretrain": "pretraining", "finetune": "finetuning"}
# Known metrics, and the factors that turn them into percentages.
METRICS = {"accuracy/top1": 1.0, "acc/top1": 100.0}


@dataclass(frozen=True)
class Length:
    """Length of the runs with the demo's models. It is about the shortest that shows a clear effect of pre-training.

    Args:
        steps (int): Pre-training steps of the base setting.
        finetune_steps (int): Fine-tuning steps, the same for all settings.
        options (dict): Further settings of the pre-training config.
        finetune_options (dict): Further settings of the fine-tuning config.
        step_seconds (tuple[float, float]): Measured seconds of a pre-training and a fine-tuning step on one core.
        rest_seconds (float): Seconds of all other work of a run.
    """

    steps: int
    finetune_steps: int
    options: dict
    finetune_options: dict
    step_seconds: tuple[float, float]
    rest_seconds: float


# Found by trials on the data of the studies. The learning rate of fine-tuning on images is the better of two after HOG;
# without pre-training both are alike. On clips, accuracy rises late and steeply, so fine-tuning must be long enough.
# Trials of clips, seed 0, pre-training and fine-tuning steps: HOG 27, pixels 16 (1500, 300); HOG 80, pixels 91
# (1500, 600), where HOG of another seed stays at 13; HOG 85, pixels 12 (1000, 600); HOG 90, pixels 30 (1000, 900). No
# pre-training stays at 13. The study "schedule" compares HOG and pixels after a longer pre-training.
LENGTHS = {
    "image": Length(
        1500,
        200,
        {
            "train_dataloader.batch_size": 32,
            "optim_wrapper.optimizer.lr": 1.5e-3,
            "optim_wrapper.paramwise_cfg.custom_keys": dict(
                pos_embed=dict(lr_mult=10.0), mask_token=dict(lr_mult=10.0)
            ),
        },
        {"train_dataloader.batch_size": 32, "optim_wrapper.optimizer.lr": 5e-4},
        (0.056, 0.045),
        8.0,
    ),
    "video": Length(
        1000,
        900,
        {"train_dataloader.batch_size": 32, "optim_wrapper.optimizer.lr": 2e-3},
        {"train_dataloader.batch_size": 16, "optim_wrapper.optimizer.lr": 2e-3},
        (0.15, 0.075),
        12.0,
    ),
}
# Training length of the classifier that gives supervised targets, as a multiple of the fine-tuning length.
CLASSIFIER_LENGTH = 5


@dataclass(frozen=True)
class Base:
    """Configs and lengths that a study varies.

    Args:
        kind (str): "image" or "video".
        pretrain (Config): Config of pre-training.
        finetune (Config): Config of fine-tuning.
        steps (int): Length of pre-training, in the unit of its loop.
        finetune_steps (int): Length of fine-tuning, in the unit of its loop.
        metric (str, optional): Metric to compare. None means top-1 accuracy, or else the first metric of the test.
        digits_root (Path, optional): Root of MovingDigits, None for other data.
    """

    kind: str
    pretrain: Config
    finetune: Config
    steps: int
    finetune_steps: int
    metric: str | None = None
    digits_root: Path | None = None


@dataclass
class Run:
    """Pre-training and its evaluation with one seed.

    Args:
        setting (str): Name of the first setting that needs the run.
        kind (str): "image" or "video".
        seed (int): Seed of all random numbers.
        pretrain (Config, optional): Config of pre-training. None means no pre-training.
        finetune (Config): Config of fine-tuning.
        metric (str, optional): See :class:`Base`.
        folder (Path): Folder of the run. Its name contains the hash of the configs.
        seconds (float): Estimated duration, in seconds for the demo's models, else in steps.
        needs (Path, optional): Folder of a run that must be finished first.
    """

    setting: str
    kind: str
    seed: int
    pretrain: Config | None
    finetune: Config
    metric: str | None
    folder: Path
    seconds: float
    needs: Path | None = None

    @property
    def result(self) -> dict | None:
        """Result of the run, or None before it has run."""
        path = self.folder / RESULT
        return read_json(path) if path.is_file() else None

    @property
    def title(self) -> str:
        """Name in lines of progress."""
        return f"{self.kind}, {self.setting}, seed {self.seed}"


@dataclass
class Plan:
    """All runs of some studies, each once.

    Args:
        runs (list[Run]): The runs, in the order in which they start.
        cells (dict): Runs of each study's table: (study, kind) -> setting -> runs, one per seed.
        left_out (list[str]): Settings that do not apply to the base, with the reasons.
    """

    runs: list[Run] = field(default_factory=list)
    cells: dict[tuple[str, str], dict[Setting, list[Run]]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def demo_base(
    kind: str,
    steps: int | None = None,
    finetune_steps: int | None = None,
    options: dict | None = None,
    data_root: Path | None = None,
) -> Base:
    """Build the base of studies on MovingDigits with the demo's small models.

    Args:
        kind (str): "image" or "video".
        steps (int, optional): Steps of pre-training. Defaults to None, see ``LENGTHS``.
        finetune_steps (int, optional): Steps of fine-tuning. Defaults to None, see ``LENGTHS``.
        options (dict, optional): Further settings of the pre-training config. Defaults to None.
        data_root (Path, optional): Root of MovingDigits. Defaults to None, the root of :func:`build_data`.

    Returns:
        Base: The base for :func:`plan_runs`.
    """
    data_root = (data_root or ROOTS[kind]).resolve()
    pretraining, task = (IMAGE, TASKS["digit"]) if kind == "image" else (VIDEO, TASKS["motion"])
    length = LENGTHS[kind]
    unused = Path("work_dirs")  # each run has a folder of its own
    return Base(
        kind,
        load_demo_config(pretraining.config, unused, data_root, {**length.options, **(options or {})}),
        load_demo_config(task.finetune_config, unused, data_root, length.finetune_options),
        steps or length.steps,
        finetune_steps or length.finetune_steps,
        task.metric,
        data_root,
    )


def config_base(
    pretrain: str,
    finetune: str,
    steps: int | None = None,
    finetune_steps: int | None = None,
    options: dict | None = None,
    metric: str | None = None,
) -> Base:
    """Build the base of studies with the user's own configs, of any data set.

    Args:
        pretrain (str): Config file of pre-training.
        finetune (str): Config file of fine-tuning the same backbone, with a test.
        steps (int, optional): Length of pre-training. Defaults to None, the config's.
        finetune_steps (int, optional): Length of fine-tuning. Defaults to None, the config's.
        options (dict, optional): Further settings of the pre-training config. Defaults to None.
        metric (str, optional): Metric to compare. Defaults to None, see :class:`Base`.

    Returns:
        Base: The base for :func:`plan_runs`.

    Raises:
        ConfigError: If a config cannot be used.
    """
    first, second = load_config(pretrain, options=options), load_config(finetune)
    for cfg, path in ((first, pretrain), (second, finetune)):
        if cfg.get("train_cfg") is None or cfg.get("train_dataloader") is None:
            raise ConfigError(f"{path} has no train_cfg or no train_dataloader. Give a config of a training.")
    if second.get("test_dataloader") is None or second.get("test_cfg") is None:
        raise ConfigError(f"{finetune} has no test_dataloader or no test_cfg. The study needs a test: add both keys.")
    if "target_generator" not in first.model:
        raise ConfigError(f"{pretrain} has no model.target_generator. Give a config of pre-training with MaskFeat.")
    for cfg, stage in ((first, "train"), (second, "train"), (second, "test")):
        check(cfg, stage)
    lengths = (steps or length_of(first), finetune_steps or length_of(second))
    return Base(kind_of(first), first, second, *lengths, metric)


def plan_runs(
    studies: Sequence[Study], bases: Sequence[Base], seeds: Sequence[int], work_dir: Path, extra: Sequence[Setting] = ()
) -> Plan:
    """List the runs of studies. A run that several settings or studies share is listed once.

    Args:
        studies (Sequence[Study]): The studies.
        bases (Sequence[Base]): Bases of the studies, one per kind.
        seeds (Sequence[int]): Seeds. Each setting has one run per seed.
        work_dir (Path): Folder of the runs.
        extra (Sequence[Setting]): Settings to add to the study of targets. Defaults to ().

    Returns:
        Plan: The runs. Nothing is written.

    Raises:
        ConfigError: If no setting applies.
    """
    plan = Plan()
    known: dict[str, Run] = {}
    for base in bases:
        for study in studies:
            cells = {}
            used = _changed_finetuning(base, study)
            added = tuple(extra) if study.name == "targets" else ()
            for setting in (*study.settings.get(base.kind, ()), *added):
                try:
                    pretrain = resolve(setting, base) if setting.length else None
                except ConfigError as error:
                    plan.left_out.append(f"{study.name}, {base.kind}, {setting.name}: left out, {error}")
                    continue
                cells[setting] = [_make_run(setting, used, pretrain, seed, work_dir, known) for seed in seeds]
            if cells:
                plan.cells[study.name, base.kind] = cells
    if not known:
        raise ConfigError("no setting applies: " + "; ".join(plan.left_out or ["the study has none for this config"]))
    # The classifier first, and the runs that need it last, so that no process waits for it.
    plan.runs = sorted(known.values(), key=lambda run: (run.needs is not None, run.setting != "classifier"))
    return plan


def _changed_finetuning(base: Base, study: Study) -> Base:
    """Return the base with a study's changes to the config of fine-tuning."""
    finetune = copy.deepcopy(base.finetune)
    for change in study.finetuning:
        change(finetune)
    return dataclasses.replace(base, finetune=finetune)


def resolve(setting: Setting, base: Base) -> Config:
    """Build the pre-training config of a setting, with a neck that fits the target.

    Args:
        setting (Setting): The setting.
        base (Base): The base whose config the setting changes.

    Returns:
        Config: The config.

    Raises:
        ConfigError: If the setting does not apply to the base.
    """
    if setting.digits_only and base.digits_root is None:
        raise ConfigError("it needs the demo's models on MovingDigits. Give your own target with --target NAME=CONFIG")
    cfg = copy.deepcopy(base.pretrain)
    for change in setting.changes:
        change(cfg)
    set_length(cfg, max(1, round(base.steps * setting.length)))
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
        try:
            fit_neck(cfg)
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise ConfigError(describe(error)) from error
    return cfg


def fit_neck(cfg: Config) -> None:
    """Set the width of the neck to the width of the target. If there are several targets, each gets its own neck.

    Args:
        cfg (Config): Config of pre-training, changed in place.

    Raises:
        ValueError: If the target does not fit the input or the mask.
    """
    TRANSFORMS.build(mask_generator(cfg))  # fails if the mask generator does not fit the grid
    neck = cfg.model.neck
    found = target_widths(cfg)
    if not isinstance(found, dict):
        neck.out_channels = found
        return
    if "necks" in neck:
        for name, width in found.items():
            neck.necks[name].out_channels = width
        return
    necks = {name: {**copy.deepcopy(neck), "out_channels": width} for name, width in found.items()}
    cfg.model.neck = dict(type="maskfeat.MultiTargetNeck", necks=necks)


@torch.no_grad()
def target_widths(cfg: Config) -> int | dict[str, int]:
    """Return the number of values or classes per token, found by computing the target of a random input.

    Args:
        cfg (Config): Config of pre-training. Weights of teachers are not read.

    Returns:
        int | dict[str, int]: The number of one target, or the numbers of several targets by name.
    """
    model = nn.Module()
    grid = mask_generator(cfg)["token_grid"]
    mask = torch.zeros(1, *((1,) * (3 - len(grid))), *grid, dtype=torch.bool)
    mask[..., 0, 0] = True
    with quiet(), torch.random.fork_rng():
        for name in ("backbone", "data_preprocessor"):
            setattr(model, name, MODELS.build(copy.deepcopy(cfg.model[name])))
        settings = copy.deepcopy(cfg.model.target_generator)
        remove_weights(settings)
        generator = MODELS.build(settings)
        generator.connect(model)
        target = generator.eval()(torch.randn(1, sample_channels(cfg), *input_size(cfg)), mask)
    if isinstance(target, dict):
        return {name: generator.num_classes[name] or value.shape[-1] for name, value in target.items()}
    return generator.num_classes or target.shape[-1]


def _make_run(
    setting: Setting, base: Base, pretrain: Config | None, seed: int, work_dir: Path, known: dict[str, Run]
) -> Run:
    """Make the run of a setting and add it to ``known``, or return the same run if it is known already."""
    needs = None
    if pretrain is not None:
        pretrain = copy.deepcopy(pretrain)
        pretrain.randomness = dict(seed=seed)
        if setting.needs_classifier:
            needs = _classifier(base, work_dir, known)
            weights = str(needs.folder / FOLDERS["finetune"] / f"iter_{CLASSIFIER_LENGTH * base.finetune_steps}.pth")
            replace_text(pretrain._cfg_dict, lambda text: weights if text == CLASSIFIER else text)
    finetune = copy.deepcopy(base.finetune)
    if base.digits_root is not None:
        _use_labels(finetune, base, seed)
    _evaluate_once(finetune, base.finetune_steps)
    seconds = _estimate(base, base.steps * setting.length * setting.cost, base.finetune_steps)
    return _add(Run(setting.name, base.kind, seed, pretrain, finetune, base.metric, work_dir, seconds), known, needs)


def _classifier(base: Base, work_dir: Path, known: dict[str, Run]) -> Run:
    """Make the run that trains the image classifier for supervised targets. All seeds share it."""
    task = TASKS["digit"]
    assert base.digits_root is not None  # see resolve
    options = LENGTHS["image"].finetune_options
    finetune = load_demo_config(task.finetune_config, work_dir, base.digits_root, options)
    finetune.train_dataloader.dataset.ann_file = "annotations/image_train.txt"
    steps = CLASSIFIER_LENGTH * base.finetune_steps
    _evaluate_once(finetune, steps)
    finetune.default_hooks.checkpoint = dict(type="CheckpointHook", by_epoch=False, interval=steps)
    seconds = LENGTHS["image"].rest_seconds + steps * LENGTHS["image"].step_seconds[1]
    return _add(Run("classifier", "image", 0, None, finetune, task.metric, work_dir, seconds), known, None)


def _add(run: Run, known: dict[str, Run], needs: Run | None) -> Run:
    """Set the folder of a run and add it to ``known``, or return the same run if it is known already."""
    configs = [None if cfg is None else _comparable(cfg) for cfg in (run.pretrain, run.finetune)]
    text = json.dumps([VERSION, configs, run.seed, run.metric], sort_keys=True, default=str)
    key = hashlib.sha256(text.encode()).hexdigest()[:10]
    if key not in known:
        # the folder's name has no setting, since studies that share a run name it differently
        run.folder = (run.folder / "runs" / f"{run.kind}_{key}_seed{run.seed}").resolve()
        run.needs = None if needs is None else needs.folder
        known[key] = run
    return known[key]


def _comparable(cfg: Config) -> dict:
    """Return a config without the keys that differ each time it is read."""
    return {k: v for k, v in cfg.to_dict().items() if k not in ("work_dir", "experiment_name")}


def _use_labels(finetune: Config, base: Base, seed: int) -> None:
    """Set the labelled samples of a seed. There is a subset for each seed of the demo; further seeds reuse them."""
    dataset = finetune.train_dataloader.dataset
    task = TASKS["digit" if base.kind == "image" else "motion"]
    labelled = task.annotation_file(SEEDS[seed % len(SEEDS)])
    dataset.ann_file = labelled if "data_root" in dataset else f"{base.digits_root}/{labelled}"


def _evaluate_once(finetune: Config, steps: int) -> None:
    """Change a config to fine-tune for ``steps``, without validation and checkpoints; the test comes at the end."""
    set_length(finetune, steps)
    for key in ("val_dataloader", "val_cfg", "val_evaluator"):
        finetune[key] = None
    finetune.train_cfg.pop("val_interval", None)
    finetune.train_cfg.pop("val_begin", None)
    finetune.default_hooks.checkpoint = None
    _cache_test_reading(finetune)


def _cache_test_reading(finetune: Config) -> None:
    """Cache the test samples in memory if the training caches its samples, so that the next run need not read them."""
    train, test = (finetune[key].dataset for key in ("train_dataloader", "test_dataloader"))
    first = (train.get("pipeline") or [{}])[0]
    if not str(first.get("type", "")).endswith("Cached"):
        return
    read = list(first["transforms"])
    if list(test.pipeline[: len(read)]) == read:
        test.pipeline = [copy.deepcopy(first), *test.pipeline[len(read) :]]


def _estimate(base: Base, steps: float, finetune_steps: int) -> float:
    """Estimate the seconds of a run of the demo's models on one core, or return the steps of other models."""
    if base.digits_root is None:
        return steps + finetune_steps
    length = LENGTHS[base.kind]
    return length.rest_seconds + steps * length.step_seconds[0] + finetune_steps * length.step_seconds[1]


def write_run(run: Run) -> None:
    """Write the files for the process that does a run: the configs, which can be used by hand too, and ``run.json``."""
    run.folder.mkdir(parents=True, exist_ok=True)
    for name, cfg in (("pretrain", run.pretrain), ("finetune", run.finetune)):
        if cfg is not None:
            cfg = copy.deepcopy(cfg)
            cfg.work_dir = str(run.folder / FOLDERS[name])
            cfg.pop("experiment_name", None)
            cfg.dump(run.folder / f"{name}.py")
    write_json(run.folder / "run.json", dict(title=run.title, seed=run.seed, metric=run.metric))


def describe_seconds(seconds: float) -> str:
    """Format a duration in seconds, minutes or hours."""
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def choose(names: Sequence[str]) -> list[Study]:
    """Return the studies with the given names; "all" stands for all of them."""
    return list(STUDIES.values()) if "all" in names else [STUDIES[name] for name in STUDIES if name in names]


__all__ = [
    "METRICS",
    "RESULT",
    "SCRATCH",
    "Base",
    "Plan",
    "Run",
    "choose",
    "config_base",
    "demo_base",
    "describe_seconds",
    "plan_runs",
    "write_run",
]
