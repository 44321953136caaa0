"""Intervals of means against scipy; which mean is best against what can be worked out by hand."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from analysis.student import difference_interval, interval, probability_best


def test_the_interval_is_the_classical_one():
    values = [0.71, 0.74, 0.69, 0.72, 0.75]
    expected = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert interval(values) == pytest.approx(expected)
    assert all(math.isnan(end) for end in interval([0.7]))
    assert interval([0.5, 0.5, 0.5]) == pytest.approx((0.5, 0.5))


def test_a_difference_has_welchs_interval():
    one, other = [0.80, 0.82, 0.81, 0.85], [0.75, 0.79]
    expected = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert difference_interval(one, other) == pytest.approx((expected.low, expected.high))
    assert all(math.isnan(end) for end in difference_interval(one, [0.7]))


def test_two_finalists_of_two_seeds():
    """Both means are Cauchy, and so is their difference, of the sum of the scales."""
    one, other = [0.70, 0.74], [0.73, 0.79]
    scales = sum(abs(a - b) / 2 for a, b in (one, other))  # sd / sqrt(2) of two values is half their distance
    expected = 0.5 + math.atan((0.72 - 0.76) / scales) / math.pi
    assert probability_best([one, other], "max") == pytest.approx([expected, 1 - expected], abs=1e-6)
    assert probability_best([one, other], "min") == pytest.approx([1 - expected, expected], abs=1e-6)


def test_two_finalists_of_many_seeds_differ_as_normals_do():
    generator = np.random.default_rng(0)
    one, other = (generator.normal(mean, 0.02, size=2000) for mean in (0.8, 0.8005))
    error = math.hypot(stats.sem(one), stats.sem(other))
    expected = stats.norm.cdf((one.mean() - other.mean()) / error)
    assert probability_best([one.tolist(), other.tolist()], "max")[0] == pytest.approx(expected, abs=1e-3)


def test_three_finalists_against_scipys_integral():
    groups = [[0.80, 0.82, 0.81], [0.83, 0.79, 0.82, 0.80, 0.84], [0.78, 0.85]]
    found = probability_best(groups, "max")
    posteriors = [stats.t(len(g) - 1, np.mean(g), stats.sem(g)) for g in groups]
    for index, own in enumerate(posteriors):
        others = [posterior for at, posterior in enumerate(posteriors) if at != index]

        def density(u, own=own, others=others):
            return math.prod(posterior.cdf(own.ppf(u)) for posterior in others)

        assert found[index] == pytest.approx(integrate.quad(density, 0, 1, limit=200)[0], abs=1e-5)
    assert sum(found) == pytest.approx(1)


def test_equal_finalists_share_and_certain_ones_win():
    assert probability_best([[0.7, 0.8, 0.9]] * 4, "max") == pytest.approx([0.25] * 4)
    assert probability_best([[0.7] * 3, [0.8] * 3, [0.8] * 3], "max") == pytest.approx([0, 0.5, 0.5], abs=1e-6)
    assert probability_best([[0.7] * 3, [0.8] * 3], "min") == pytest.approx([1, 0], abs=1e-6)


def test_one_value_says_nothing_of_its_spread():
    alone, *others = probability_best([[0.9], [0.7, 0.8], [0.7, 0.8]], "max")
    assert math.isnan(alone) and others == pytest.approx([0.5, 0.5])
    assert probability_best([], "max") == []
