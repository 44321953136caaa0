"""Against scikit-learn's NDCG, and sets written out by hand."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from trainables.metrics import METRICS, compute_metrics, metric_value, metrics_of
from trainables.task import Task
from trainables.topk import TopLists, queries_of

TASK = Task("multiclass", ("no", "yes"), is_ranking=True)
RANKED = [name for name, row in METRICS.items() if row.is_ranking]


def slow_lists(scores, is_positive, queries, k):
    """Recall, NDCG and reciprocal rank, a query at a time, by sorting a list."""
    recalls, gains, firsts = [], [], []
    for query in sorted(set(queries.tolist())):
        mine = [(scores[at], bool(is_positive[at])) for at in np.flatnonzero(queries == query)]
        mine.sort(key=lambda one: (-one[0], one[1]))
        places = [place for place, (_, positive) in enumerate(mine, 1) if positive]
        if places:
            recalls.append(len([place for place in places if place <= k]) / len(places))
            best = sum(1 / np.log2(1 + place) for place in range(1, min(k, len(places)) + 1))
            gains.append(sum(1 / np.log2(1 + place) for place in places if place <= k) / best)
            firsts.append(1 / places[0])
    return np.mean(recalls), np.mean(gains), np.mean(firsts)


@pytest.mark.parametrize("decimals", [1, 12])  # with ties, and without
def test_they_are_what_a_slow_second_implementation_says(decimals):
    rng = np.random.default_rng(0)
    queries = rng.integers(0, 40, 900)
    scores, is_positive = rng.normal(size=900).round(decimals), rng.random(900) < 0.1
    is_positive[queries == 7] = False  # nothing to find: left out
    found = TopLists(scores, is_positive, queries)
    for k in (1, 5, 10, 20):
        expected = slow_lists(scores, is_positive, queries, k)
        assert (found.recall(k), found.ndcg(k), found.reciprocal_rank()) == pytest.approx(expected)


def test_ndcg_is_scikit_learns():
    rng = np.random.default_rng(1)
    scores, truth = rng.normal(size=(30, 25)), (rng.random((30, 25)) < 0.15).astype(int)
    truth[:, 0] |= truth.sum(axis=1) == 0
    queries = np.repeat(np.arange(30), 25)
    found = TopLists(scores.ravel(), truth.ravel().astype(bool), queries)
    for k in (5, 10, 20):
        assert found.ndcg(k) == pytest.approx(ndcg_score(truth, scores, k=k))


def test_equal_scores_do_not_help():
    """One positive among ten candidates that a constant model scores alike: it comes last."""
    is_positive = np.arange(10) == 0
    found = TopLists(np.zeros(10), is_positive, np.zeros(10, int))
    assert (found.recall(5), found.ndcg(5), found.reciprocal_rank()) == (0.0, 0.0, 0.1)
    assert found.recall(10) == 1.0


def test_the_ids_say_whose_candidates_they_are():
    assert queries_of(["a@val/1", "b@val/1", "a@val/2/x"]).tolist() == [0, 1, 0]


def test_metrics_of_a_ranking_task():
    rng = np.random.default_rng(2)
    labels, logits = (rng.random(200) < 0.2).astype(int), rng.normal(size=(200, 2))
    ids = [f"u{at % 9}/{at}" for at in range(200)]
    found = compute_metrics(logits, labels, TASK, ids=ids)
    margins, queries = logits[:, 1] - logits[:, 0], np.arange(200) % 9
    for k in (5, 10, 20):
        recall, ndcg, mrr = slow_lists(margins, labels == 1, queries, k)
        assert (found[f"recall_at_{k}"], found[f"ndcg_at_{k}"], found["mrr"]) == pytest.approx((recall, ndcg, mrr))
    assert found.keys() - compute_metrics(logits, labels, TASK).keys() == set(RANKED)  # of single rows there are none
    assert not {row.name for row in metrics_of(Task("multiclass", ("no", "yes")))} & set(RANKED)
    with pytest.raises(ValueError, match="metric 'mrr' is one of whole users"):
        metric_value("mrr", logits, labels, TASK)
