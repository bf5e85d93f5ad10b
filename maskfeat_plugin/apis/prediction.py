"""Classification of files by a fine-tuned model, and the CSV file of its predictions."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from maskfeat_plugin.config.input_pipeline import title_of
from maskfeat_plugin.datasets.folders import as_utf8
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.files import writing

from .model_loading import read_model
from .pictures.class_names import read_class_names
from .pictures.fine_tuned import Samples, build_fine_tuned, find
from .pictures.model_outputs import Classes


@dataclass(frozen=True)
class Prediction:
    """The most likely classes of a file.

    Args:
        file (str): Its path.
        best (list[tuple[str, float]]): Names of classes and their probabilities, the most likely class first.
    """

    file: str
    best: list[tuple[str, float]]


def predict(
    run: str | Path,
    inputs: Sequence[str | Path],
    checkpoint: str | Path | None = None,
    top: int = 3,
    device: str = "cpu",
) -> Iterator[Prediction]:
    """Classify images or videos.

    Args:
        run (str | Path): Work directory of a fine-tuning, a config file, or a name of :func:`.list_models`.
        inputs (Sequence[str | Path]): Files, and folders of files at any depth.
        checkpoint (str | Path, optional): Checkpoint of the model. Defaults to None: the newest one of the work
            directory.
        top (int): Number of classes to return for each file. Defaults to 3.
        device (str): Device that the model runs on. Defaults to "cpu".

    Yields:
        Prediction: The prediction for each file, in the order of the inputs.

    Raises:
        ConfigError: If the run is not a classifier or has no checkpoint; or if a file is missing, cannot be read, or
            is a video where the model takes images (or the reverse).
    """
    cfg, weights = read_model(run)
    if "target_generator" in cfg.model:
        raise ConfigError(
            f"--from {run}: this is a pre-training run, which has no classes. Fine-tune it first (maskfeat finetune), "
            "or draw its predictions for masked parts (maskfeat visualize)."
        )
    weights = checkpoint or weights
    if weights is None:
        raise ConfigError(f"--from {run}: there is no checkpoint. Give the work directory of a fine-tuning.")
    samples = Samples(cfg, [str(path) for path in inputs])
    names = read_class_names(cfg, weights)
    model = build_fine_tuned(cfg, weights, device)
    for sample in tqdm(samples, "Predicting", unit="file", disable=len(samples) < 2):
        _, finding = find(model, sample.read(), names, not samples.takes_clips, top)
        if not isinstance(finding, Classes):
            raise ConfigError(f"--from {run}: {title_of(cfg)} finds boxes, not classes. Use maskfeat visualize for it.")
        yield Prediction(sample.path, finding.best)


def write_predictions(predictions: Sequence[Prediction], path: str | Path) -> None:
    """Write predictions as CSV with the columns file, class_1, score_1, class_2 and so on.

    Args:
        predictions (Sequence[Prediction]): At least one prediction; all have the same number of classes.
        path (str | Path): The file.

    Raises:
        WriteError: If the file cannot be written.
    """
    count = len(predictions[0].best)
    head = ["file", *(f"{name}_{number}" for number in range(1, count + 1) for name in ("class", "score"))]
    with writing(path) as unfinished, open(unfinished, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for row in predictions:
            writer.writerow([as_utf8(row.file), *(cell for name, score in row.best for cell in (name, f"{score:.4f}"))])
