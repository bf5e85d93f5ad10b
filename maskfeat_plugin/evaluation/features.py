"""Features of labelled data by a model, for classification without training."""

import random
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from mmengine.dist import collect_results_gpu, is_main_process
from mmengine.model import BaseModel, is_model_wrapper
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm


@torch.no_grad()
def compute_features(model: BaseModel, dataloader: DataLoader, title: str = "") -> tuple[Tensor, Tensor] | None:
    """Features and labels of a data set, in its order; no random state is changed.

    The features are those of ``model.extract_feat`` for unmasked inputs in evaluation mode, averaged over tokens, over
    positions of a feature map and over the views of a video.

    Args:
        model (BaseModel): A pre-training model, a classifier of mmpretrain or a recognizer of mmaction2.
        dataloader (DataLoader): Gives every sample once, in order; on several processes each gives its share, as
            ``mmengine.dataset.DefaultSampler`` deals it out.
        title (str): What the progress bar says; "" for no bar. Defaults to "".

    Returns:
        tuple[Tensor, Tensor] | None: Features, float32 (N, C), and classes, int64 (N,), on the CPU; None on all
        processes but the first.

    Raises:
        ValueError: If the model gives no features, or a sample has not exactly one class.
    """
    if is_model_wrapper(model):
        model = model.module
    was_training = model.training
    model.eval()
    rows: list[tuple[Tensor, Tensor]] = []
    try:
        with preserved_random_state():
            for batch in tqdm(dataloader, title, unit="batch", disable=not title or not is_main_process()):
                features, samples = batch_features(model, batch)
                rows += zip(features, _labels(samples).cpu(), strict=True)
    finally:
        model.train(was_training)
    rows = collect_results_gpu(rows, len(cast(Sized, dataloader.dataset)))
    if rows is None:
        return None
    return torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])


@torch.no_grad()
def batch_features(model: BaseModel, batch: dict, tokens: bool = False) -> tuple[Tensor, Sequence | None]:
    """Features of a batch by a model in evaluation mode.

    Args:
        model (BaseModel): As in :func:`compute_features`.
        batch (dict): What a dataloader gives.
        tokens (bool): Whether to return the features of every token instead of their mean. Defaults to False.

    Returns:
        tuple[Tensor, Sequence | None]: Features, float32 (N, C) or, of every token, (N, L, C), L tokens row-major over
        (T', H', W'), of a video of several views those of all views one after another; on the CPU. And the samples of
        the batch.

    Raises:
        ValueError: If the model gives no features, or for tokens one vector for all of them.
    """
    if not hasattr(model, "extract_feat"):
        raise ValueError(f"{type(model).__name__} has no extract_feat, which the features are taken from.")
    data = model.data_preprocessor(batch, False)
    samples = data.get("data_samples")
    count = len(samples or batch["inputs"])
    reduce = _every_token if tokens else one_vector_each
    return reduce(model.extract_feat(data["inputs"]), count).float().cpu(), samples


def _labels(samples: Sequence | None) -> Tensor:
    """Classes (N,) of a batch's samples, of mmpretrain or mmaction2."""
    labels: list[Any] = [getattr(sample, "gt_label", None) for sample in samples or ()]
    if not labels or any(label is None or label.numel() != 1 for label in labels):
        raise ValueError(
            "k-NN needs one class of each sample: take a data set with labels, and a pipeline that packs them "
            "(PackInputs of mmpretrain, PackActionInputs of mmaction2)."
        )
    return torch.cat([label.reshape(1) for label in labels])


def one_vector_each(features: Any, batch_size: int) -> Tensor:
    """From what a model calls its features to one vector a sample.

    Args:
        features (object): What ``extract_feat`` gave: of several scales the last counts, of a scale with a pooled
            vector this.
        batch_size (int): Number N of samples.

    Returns:
        Tensor: (N, C), averaged over tokens, positions and views.
    """
    features = _without_settings(features)
    while isinstance(features, list | tuple):
        features = features[-1]  # the last of several scales
    if features.ndim == 3:
        features = features.mean(1)  # (N, L, C) -> (N, C)
    elif features.ndim > 3:
        features = features.flatten(2).mean(2)  # (N, C, ...) -> (N, C)
    return features.unflatten(0, (batch_size, -1)).mean(1)  # (N * views, C) -> (N, C)


def _every_token(features: Any, batch_size: int) -> Tensor:
    """From what a model calls its features to (N, L, C)."""
    features = _without_settings(features)
    while isinstance(features, list | tuple):
        is_pair = len(features) == 2 and all(isinstance(part, Tensor) for part in features)
        # a scale of MViT is the feature map and a pooled vector
        features = features[0] if is_pair and features[0].ndim > features[1].ndim == 2 else features[-1]
    if features.ndim < 3:
        raise ValueError("the model gives one vector an input; set model.backbone.out_type='featmap' for every token.")
    if features.ndim > 3:
        features = features.flatten(2).transpose(1, 2)  # (N, C, ...) -> (N, L, C)
    return features.unflatten(0, (batch_size, -1)).flatten(1, 2)  # (N * views, L, C) -> (N, views * L, C)


def _without_settings(features: Any) -> Any:
    if isinstance(features, tuple) and len(features) == 2 and isinstance(features[1], dict):
        return features[0]  # a recognizer of mmaction2, with settings of its head
    return features


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Whoever goes on afterwards, such as training, draws the numbers it would have drawn."""
    python, array = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(array)
