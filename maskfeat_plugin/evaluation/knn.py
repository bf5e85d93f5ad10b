"""Classification by the nearest neighbours (k-NN) among labelled features."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def nearest_neighbours(queries: Tensor, features: Tensor, k: int, chunk_size: int = 1024) -> tuple[Tensor, Tensor]:
    """Find the features with the largest cosine similarity to each query.

    Args:
        queries (Tensor): Features whose neighbours are searched (Q, C).
        features (Tensor): Features that may be neighbours (N, C).
        k (int): Number of neighbours; if there are fewer features, all of them.
        chunk_size (int): Number of queries that are compared at once; a smaller number needs less memory. Defaults to
            1024.

    Returns:
        tuple[Tensor, Tensor]: Similarities, float32 (Q, k), the largest first, and numbers of the neighbours, int64
        (Q, k).

    Raises:
        ValueError: If the shapes do not fit, there is no feature, or ``k`` is not positive.
    """
    if queries.ndim != 2 or features.ndim != 2 or queries.shape[1] != features.shape[1]:
        raise ValueError(
            f"k-NN: queries and features must be (Q, C) and (N, C), got {tuple(queries.shape)} and "
            f"{tuple(features.shape)}."
        )
    if len(features) == 0 or k < 1:
        raise ValueError(f"k-NN: k must be positive and there must be a feature, got k={k}, {len(features)} features.")
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

    The neighbours are the features with the largest cosine similarity s. Each votes for its class with the weight
    exp(s / temperature), as in Wu et al., 2018, and DINO (Caron et al., 2021).

    Args:
        queries (Tensor): Features to classify (Q, C).
        features (Tensor): Labelled features (N, C).
        labels (Tensor): Classes of the labelled features, int64 (N,).
        num_classes (int): Number of classes.
        k (int): Number of neighbours that vote; if there are fewer features, all of them. Defaults to 20.
        temperature (float): A smaller temperature gives more weight to the nearest neighbours. Defaults to 0.07.
        chunk_size (int): Number of queries that are compared at once; a smaller number needs less memory. Defaults to
            1024.

    Returns:
        Tensor: Share of each class in the votes, float32 (Q, num_classes).

    Raises:
        ValueError: If the shapes do not fit, there is no labelled feature, a label is not a class, or ``k`` or
            ``temperature`` is not positive.
    """
    if len(features) == 0 or labels.shape != (len(features),):
        raise ValueError(
            f"k-NN: {len(features)} features need as many labels, and at least one; got {tuple(labels.shape)}."
        )
    if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise ValueError(
            f"k-NN: labels must be from 0 to num_classes - 1, got {labels.min()} to {labels.max()} with "
            f"num_classes={num_classes}."
        )
    if k < 1 or temperature <= 0:
        raise ValueError(f"k-NN: k and temperature must be positive, got k={k}, temperature={temperature}.")
    similarity, nearest = nearest_neighbours(queries, features, k, chunk_size)  # (Q, k)
    # similarities relative to the nearest neighbour, so that no exponential overflows
    votes = ((similarity - similarity[:, :1]) / temperature).exp()
    scores = votes.new_zeros(len(queries), num_classes).scatter_add_(1, labels[nearest], votes)
    return scores / scores.sum(1, keepdim=True)


def top_k_accuracy(scores: Tensor, labels: Tensor, topk: tuple[int, ...] = (1, 5)) -> dict[str, float]:
    """Compute the share of samples, in percent, whose class is among the classes with the highest scores.

    Args:
        scores (Tensor): Scores (Q, num_classes).
        labels (Tensor): True classes, int64 (Q,).
        topk (tuple[int, ...]): Numbers of classes with the highest scores. A number above the number of classes stands
            for all classes. Defaults to (1, 5).

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
    """Compute the accuracies of :func:`knn_scores` for several numbers of neighbours.

    Args:
        queries (Tensor): Features to classify (Q, C).
        truth (Tensor): True classes of the queries, int64 (Q,).
        features (Tensor): See :func:`knn_scores`.
        labels (Tensor): See :func:`knn_scores`.
        num_classes (int): Number of classes.
        k (Sequence[int]): Numbers of neighbours. Defaults to (10, 20).
        temperature (float): See :func:`knn_scores`. Defaults to 0.07.

    Returns:
        dict[str, float]: "top1_k10", "top5_k10" and so on, in percent.

    Raises:
        ValueError: See :func:`knn_scores`.
    """
    accuracies = {}
    for neighbours in k:
        scores = knn_scores(queries, features, labels, num_classes, neighbours, temperature)
        for name, value in top_k_accuracy(scores, truth).items():
            accuracies[f"{name}_k{neighbours}"] = value
    return accuracies
