"""Run of a part of the demo with mmengine: a pre-training, then a fine-tuning for each task, start and seed."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint, load_checkpoint
from mmengine.utils import import_modules_from_strings

from maskfeat_plugin.config.walking import replace_text
from maskfeat_plugin.errors import reading
from maskfeat_plugin.files import writing
from maskfeat_plugin.visualization import draw_prediction, unnormalize

from .tasks import CONFIGS, DATA_ROOT, LIVE, SCRATCH, SHIPPED, Plan, Pretraining, Task
from .training_length import length_of, set_length

Say = Callable[[str], None]
Publish = Callable[[dict], object]


class ProgressHook(Hook):
    """Hook that prints the progress of a training every few seconds: the step, the loss and the time left.

    Args:
        say (Callable[[str], None]): Prints a line.
        title (str): Name of the training.
        later (float): Usual duration of all later trainings, as a multiple of this one's. Defaults to 0.
        interval (float): Seconds between lines. Defaults to 10.
    """

    priority = "VERY_LOW"

    def __init__(self, say: Say, title: str, later: float = 0.0, interval: float = 10.0) -> None:
        self.say = say
        self.title = title
        self.later = later
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self._start = self._last = time.monotonic()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Print a line if the interval is over."""
        now = time.monotonic()
        done = runner.iter + 1
        if now - self._last < self.interval and done < runner.max_iters:
            return
        self._last = now
        whole = (now - self._start) / done * runner.max_iters
        remaining = whole * (1 - done / runner.max_iters)
        scalars = runner.message_hub.log_scalars
        text = f"loss {scalars['train/loss'].mean(50):.4f}"
        if "train/baseline" in scalars:
            text += f" (predicting the mean: {scalars['train/baseline'].mean(50):.4f})"
        text = f"{self.title}: step {done} of {runner.max_iters}, {text}, about {remaining:.0f} s left"
        if self.later:
            text += f", {(remaining + self.later * whole) / 60:.1f} min including the later trainings"
        self.say(text)


