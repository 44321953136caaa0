from fractions import Fraction

import numpy as np
import pytest

from trainables.data.reading.scale import LabelScale, far_values, moments


def exact(values):
    """Mean and deviation by whole fractions."""
    parts = [Fraction(float(value)) for value in values]
    mean = sum(parts) / len(parts)
    square = sum((part - mean) ** 2 for part in parts) / len(parts)
    return float(mean), square


@pytest.mark.parametrize(
    "values",
    [[1.0, 2.0, 4.0], [1.7e9, 1.7e9 + 30, 1.7e9 + 60], [2.0**24 + at for at in range(5)], [1e200, -3e200, 2e200]],
)
def test_mean_and_deviation_are_those_of_whole_fractions(values):
    mean, std = moments(np.array(values)[:, None])
    expected, square = exact(values)
    assert mean[0] == pytest.approx(expected, rel=1e-12)
    assert float(Fraction(float(std[0])) ** 2 / square) == pytest.approx(1, rel=1e-9)


def test_a_constant_column_and_gaps():
    values = np.array([[0.1, np.nan, np.nan], [0.1, 3.0, np.nan], [0.1, 5.0, np.nan], [0.1, np.inf, np.nan]])
    mean, std = moments(values)
    assert mean.tolist() == [0.1, 4.0, 0.0] and std.tolist() == [1.0, 1.0, 1.0]


def test_labels_keep_their_differences_there_and_back():
    labels = 2.0**24 + np.arange(8) + np.array([0.25, 0.5] * 4)
    scale = LabelScale.of(labels)
    learnt = scale.z_scores(labels)
    assert learnt.dtype == np.float32 and len(np.unique(learnt)) == 8
    assert learnt.mean() == pytest.approx(0, abs=1e-6) and learnt.std() == pytest.approx(1, rel=1e-6)
    np.testing.assert_allclose(scale.restored(learnt), labels, rtol=0, atol=1e-6)
    assert len(np.unique(labels.astype(np.float32))) < 8  # what would be lost


def test_far_values_are_those_beside_which_others_are_alike():
    usual, is_train = np.arange(100.0), np.ones(100, bool)
    assert far_values(usual, is_train) is None
    assert far_values((usual > 98).astype(float), is_train) is None  # a rare yes is no tail
    few, distance = far_values(np.append(usual[:49], 1e6), is_train[:50]) or (None, 0)
    assert few == 0 and distance == pytest.approx(7, rel=1e-3)  # the farthest of 50 can be no farther
    rest = np.append(usual, [1e6, np.nan])
    found = far_values(rest, np.append(is_train, [False, True]))
    assert found is not None and found[0] == 1
    assert found[1] == pytest.approx((1e6 - usual.mean()) / usual.std())
