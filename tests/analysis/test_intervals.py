"""Intervals against scipy, and against the normal law of a mean."""

import numpy as np
import pytest
from scipy import stats

from analysis.intervals import bootstrap, intervals, wilson
from trainables.metrics import compute_metrics
from trainables.task import Task

TWO = Task("multiclass", ("no", "yes"))
NUMBER = Task("regression", ())


@pytest.mark.parametrize("right, number", [(0, 7), (3, 7), (81, 263), (50, 50)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_scipys(right, number, level):
    told = stats.binomtest(right, number).proportion_ci(level, method="wilson")
    assert wilson(right / number, number, level=level) == pytest.approx((told.low, told.high), abs=1e-12)


def test_the_bootstrap_of_a_mean_is_normal():
    errors = np.random.default_rng(1).normal(size=400)
    found = bootstrap(errors[:, None], np.zeros(400), NUMBER, draws=2000)["mae"]
    mean, error = np.abs(errors).mean(), np.abs(errors).std() / 20
    assert found == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.1 * error)
    told = stats.bootstrap(
        (np.abs(errors),), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert found == pytest.approx((told.low, told.high), abs=0.15 * error)


def test_every_metric_is_in_its_interval():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 60)
    logits = random.normal(size=(60, 2)) + np.eye(2)[labels]
    found, values = intervals(logits, labels, TWO), compute_metrics(logits, labels, TWO)
    assert found.keys() == values.keys()
    assert all(low <= values[name] <= high for name, (low, high) in found.items())
    assert found["accuracy"] == wilson(values["accuracy"], 60)
