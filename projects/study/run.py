"""One run of a study (pre-training, k-NN, fine-tuning, test), and the process that does runs one after another."""

import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings
from torch.utils.data import Dataset

from maskfeat_plugin.evaluation.features import compute_features
from maskfeat_plugin.evaluation.knn import knn_accuracy
from projects.demo.train import ProgressHook, read_json, run_finetuning, run_pretraining, write_json

from .planned_runs import FOLDERS, METRICS, RESULT

LOG = "log.txt"
NEIGHBOURS = 20


class KeptReading:
    """Samples that ``maskfeat.Cached`` has read. Later runs of the same process reuse them for the same data set."""

    def __init__(self) -> None:
        self._kept: dict[str, object] = {}

    def share(self, dataset: Dataset, config: dict) -> None:
        """Let a data set reuse the samples read before, and keep the samples that it reads.

        Args:
            dataset (Dataset): A data set of mmengine.
            config (dict): Config of the data set.
        """
        transforms = getattr(getattr(dataset, "pipeline", None), "transforms", [])
        if not transforms or type(transforms[0]).__name__ != "Cached":
            return
        source = {key: value for key, value in config.items() if key not in ("pipeline", "test_mode")}
        key = json.dumps([source, config["pipeline"][0]], sort_keys=True, default=str)
        transforms[0] = self._kept.setdefault(key, transforms[0])


