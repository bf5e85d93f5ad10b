"""Features of labelled data by a model, for classification without training."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.dist import collect_results_gpu, is_main_process
from mmengine.model import is_model_wrapper
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm


@torch.no_grad()
def extract_features(model: nn.Module, dataloader: DataLoader, title: str = "") -> tuple[Tensor, Tensor] | None:
    """Features and labels of a data set, in its order; no random state is changed.

    The features are those of ``model.extract_feat`` for unmasked inputs in evaluation mode, averaged over tokens, over
    positions of a feature map and over the views of a video.

    Args:
        model (nn.Module): A pre-training model, a classifier of mmpretrain or a recognizer of mmaction2.
        dataloader (DataLoader): Gives every sample once, in order; on several processes each gives its share, as
            ``mmengine.dataset.DefaultSampler`` deals it out.
        title (str): What the progress bar says; "" for no bar. Defaults to "".

    Returns:
        tuple[Tensor, Tensor] | None: Features, float32 (N, C), and classes, int64 (N,), on the CPU; None on all
        processes but the first.

    Raises:
        ValueError: If the model gives no features, or a sample has not exactly one class.
    """
    model = model.module if is_model_wrapper(model) else model
    if not hasattr(model, "extract_feat"):
        raise ValueError(f"{type(model).__name__} has no extract_feat, which k-NN takes the features from.")
    was_training = model.training
    model.eval()
    rows = []
    try:
        with _preserved_random_state():
            for batch in tqdm(dataloader, title, unit="batch", disable=not title or not is_main_process()):
                data = model.data_preprocessor(batch, False)
                labels = _labels(data.get("data_samples"))
                features = _one_vector_each(model.extract_feat(data["inputs"]), len(labels))
                rows += zip(features.float().cpu(), labels.cpu(), strict=True)
    finally:
        model.train(was_training)
    rows = collect_results_gpu(rows, len(dataloader.dataset))
    if rows is None:
        return None
    return torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])


def _labels(samples: Sequence | None) -> Tensor:
    """Classes (N,) of a batch's samples, of mmpretrain or mmaction2."""
    labels = [getattr(sample, "gt_label", None) for sample in samples or ()]
    if not labels or any(label is None or label.numel() != 1 for label in labels):
        raise ValueError(
            "k-NN needs one class of each sample: take a data set with labels, and a pipeline that packs them "
            "(PackInputs of mmpretrain, PackActionInputs of mmaction2)."
        )
    return torch.cat([label.reshape(1) for label in labels])


def _one_vector_each(features: object, batch_size: int) -> Tensor:
    """From what a model calls its features to (N, C)."""
    if isinstance(features, tuple) and len(features) == 2 and isinstance(features[1], dict):
        features = features[0]  # a recognizer of mmaction2, with settings of its head
    while isinstance(features, list | tuple):
        features = features[-1]  # the last of several scales
    if features.ndim == 3:
        features = features.mean(1)  # (N, L, C) -> (N, C)
    elif features.ndim > 3:
        features = features.flatten(2).mean(2)  # (N, C, ...) -> (N, C)
    return features.unflatten(0, (batch_size, -1)).mean(1)  # (N * views, C) -> (N, C)


@contextmanager
def _preserved_random_state() -> Iterator[None]:
    """Whoever goes on afterwards, such as training, draws the numbers it would have drawn."""
    python, array = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(array)
