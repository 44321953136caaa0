"""Differences between models on the same samples: against closed forms, simulation and scipy."""

import numpy as np
import pytest
import scipy.stats

from analysis.paired import Difference, Outputs, is_right, mcnemar, paired_difference, samples_needed
from trainables.task import Task

TASK = Task("multiclass", ("a", "b"))


def answering(is_correct, labels):
    """Logits that are right where ``is_correct`` says so."""
    said = np.where(is_correct, labels, 1 - labels)
    return Outputs(labels, np.eye(2)[said])


@pytest.mark.slow
def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    for trial in range(200):
        labels, both = rng.integers(0, 2, 150), rng.random((2, 150)) < [[0.7], [0.6]]
        one, other = (answering(right, labels) for right in both)
        found = paired_difference(one, other, metric="accuracy", task=TASK, resamples=400, seed=trial)
        hits += found.low <= 0.1 <= found.high
    assert scipy.stats.binomtest(hits, 200, 0.95).pvalue > 0.001


def test_the_interval_of_an_accuracy_is_that_of_the_paired_normal_and_of_any_metric_likewise():
    rng = np.random.default_rng(1)
    labels, both = rng.integers(0, 2, 2000), rng.random((2, 2000)) < [[0.8], [0.75]]
    one, other = (answering(right, labels) for right in both)
    steps = both[0].astype(float) - both[1]
    half = 1.96 * steps.std() / np.sqrt(2000)
    found = paired_difference(one, other, metric="accuracy", task=TASK)
    assert found.gain == pytest.approx(steps.mean())
    assert (found.low, found.high) == pytest.approx((steps.mean() - half, steps.mean() + half), abs=0.1 * half)
    slow = paired_difference(one, other, metric="micro_f1", task=TASK, resamples=500)  # of classes the accuracy
    assert (slow.low, slow.high) == pytest.approx((found.low, found.high), abs=0.2 * half)


def test_less_is_better_where_it_is():
    task, labels = Task("regression"), np.arange(50.0)
    near, far = Outputs(labels, (labels + 1)[:, None]), Outputs(labels, (labels - 3)[:, None])
    found = paired_difference(near, far, metric="mae", task=task, resamples=200)
    assert found == Difference(2.0, 2.0, 2.0)


def test_mcnemar_is_the_binomial_of_those_that_one_alone_gets_right():
    one = np.array([1] * 10 + [1] * 7 + [0] * 2 + [0] * 5, bool)
    other = np.array([1] * 10 + [0] * 7 + [1] * 2 + [0] * 5, bool)
    expected = 2 * sum(scipy.stats.binom.pmf(k, 9, 0.5) for k in range(3))  # two-sided: 0, 1, 2 of 9, and as rare
    assert mcnemar(one, other) == pytest.approx(expected)
    assert mcnemar(other, one) == pytest.approx(expected)
    assert mcnemar(one, one) == 1.0


def test_four_times_the_samples_for_half_the_interval():
    assert samples_needed(Difference(0.05, -0.05, 0.15), 100) == 400
    assert samples_needed(Difference(0.2, 0.1, 0.3), 100) == 100
    assert samples_needed(Difference(0.0, -0.1, 0.1), 100) is None


def test_right_is_every_class_of_a_sample():
    many = Task("multilabel", ("a", "b"))
    outputs = Outputs(np.array([[1, 0], [1, 1.0]]), np.array([[2, -1], [2, -1.0]]))
    assert is_right(outputs, many).tolist() == [True, False]
    assert is_right(outputs, Task("regression")) is None
