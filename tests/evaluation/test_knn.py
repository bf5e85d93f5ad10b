"""Tests of k-NN: comparison with scikit-learn, and the meaning of the settings."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from maskfeat_plugin.evaluation.knn import knn_scores, nearest_neighbours, top_k_accuracy


def data(seed, n=60, q=25, c=8, num_classes=5):
    rng = np.random.default_rng(seed)
    return (
        torch.from_numpy(rng.normal(size=(q, c))),
        torch.from_numpy(rng.normal(size=(n, c))),
        torch.from_numpy(rng.integers(0, num_classes, n)),
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.sampled_from([0.07, 0.5]), st.sampled_from([4, 1024]))
def test_it_is_scikit_learns(seed, k, temperature, chunk_size):
    queries, features, labels = data(seed)
    labels[:5] = torch.arange(5)  # scikit-learn only knows classes that occur in the labels
    peer = KNeighborsClassifier(k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / temperature))
    expected = peer.fit(features.numpy(), labels.numpy()).predict_proba(queries.numpy())
    found = knn_scores(queries, features, labels, 5, k, temperature, chunk_size)
    torch.testing.assert_close(found, torch.from_numpy(expected).float(), atol=1e-4, rtol=1e-3)


def test_length_of_features_does_not_count_and_fewer_than_k_are_all():
    queries, features, labels = data(0)
    scale = torch.rand(len(features), 1) + 0.5
    torch.testing.assert_close(
        knn_scores(queries, features * scale, labels, 5), knn_scores(queries * 3, features, labels, 5)
    )
    alone = knn_scores(queries, features[:1], labels[:1], 5)
    assert (alone.argmax(1) == labels[0]).all()


def test_no_overflow_at_a_tiny_temperature():
    queries, features, labels = data(1)
    scores = knn_scores(queries, features, labels, 5, temperature=1e-4)
    assert scores.isfinite().all()
    torch.testing.assert_close(scores.sum(1), torch.ones(len(queries)))


def test_accuracy_counts_the_best():
    scores = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    assert top_k_accuracy(scores, torch.tensor([0, 1]), (1, 2, 5)) == dict(top1=50.0, top2=100.0, top5=100.0)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(queries=torch.zeros(3, 7)), "must be"),
        (dict(labels=torch.zeros(3, dtype=torch.int64)), "as many labels"),
        (dict(num_classes=2), "num_classes=2"),
        (dict(k=0), "k=0"),
        (dict(temperature=0.0), "temperature=0.0"),
    ],
)
def test_bad_arguments_are_named(change, message):
    queries, features, labels = data(2)
    labels[0] = 4
    with pytest.raises(ValueError, match=message):
        knn_scores(**{**dict(queries=queries, features=features, labels=labels, num_classes=5), **change})


@pytest.mark.parametrize("chunk_size", [4, 1024])
def test_the_neighbours_are_scikit_learns(chunk_size):
    queries, features, _ = data(3)
    similarity, nearest = nearest_neighbours(queries, features, 7, chunk_size)
    distance, expected = NearestNeighbors(n_neighbors=7, metric="cosine").fit(features).kneighbors(queries)
    np.testing.assert_array_equal(nearest, expected)
    np.testing.assert_allclose(similarity, 1 - distance, atol=1e-6)
    assert nearest_neighbours(queries, features, 99)[0].shape == (25, 60)  # only 60 features exist
    assert nearest_neighbours(queries[:0], features, 7)[1].shape == (0, 7)
    for wrong in ((queries[:, :4], features, 7), (queries, features[:0], 7), (queries, features, 0)):
        with pytest.raises(ValueError, match="k-NN"):
            nearest_neighbours(*wrong)