class FirstLookHook(Hook):
    """Hook that publishes weights and curves of a pre-training before its end, after a number of steps.

    Args:
        step (int): Number of steps after which the weights are written, beside the checkpoints.
        publish (Callable[[dict], None]): Receives the outcome so far, in the form of :func:`pretrain`'s result.
    """

    priority = "VERY_LOW"

    def __init__(self, step: int, publish: Publish) -> None:
        self.step = step
        self.publish = publish

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self._start = time.monotonic()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Publish the outcome at the given step."""
        if runner.iter + 1 == self.step:
            checkpoint = Path(runner.work_dir, "first_look.pth")
            torch.save(dict(state_dict=runner.model.state_dict()), checkpoint)
            self.publish(_outcome(runner, str(checkpoint), time.monotonic() - self._start))


def load_config(name: str, work_dir: Path, data_root: Path = DATA_ROOT, options: dict | None = None) -> Config:
    """Read a config of ``configs/demo`` and set its data root and work directory.

    Args:
        name (str): File in ``configs/demo``.
        work_dir (Path): Folder that the run writes to.
        data_root (Path): Root of MovingDigits. Defaults to the demo's.
        options (dict, optional): Further keys to set, as ``--cfg-options``. Defaults to None.

    Returns:
        Config: The config, ready for ``Runner.from_cfg``.
    """
    root = f"{data_root}/"
    config = Config.fromfile(CONFIGS / name)
    import_modules_from_strings(**config.custom_imports)
    old = config.data_root
    replace_text(config._cfg_dict, lambda text: root + text[len(old) :] if text.startswith(old) else text)
    config.work_dir = str(work_dir)
    # mmengine stores loggers, message hubs and visualizers under this name, so each run needs its own
    config.experiment_name = f"{Path(name).stem}_{work_dir.name}_{time.monotonic_ns()}"
    config.log_level = "ERROR"
    config.merge_from_dict(options or {})
    return config


def pretrain(
    config_name: str,
    work_dir: Path,
    say: Say,
    data_root: Path = DATA_ROOT,
    options: dict | None = None,
    length: float = 1.0,
    later: float = 0.0,
    hooks: Sequence[Hook] = (),
) -> dict:
    """Pre-train without labels.

    Args:
        config_name (str): File in ``configs/demo``.
        work_dir (Path): Folder that the run writes to.
        say (Callable[[str], None]): Prints lines of progress.
        data_root (Path): Root of MovingDigits.
        options (dict, optional): Further keys of the config to set. Defaults to None.
        length (float): Length relative to the config's. Warm-up and decay are scaled with it. Defaults to 1.
        later (float): See :class:`ProgressHook`. Defaults to 0.
        hooks (Sequence[Hook]): Further hooks. Defaults to ().

    Returns:
        dict: ``checkpoint`` (str), ``seconds`` (float), ``max_iters`` (int), ``step_seconds`` (float, the median time
        of a step including data loading), ``steps`` (list[int]), ``loss`` and ``baseline`` (list[float], smoothed over
        50 steps).
    """
    config = load_config(config_name, work_dir, data_root, options)
    set_length(config, max(1, round(length * length_of(config))))
    return run_pretraining(config, [ProgressHook(say, f"{work_dir.parent.name}: pre-training", later), *hooks])


def run_pretraining(config: Config, hooks: Sequence[Hook]) -> dict:
    """Pre-train with an unchanged config.

    Args:
        config (Config): Config of pre-training, with its ``work_dir``.
        hooks (Sequence[Hook]): Further hooks, such as :class:`ProgressHook`.

    Returns:
        dict: The same as from :func:`pretrain`. ``baseline`` is missing if there are several targets.
    """
    runner = Runner.from_cfg(config)
    for hook in hooks:
        runner.register_hook(hook)
    start = time.monotonic()
    runner.train()
    return _outcome(runner, find_latest_checkpoint(config.work_dir), time.monotonic() - start)


def _outcome(runner: Runner, checkpoint: str, seconds: float) -> dict:
    """Return the outcome of a pre-training up to the current step, see :func:`pretrain`."""
    scalars = runner.message_hub.log_scalars
    # with several targets, each has its own baseline under another name
    curve = {key: _smooth(scalars[f"train/{key}"].data[0]) for key in ("loss", "baseline") if f"train/{key}" in scalars}
    done = len(scalars["train/loss"].data[0])
    steps = np.linspace(1, done, len(curve["loss"])).round().astype(int).tolist()
    step_seconds = float(np.median(scalars["train/time"].data[0]))
    return dict(
        checkpoint=checkpoint,
        seconds=seconds,
        max_iters=runner.max_iters,
        step_seconds=step_seconds,
        steps=steps,
        **curve,
    )


def _smooth(values: Sequence[float], width: int = 50, points: int = 200) -> list[float]:
    """Compute the mean of the last ``width`` values at up to ``points`` places."""
    values = np.asarray(values, np.float64)
    total = np.concatenate(([0.0], values.cumsum()))
    ends = np.unique(np.linspace(1, len(values), min(points, len(values))).round().astype(int))
    starts = np.maximum(ends - width, 0)
    return ((total[ends] - total[starts]) / (ends - starts)).tolist()


def finetune(
    task: Task,
    checkpoint: str | None,
    seed: int,
    work_dir: Path,
    say: Say,
    data_root: Path = DATA_ROOT,
    options: dict | None = None,
    later: float = 0.0,
) -> float:
    """Fine-tune on few labels and evaluate on the test split, with the framework's own data set, head and metric.

    Args:
        task (Task): The task.
        checkpoint (str, optional): Pre-trained weights. None means training from scratch.
        seed (int): Seed of the labelled samples and of the training.
        work_dir (Path): Folder that the run writes to.
        say (Callable[[str], None]): Prints lines of progress.
        data_root (Path): Root of MovingDigits.
        options (dict, optional): Further keys of the config to set. Defaults to None.
        later (float): See :class:`ProgressHook`. Defaults to 0.

    Returns:
        float: The task's metric in percent.
    """
    config = load_config(task.finetune_config, work_dir, data_root, options)
    dataset = config.train_dataloader.dataset
    labelled = task.annotation_file(seed)
    dataset.ann_file = labelled if "data_root" in dataset else f"{data_root}/{labelled}"
    # only the test result is shown, so skip the validation
    for key in ("val_dataloader", "val_cfg", "val_evaluator"):
        config[key] = None
    metrics = run_finetuning(config, checkpoint, seed, [ProgressHook(say, work_dir.name, later)])
    score = float(metrics[task.metric]) * task.scale  # mmseg gives float32 of NumPy, which JSON does not take
    say(f"{work_dir.name}: {task.measure} {score:.1f} % on the test split")
    return score


def run_finetuning(config: Config, checkpoint: str | None, seed: int, hooks: Sequence[Hook]) -> dict[str, float]:
    """Fine-tune with a config and evaluate on its test data.

    Args:
        config (Config): Config of mmpretrain, mmaction2 or mmdet, with its ``work_dir``.
        checkpoint (str, optional): Pre-trained weights. None means training from scratch.
        seed (int): Seed of the training.
        hooks (Sequence[Hook]): Further hooks, such as :class:`ProgressHook`.

    Returns:
        dict[str, float]: The framework's metrics.
    """
    config.randomness = dict(seed=seed)
    if checkpoint:
        config.model.backbone.init_cfg = dict(type="maskfeat.Pretrained", checkpoint=checkpoint)
    runner = Runner.from_cfg(config)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner.test()


def run_part(
    pretraining: Pretraining,
    tasks: Sequence[Task],
    plan: Plan,
    work_dir: Path,
    say: Say,
    data_root: Path = DATA_ROOT,
) -> dict:
    """Run a pre-training and the tasks that start from it.

    The outcome so far is written to ``results.json`` (see :func:`results_file`) after the pre-training's first steps
    (``first_look``), at its end, and after each task.

    Args:
        pretraining (Pretraining): The pre-training.
        tasks (Sequence[Task]): Tasks that start from it.
        plan (Plan): Length of the pre-training, starts and seeds of the tasks.
        work_dir (Path): Folder of all runs. Each pre-training and each task has its own folder in it.
        say (Callable[[str], None]): Prints lines of progress.
        data_root (Path): Root of MovingDigits. Defaults to the demo's.

    Returns:
        dict: ``pretraining``, see :func:`pretrain`; ``scores``, task -> start -> percentages, one per seed; and
        ``seconds``.
    """
    start = time.monotonic()
    usual = plan.seconds(pretraining, tasks)
    later = iter([sum(usual[i + 1 :]) / seconds for i, seconds in enumerate(usual)])
    scores: dict[str, dict[str, list[float]]] = {}

    def publish(run: dict) -> dict[str, Any]:
        results = dict(pretraining=run, scores=scores, seconds=time.monotonic() - start)
        write_json(results_file(work_dir, pretraining), results)
        return results

    run = pretrain(
        pretraining.config,
        work_dir / pretraining.name / "pretraining",
        say,
        data_root,
        length=plan.length,
        later=next(later),
        hooks=[FirstLookHook(pretraining.first_look, publish)],
    )
    results = publish(run)
    checkpoints = {SCRATCH: None, LIVE: run["checkpoint"], SHIPPED: str(pretraining.shipped_weights)}
    starts = [name for name in plan.starts if name != SHIPPED or pretraining.shipped_weights.exists()]
    for task in tasks:
        scores[task.name] = {
            name: [
                finetune(
                    task,
                    checkpoints[name],
                    seed,
                    finetuning_dir(work_dir, task, name, seed),
                    say,
                    data_root,
                    later=next(later),
                )
                for seed in plan.seeds
            ]
            for name in starts
        }
        results = publish(run)
    return results


def results_file(work_dir: Path, pretraining: Pretraining) -> Path:
    """Return the file with the outcome of a part, see :func:`run_part`."""
    return work_dir / pretraining.name / "results.json"


def finetuning_dir(work_dir: Path, task: Task, start: str, seed: int) -> Path:
    """Return the folder of a fine-tuning run."""
    return work_dir / task.name / f"{task.name}, {start}, seed {seed}"


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file atomically: it is complete or does not exist."""
    with writing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1))