class ShareHook(Hook):
    """Hook that lets the data sets of several runners share the samples they have read, see :class:`KeptReading`."""

    priority = "VERY_HIGH"

    def __init__(self, kept: KeptReading) -> None:
        self.kept = kept

    def before_train(self, runner: Runner) -> None:
        """Share the training data."""
        self.kept.share(runner.train_dataloader.dataset, runner.cfg.train_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        """Share the test data."""
        self.kept.share(runner.test_dataloader.dataset, runner.cfg.test_dataloader.dataset)


class FeaturesHook(Hook):
    """Hook that measures the k-NN accuracy at the start of fine-tuning: labelled samples vote on the test samples.

    Both are read with the pipeline of the test. The random numbers of the training do not change.

    Attributes:
        accuracy (float | None): Accuracy in percent, or None if the samples do not have a single class each.
    """

    def __init__(self, kept: KeptReading) -> None:
        self.kept = kept
        self.accuracy: float | None = None

    def before_train(self, runner: Runner) -> None:
        """Evaluate the features."""
        test, train = runner.cfg.test_dataloader, runner.cfg.train_dataloader.dataset
        labelled = {**train, "pipeline": test.dataset.pipeline}
        try:
            (features, labels), (queries, truth) = (self._features(runner, data) for data in (labelled, test.dataset))
        except ValueError as error:
            runner.logger.warning(f"no k-NN: {error}")
            return
        classes = int(max(labels.max(), truth.max())) + 1
        found = knn_accuracy(queries, truth, features, labels, classes, (NEIGHBOURS,))
        self.accuracy = found[f"top1_k{NEIGHBOURS}"]

    def _features(self, runner: Runner, data: dict) -> tuple[torch.Tensor, torch.Tensor]:
        settings = dict(runner.cfg.test_dataloader, dataset=data, sampler=dict(type="DefaultSampler", shuffle=False))
        loader = runner.build_dataloader(settings, seed=runner.seed)
        self.kept.share(loader.dataset, data)
        found = compute_features(runner.model, loader)
        assert found is not None  # this is a single process
        return found


def do_run(folder: Path, say: Callable[[str], None], kept: KeptReading | None = None) -> dict:
    """Do the run whose configs are in a folder. A pre-training that was finished before an interruption is reused.

    Args:
        folder (Path): Folder with ``run.json``, ``finetune.py`` and, except for training from scratch, ``pretrain.py``.
        say (Callable[[str], None]): Prints lines of progress.
        kept (KeptReading, optional): Samples that earlier runs have read. Defaults to None, no samples.

    Returns:
        dict: ``score``, ``metric`` and ``knn`` (percentages if the metric is an accuracy), ``seconds``, and of the
        pre-training ``loss``, ``baseline``, ``steps`` and ``step_seconds``. The same dict is in ``result.json``.
    """
    start = time.monotonic()
    kept = kept or KeptReading()
    job = read_json(folder / "run.json")
    seed, title = job["seed"], job["title"]
    done = folder / "pretraining.json"
    pretraining, checkpoint, spent = {}, None, 0.0
    if (folder / "pretrain.py").is_file():
        if not (done.is_file() and Path(read_json(done)["checkpoint"]).is_file()):
            shutil.rmtree(folder / FOLDERS["pretrain"], ignore_errors=True)
            cfg = _read(folder / "pretrain.py")
            hooks = [ProgressHook(say, f"{title}: pre-training"), ShareHook(kept)]
            write_json(done, run_pretraining(cfg, hooks))
        else:
            spent = read_json(done)["seconds"]
        pretraining = read_json(done)
        checkpoint = pretraining["checkpoint"]
    shutil.rmtree(folder / FOLDERS["finetune"], ignore_errors=True)
    features = FeaturesHook(kept)
    cfg = _read(folder / "finetune.py")
    hooks = [ProgressHook(say, f"{title}: fine-tuning"), ShareHook(kept), features]
    metrics = run_finetuning(cfg, checkpoint, seed, hooks)
    metric, score = choose_metric(metrics, job["metric"])
    result = dict(
        metric=metric,
        score=score,
        knn=features.accuracy,
        loss=pretraining["loss"][-1] if pretraining else None,
        baseline=pretraining["baseline"][-1] if "baseline" in pretraining else None,
        steps=pretraining.get("max_iters", 0),
        step_seconds=pretraining.get("step_seconds"),
        seconds=spent + time.monotonic() - start,
    )
    write_json(folder / RESULT, result)
    return result


def choose_metric(metrics: dict[str, float], name: str | None = None) -> tuple[str, float]:
    """Choose the metric to compare from the metrics of a test. Accuracies are returned in percent.

    Args:
        metrics (dict[str, float]): Metrics of the test.
        name (str, optional): Name of the metric. Defaults to None: top-1 accuracy, else the first metric.

    Returns:
        tuple[str, float]: Name and value of the metric.

    Raises:
        ValueError: If there is no such metric.
    """
    if name is None:
        name = next((known for known in METRICS if known in metrics), next(iter(metrics), ""))
    if name not in metrics:
        raise ValueError(f"--metric {name}: the test has no such metric. Choose from {sorted(metrics)}.")
    return name, float(metrics[name]) * METRICS.get(name, 1.0)


def _read(path: Path) -> Config:
    cfg = Config.fromfile(path)
    import_modules_from_strings(**cfg.get("custom_imports", dict(imports=["maskfeat_plugin"])))
    # mmengine stores loggers, message hubs and visualizers under this name, so each run needs its own
    cfg.experiment_name = f"{path.parent.name}_{path.stem}_{time.monotonic_ns()}"
    cfg.log_level = "WARNING"
    return cfg


def serve() -> None:
    """Do runs. Their folders arrive on standard input, one per line; answers go to standard output as lines of JSON.

    ``{"say": TEXT}`` is progress. ``{"done": FOLDER}`` and ``{"failed": FOLDER}`` end a run. All other output goes to
    the run's ``log.txt``.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    kept = KeptReading()
    for folder in map(Path, _lines()):
        with (folder / LOG).open("w") as log:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
            try:
                do_run(folder, lambda text: print(json.dumps(dict(say=text)), file=answers), kept)
                answer = dict(done=str(folder))
            except Exception:  # a run may fail in any way, and the others must continue
                traceback.print_exc()
                answer = dict(failed=str(folder))
            sys.stdout.flush()
            sys.stderr.flush()
        print(json.dumps(answer), file=answers)


def _lines() -> Iterator[str]:
    """Yield the lines of standard input as they arrive."""
    while line := sys.stdin.readline():
        yield line.strip()
