"""One run of a study: pre-training, features, fine-tuning, test; and the process that does runs one after another."""

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
    """What ``maskfeat.Cached`` has read, for the next run of the process that reads the same data set."""

    def __init__(self) -> None:
        self._kept: dict[str, object] = {}

    def share(self, dataset: Dataset, config: dict) -> None:
        """Let a data set read from what is kept, and keep what it reads.

        Args:
            dataset (Dataset): A data set of mmengine's.
            config (dict): Its config.
        """
        transforms = getattr(getattr(dataset, "pipeline", None), "transforms", [])
        if not transforms or type(transforms[0]).__name__ != "Cached":
            return
        source = {key: value for key, value in config.items() if key not in ("pipeline", "test_mode")}
        key = json.dumps([source, config["pipeline"][0]], sort_keys=True, default=str)
        transforms[0] = self._kept.setdefault(key, transforms[0])


class ShareHook(Hook):
    """Lets the data sets of a runner share what they have read, see :class:`KeptReading`."""

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
    """k-NN accuracy of the features that fine-tuning starts from: labelled samples vote, test samples are classified.

    Both are read by the pipeline of the test, and training draws the random numbers that it would have drawn.

    Attributes:
        accuracy (float | None): In percent; None where the data have no single class of each sample.
    """

    def __init__(self, kept: KeptReading) -> None:
        self.kept = kept
        self.accuracy: float | None = None

    def before_train(self, runner: Runner) -> None:
        """Evaluate."""
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
        assert found is not None  # of a single process
        return found


def do_run(folder: Path, say: Callable[[str], None], kept: KeptReading | None = None) -> dict:
    """Do the run whose configs are in a folder; what it had finished before it was killed is not done again.

    Args:
        folder (Path): With ``run.json``, ``finetune.py`` and, unless it starts from scratch, ``pretrain.py``.
        say (Callable[[str], None]): Takes lines of progress.
        kept (KeptReading, optional): What earlier runs have read. Defaults to None, nothing.

    Returns:
        dict: ``score`` and ``metric``, ``knn`` (all percentages where the metric is an accuracy), ``seconds``, and of
        pre-training ``loss``, ``baseline``, ``steps``, ``step_seconds``; also written to ``result.json``.
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
    """What is compared, of all that a test gives; accuracies in percent.

    Args:
        metrics (dict[str, float]): Of the test.
        name (str, optional): Which. Defaults to None: top-1 accuracy, else the first.

    Returns:
        tuple[str, float]: Name and value.

    Raises:
        ValueError: If there is no such metric.
    """
    if name is None:
        name = next((known for known in METRICS if known in metrics), next(iter(metrics), ""))
    if name not in metrics:
        raise ValueError(f"the test gives no metric {name!r}, but {sorted(metrics)}.")
    return name, float(metrics[name]) * METRICS.get(name, 1.0)


def _read(path: Path) -> Config:
    cfg = Config.fromfile(path)
    import_modules_from_strings(**cfg.get("custom_imports", dict(imports=["maskfeat_plugin"])))
    # mmengine keeps its loggers, message hubs and visualizers by this name
    cfg.experiment_name = f"{path.parent.name}_{path.stem}_{time.monotonic_ns()}"
    cfg.log_level = "WARNING"
    return cfg


def serve() -> None:
    """Do the runs whose folders come on standard input, a line each, and answer on standard output in lines of JSON.

    ``{"say": TEXT}`` is progress, ``{"done": FOLDER}`` and ``{"failed": FOLDER}`` end a run. All else that is printed
    goes to the run's ``log.txt``.
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
            except Exception:  # a run may fail in any way, and the others go on
                traceback.print_exc()
                answer = dict(failed=str(folder))
            sys.stdout.flush()
            sys.stderr.flush()
        print(json.dumps(answer), file=answers)


def _lines() -> Iterator[str]:
    """Lines of standard input as they come."""
    while line := sys.stdin.readline():
        yield line.strip()
