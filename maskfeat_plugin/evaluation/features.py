"""Computation of a model's features for labelled data, for classification without training."""

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
    """Compute the features and labels of a data set, in its order, without a change to random states.

    The features are the output of ``model.extract_feat`` for unmasked inputs in evaluation mode, averaged over tokens,
    over positions of a feature map and over the views of a video.

    Args:
        model (BaseModel): A pre-training model, a classifier of mmpretrain or a recognizer of mmaction2.
        dataloader (DataLoader): Data loader that gives every sample once, in order. With several processes, each gives
            its share of the samples, as divided by ``mmengine.dataset.DefaultSampler``.
        title (str): Title of the progress bar; "" for no bar. Defaults to "".

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
    """Compute the features of a batch with a model in evaluation mode.

    Args:
        model (BaseModel): See :func:`compute_features`.
        batch (dict): Batch of a data loader.
        tokens (bool): Whether to return the features of every token instead of their mean. Defaults to False.

    Returns:
        tuple[Tensor, Sequence | None]: Features on the CPU, and the samples of the batch. The features are float32
        (N, C), or with ``tokens`` (N, L, C): L tokens, row-major over (T', H', W'). The tokens of several views of a
        video follow each other.

    Raises:
        ValueError: If the model gives no features, or with ``tokens``, if it gives only one vector for all tokens.
    """
    if not hasattr(model, "extract_feat"):
        raise ValueError(f"{type(model).__name__} has no extract_feat, which gives the features. Use another model.")
    data = model.data_preprocessor(batch, False)
    samples = data.get("data_samples")
    count = len(samples or batch["inputs"])
    reduce = _every_token if tokens else one_vector_each
    return reduce(model.extract_feat(data["inputs"]), count).float().cpu(), samples


def _labels(samples: Sequence | None) -> Tensor:
    """Return the classes (N,) of a batch's samples, which are samples of mmpretrain or mmaction2."""
    labels: list[Any] = [getattr(sample, "gt_label", None) for sample in samples or ()]
    if not labels or any(label is None or label.numel() != 1 for label in labels):
        raise ValueError(
            "k-NN needs exactly one class for each sample. Use a data set with labels, and a pipeline that packs them "
            "(PackInputs of mmpretrain, PackActionInputs of mmaction2)."
        )
    return torch.cat([label.reshape(1) for label in labels])


def one_vector_each(features: Any, batch_size: int) -> Tensor:
    """Reduce the output of ``extract_feat`` to one vector for each sample.

    Args:
        features (object): Output of ``extract_feat``. Of several scales the last one is used; of a scale with a feature
            map and a pooled vector, the vector is used.
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
    """Convert the output of ``extract_feat`` to (N, L, C)."""
    features = _without_settings(features)
    while isinstance(features, list | tuple):
        is_pair = len(features) == 2 and all(isinstance(part, Tensor) for part in features)
        # MViT gives a feature map and a pooled vector for each scale
        features = features[0] if is_pair and features[0].ndim > features[1].ndim == 2 else features[-1]
    if features.ndim < 3:
        raise ValueError(
            "the model gives one vector for each input, not one for each token. Set model.backbone.out_type='featmap'."
        )
    if features.ndim > 3:
        features = features.flatten(2).transpose(1, 2)  # (N, C, ...) -> (N, L, C)
    return features.unflatten(0, (batch_size, -1)).flatten(1, 2)  # (N * views, L, C) -> (N, views * L, C)


def _without_settings(features: Any) -> Any:
    if isinstance(features, tuple) and len(features) == 2 and isinstance(features[1], dict):
        return features[0]  # a recognizer of mmaction2 also returns settings for its head
    return features


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restore the states of the random generators at the end of the block, so that training continues unchanged."""
    python, array = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(array)
