"""Classification by the nearest neighbours among labelled features."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def nearest_neighbours(queries: Tensor, features: Tensor, k: int, chunk_size: int = 1024) -> tuple[Tensor, Tensor]:
    """Find the features of the largest cosine similarity.

    Args:
        queries (Tensor): Whose neighbours are looked for (Q, C).
        features (Tensor): Among what (N, C).
        k (int): Neighbours; all of them if there are fewer.
        chunk_size (int): Queries at a time, which bounds the memory. Defaults to 1024.

    Returns:
        tuple[Tensor, Tensor]: Similarities, float32 (Q, k), the largest first, and numbers of the neighbours, int64
        (Q, k).

    Raises:
        ValueError: If shapes do not fit, there is no feature or ``k`` is not positive.
    """
    if queries.ndim != 2 or features.ndim != 2 or queries.shape[1] != features.shape[1]:
        raise ValueError(
            f"k-NN: queries {tuple(queries.shape)} and features {tuple(features.shape)} must be (Q, C), (N, C)."
        )
    if len(features) == 0 or k < 1:
        raise ValueError(f"k-NN: k={k} has to be positive, and {len(features)} features at least one.")
    k = min(k, len(features))
    features = F.normalize(features.float(), dim=1)
    found = [(chunk @ features.T).topk(k) for chunk in F.normalize(queries.float(), dim=1).split(chunk_size)]
    if not found:
        return features.new_zeros(0, k), torch.zeros(0, k, dtype=torch.int64)
    return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])


@torch.no_grad()
def knn_scores(
    queries: Tensor,
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    k: int = 20,
    temperature: float = 0.07,
    chunk_size: int = 1024,
) -> Tensor:
    """Score classes by a weighted vote of the nearest neighbours.

    Neighbours are those of the largest cosine similarity s, and each votes for its class with exp(s / temperature), as
    in Wu et al., 2018, and DINO (Caron et al., 2021).

    Args:
        queries (Tensor): Features to classify (Q, C).
        features (Tensor): Labelled features (N, C).
        labels (Tensor): Their classes, int64 (N,).
        num_classes (int): Number of classes.
        k (int): Neighbours that vote; all of them if there are fewer. Defaults to 20.
        temperature (float): The smaller, the more the nearest count. Defaults to 0.07.
        chunk_size (int): Queries at a time, which bounds the memory. Defaults to 1024.

    Returns:
        Tensor: Share of the votes, float32 (Q, num_classes).

    Raises:
        ValueError: If shapes do not fit, there is no labelled feature, a label is not a class, or ``k`` or
            ``temperature`` is not positive.
    """
    if len(features) == 0 or labels.shape != (len(features),):
        raise ValueError(
            f"k-NN: {len(features)} features need as many labels, at least one; got {tuple(labels.shape)}."
        )
    if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise ValueError(f"k-NN: labels reach from {labels.min()} to {labels.max()}, num_classes={num_classes}.")
    if k < 1 or temperature <= 0:
        raise ValueError(f"k-NN: k={k} and temperature={temperature} have to be positive.")
    similarity, nearest = nearest_neighbours(queries, features, k, chunk_size)  # (Q, k)
    # relative to the nearest, so that no exponential overflows
    votes = ((similarity - similarity[:, :1]) / temperature).exp()
    scores = votes.new_zeros(len(queries), num_classes).scatter_add_(1, labels[nearest], votes)
    return scores / scores.sum(1, keepdim=True)


def top_k_accuracy(scores: Tensor, labels: Tensor, topk: tuple[int, ...] = (1, 5)) -> dict[str, float]:
    """Share of samples whose class is among the best scored, in percent.

    Args:
        scores (Tensor): (Q, num_classes).
        labels (Tensor): True classes, int64 (Q,).
        topk (tuple[int, ...]): How many of the best count; more than there are classes count as all. Defaults to
            (1, 5).

    Returns:
        dict[str, float]: "top1" and so on.
    """
    best = scores.topk(min(max(topk), scores.shape[1])).indices == labels[:, None]
    return {f"top{n}": 100.0 * best[:, :n].any(1).float().mean().item() for n in topk}


def knn_accuracy(
    queries: Tensor,
    truth: Tensor,
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    k: Sequence[int] = (10, 20),
    temperature: float = 0.07,
) -> dict[str, float]:
    """Accuracies of :func:`knn_scores` for several numbers of neighbours.

    Args:
        queries (Tensor): Features to classify (Q, C).
        truth (Tensor): Their classes, int64 (Q,).
        features (Tensor): As of :func:`knn_scores`.
        labels (Tensor): As of :func:`knn_scores`.
        num_classes (int): Number of classes.
        k (Sequence[int]): Numbers of neighbours. Defaults to (10, 20).
        temperature (float): As of :func:`knn_scores`. Defaults to 0.07.

    Returns:
        dict[str, float]: "top1_k10", "top5_k10" and so on, in percent.

    Raises:
        ValueError: As :func:`knn_scores`.
    """
    accuracies = {}
    for neighbours in k:
        scores = knn_scores(queries, features, labels, num_classes, neighbours, temperature)
        for name, value in top_k_accuracy(scores, truth).items():
            accuracies[f"{name}_k{neighbours}"] = value
    return accuracies
