"""Fixture of models of the demo's configs and their predictions for samples of a tiny MovingDigits."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import load_checkpoint

CONFIGS = Path(__file__).parents[2] / "configs"


@dataclass(frozen=True)
class Prediction:
    """A model and its predictions for some samples.

    Args:
        model: The model, in evaluation mode.
        batch: The normalised samples.
        samples: The predictions.
        frames: Frames of each sample from the data set, uint8 (T, H, W, 3).
    """

    model: torch.nn.Module
    batch: dict
    samples: list
    frames: list


@pytest.fixture(scope="session")
def predict(digits):
    """Return a function that takes the path of a config and options, and returns a :class:`Prediction` for 3 samples.

    The model of a demo config has the shipped weights, other models have random weights.
    """

    @cache
    def predict(path, **options):
        config = Config.fromfile(CONFIGS / path)
        config.merge_from_dict(options)
        dataset = config.train_dataloader.dataset
        dataset.pipeline = config.test_pipeline
        scope = DefaultScope.overwrite_default_scope(config.default_scope)
        with scope, pytest.MonkeyPatch.context() as patch:
            patch.chdir(digits)  # the paths of data are relative
            dataset = DATASETS.build(dataset)
            samples = [dataset[i] for i in range(3)]
            torch.manual_seed(0)
            model = MODELS.build(config.model)
            model.init_weights()
        weights = CONFIGS / "demo/weights" / Path(path).with_suffix(".pth").name
        if weights.exists():
            load_checkpoint(model, str(weights), map_location="cpu", strict=True)
        model.eval()
        batch = model.data_preprocessor(pseudo_collate(samples))
        frames = []
        for sample in samples:
            clip = sample["inputs"].numpy()
            clip = clip[:, None] if clip.ndim == 3 else clip.reshape(3, *clip.shape[-3:])
            clip = clip[::-1] if model.data_preprocessor.to_rgb else clip
            frames.append(np.ascontiguousarray(clip.transpose(1, 2, 3, 0)))
        with torch.no_grad():
            return Prediction(model, batch, model(**batch, mode="predict"), frames)

    return predict
