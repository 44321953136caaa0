"""Ranks on matrices by hand, with ties and several positives, and against counting one by one."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from analysis.inspect.retrieval import best_ranks, retrieval_metrics, similarity


def test_ranks_by_hand():
    values = np.array([[0.9, 0.9, 0.1], [0.2, 0.8, 0.5], [0.3, 0.1, 0.2]])
    ranks = best_ranks(values, np.eye(3, dtype=bool))
    assert ranks.tolist() == [2, 1, 2]  # the tie counts against the first
    found = retrieval_metrics(ranks, np.eye(3, dtype=bool))
    assert found["recall_at_1"] == pytest.approx(1 / 3) and found["recall_at_5"] == found["recall_at_10"] == 1
    assert found["mrr"] == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
    assert (found["median_rank"], found["mean_rank"]) == (2, pytest.approx(5 / 3))
    assert (found["queries"], found["candidates"], found["positives"]) == (3, 3, 1)
    assert found["chance_recall_at_1"] == pytest.approx(1 / 3)


def test_of_several_positives_the_best_counts_and_the_others_are_not_in_its_way():
    values = np.array([[0.5, 0.9, 0.5, 0.7, 0.5]])
    assert best_ranks(values, np.array([[True, False, True, False, False]])).tolist() == [4]
    assert best_ranks(values, np.array([[True, False, False, True, False]])).tolist() == [2]
    assert best_ranks(values, np.array([[True, True, True, True, True]])).tolist() == [1]


def test_all_alike_is_the_last_rank():
    assert best_ranks(np.zeros((4, 4)), np.eye(4, dtype=bool)).tolist() == [4] * 4


@pytest.mark.parametrize("seed", range(5))
def test_ranks_are_what_counting_gives(seed):
    rng = np.random.default_rng(seed)
    values, positive = rng.integers(0, 5, (20, 12)), rng.random((20, 12)) < 0.2
    positive[:, 3] = True
    counted = []
    for row, mine in zip(values, positive, strict=True):
        best = max(value for value, is_mine in zip(row, mine, strict=True) if is_mine)
        counted.append(1 + sum(value >= best for value, is_mine in zip(row, mine, strict=True) if not is_mine))
    assert best_ranks(values, positive).tolist() == counted


@pytest.mark.parametrize("kind, other", [("cosine", lambda a, b: 1 - cdist(a, b, "cosine")),
                                         ("euclidean", lambda a, b: -cdist(a, b))])  # fmt: skip
def test_similarities_are_scipys(kind, other):
    rng = np.random.default_rng(0)
    query, target = rng.normal(size=(7, 4)), rng.normal(size=(9, 4))
    np.testing.assert_allclose(similarity(query, target, kind), other(query, target), atol=1e-7)