def read_json(path: Path) -> dict:
    """Read a file of :func:`write_json`.

    Args:
        path (Path): The file.

    Returns:
        dict: The content.

    Raises:
        ConfigError: If the file is damaged.
    """
    with reading(path, "is damaged", "Remove it, and it is made again."):
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise ValueError("its content is not a dict")
        return content


def export_weights(checkpoint: str, target: Path, source: str, steps: int) -> None:
    """Write a model's weights in half precision, for the repository.

    Args:
        checkpoint (str): mmengine's checkpoint.
        target (Path): The file to write.
        source (str): Origin of the weights. It is stored in the file.
        steps (int): Number of training steps.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    with writing(target) as unfinished:
        torch.save(dict(state_dict=state, meta=dict(source=source, steps=steps)), unfinished)


@torch.no_grad()
def draw_predictions(
    pretraining: Pretraining, checkpoint: str, indices: Sequence[int], data_root: Path = DATA_ROOT
) -> list[dict[str, np.ndarray]]:
    """Draw the predictions of a pre-trained model for masked test samples.

    Args:
        pretraining (Pretraining): Pre-training of the model.
        checkpoint (str): Weights of the model.
        indices (Sequence[int]): Indices of samples in the test split.
        data_root (Path): Root of MovingDigits. Defaults to the demo's.

    Returns:
        list[dict[str, np.ndarray]]: For each sample the result of :func:`draw_prediction`.
    """
    from mmengine.registry import DATASETS, MODELS, DefaultScope

    config = load_config(pretraining.config, Path("predict"), data_root)
    DefaultScope.get_instance(config.experiment_name, scope_name=config.default_scope)
    dataset = config.train_dataloader.dataset
    dataset.ann_file = dataset.ann_file.replace("_train", "_test")
    if isinstance(dataset.data_prefix, str):
        dataset.data_prefix = dataset.data_prefix.replace("/train", "/test")
    else:
        dataset.data_prefix.video = dataset.data_prefix.video.replace("/train", "/test")
    dataset.pipeline = config.test_pipeline
    dataset = DATASETS.build(dataset)
    model = MODELS.build(config.model).eval()
    load_checkpoint(model, checkpoint, map_location="cpu", strict=True, logger="silent")
    batch = model.data_preprocessor(pseudo_collate([dataset[i] for i in indices]))
    frames = [unnormalize(x, model.data_preprocessor.mean, model.data_preprocessor.std) for x in batch["inputs"]]
    found = model(**batch, mode="predict")
    return [draw_prediction(f, sample, model.target_generator) for f, sample in zip(frames, found, strict=True)]
