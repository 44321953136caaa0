"""Deletion and insertion on additive scores, whose areas are sums that can be written down."""

import numpy as np
import pandas as pd
import pytest

from analysis.inspect.faithful import area, faithfulness, steps


def test_of_an_additive_score_the_areas_are_known():
    """After k units, in order of weight, w_1 + ... + w_k of the whole are gone; trapezoids of width 1 / n."""
    weights = np.array([1.0, 8.0, 2.0, 4.0])
    found = faithfulness(lambda there: there @ weights + 3, {"own": weights}, seed=0)["own"]
    left = np.array([15, 7, 3, 1, 0]) + 3.0  # 8, 4, 2, 1 go
    there = np.array([0, 8, 12, 14, 15]) + 3.0
    assert found["deletion"] == pytest.approx(((left[1:] + left[:-1]) / 2).mean())
    assert found["insertion"] == pytest.approx(((there[1:] + there[:-1]) / 2).mean())
    assert found["deletion"] < found["random_deletion"] and found["random_insertion"] < found["insertion"]


def test_random_orders_of_an_additive_score_have_half_of_it_on_average():
    weights = np.random.default_rng(0).exponential(size=12)
    found = faithfulness(lambda there: there @ weights, {"own": weights}, seed=1, draws=2000)["own"]
    assert found["random_deletion"] == pytest.approx(weights.sum() / 2, rel=0.02)
    assert found["random_insertion"] == pytest.approx(weights.sum() / 2, rel=0.02)


def test_the_wrong_way_round_is_the_worst():
    weights = np.arange(6.0)
    given = {"right": weights, "wrong": -weights}
    right, wrong = faithfulness(lambda there: there @ weights, given, seed=0).values()
    assert right["deletion"] == pytest.approx(wrong["insertion"]) and right["insertion"] > wrong["insertion"]
    assert right["random_deletion"] == wrong["random_deletion"]  # the same orders for all explanations


@pytest.mark.parametrize("num", [1, 7, 24, 200])
def test_curves_begin_and_end_at_the_whole_and_at_nothing(num):
    shares, there = steps(np.arange(num), is_insertion=False)
    assert len(shares) == min(num, 24) + 1 and there.shape == (len(shares), num)
    assert there.mean(axis=1) == pytest.approx(1 - shares) and there[0].all() and not there[-1].any()
    assert area(shares, there.mean(axis=1)) == pytest.approx(0.5)
    assert (steps(np.arange(num), is_insertion=True)[1] == ~there).all()


def test_points_of_the_curves_have_the_areas():
    """Also of random orders: the area of their mean is the mean of their areas."""
    weights, points = np.array([1.0, 8.0, 2.0, 4.0]), []
    given = {"own": weights, "other": -weights}
    found = faithfulness(lambda there: there @ weights, given, seed=0, points=points)
    table = pd.DataFrame(points)
    assert len(table) == 3 * 2 * 5 and table["share"].unique().tolist() == [0, 0.25, 0.5, 0.75, 1]
    for key, own in table.groupby(["explanation", "curve"]):
        assert isinstance(key, tuple)
        name, curve = key
        expected = found["own"][f"random_{curve}"] if name == "random" else found[name][curve]
        assert area(own["share"].to_numpy(), own["score"].to_numpy()) == pytest.approx(expected)
    own = table.loc[(table["explanation"] == "own") & (table["curve"] == "deletion"), "score"]
    assert own.to_list() == [15, 7, 3, 1, 0]
