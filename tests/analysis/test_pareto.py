import itertools
import math

import numpy as np
import pandas as pd
import pytest

from analysis.pareto import EXTRA, hypervolume, marginal_cost, non_dominated, pareto_front


def table_of(points, names=("val_accuracy", "device_seconds"), state="COMPLETE"):
    facts = {"study": "s", "trial": [f"t{n:04d}" for n in range(len(points))], "state": state, "family": "text"}
    return pd.DataFrame(points, columns=list(names)).assign(**facts)


def dominates(p, q):
    return all(a <= b for a, b in zip(p, q, strict=True)) and any(a < b for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("axes", [2, 3, 4])
@pytest.mark.parametrize("levels", [4, 1000])  # few levels: many ties and duplicates
def test_front_is_the_brute_force_front(axes, levels):
    generator = np.random.default_rng(axes * levels)
    for _ in range(20):
        points = generator.integers(0, levels, size=(40, axes)) / levels
        expected = [not any(dominates(q, p) for q in points) for p in points]
        assert non_dominated(points).tolist() == expected


def test_front_does_not_depend_on_the_order_of_rows():
    generator = np.random.default_rng(0)
    table = table_of(generator.integers(0, 12, size=(60, 2)) / 12)
    front = pareto_front(table, "val_accuracy")
    for seed in range(5):
        shuffled = table.sample(frac=1, random_state=seed)
        pd.testing.assert_frame_equal(pareto_front(shuffled, "val_accuracy"), front)


def test_directions_and_duplicates():
    table = table_of([(0.9, 10.0), (0.9, 10.0), (0.9, 11.0), (0.5, 1.0), (0.5, 2.0), (0.4, 1.0)])
    assert pareto_front(table, "val_accuracy")["trial"].tolist() == ["t0003", "t0000", "t0001"]
    losses = table.rename(columns={"val_accuracy": "val_loss"})  # now less is better
    assert pareto_front(losses, "val_loss")["trial"].tolist() == ["t0005"]


def test_three_axes():
    names = ("val_accuracy", "device_seconds", "peak_memory_gib")
    table = table_of([(0.9, 10.0, 4.0), (0.9, 12.0, 2.0), (0.9, 12.0, 3.0)], names)
    assert pareto_front(table, "val_accuracy", names[1:])["trial"].tolist() == ["t0000", "t0001"]


def test_trials_without_a_value_or_a_good_end_are_left_out():
    table = table_of([(0.9, math.nan), (math.nan, 1.0), (0.5, 5.0), (0.99, 0.1)])
    table.loc[3, "state"] = "FAILED"
    assert pareto_front(table, "val_accuracy")["trial"].tolist() == ["t0002"]
    assert pareto_front(table, "val_accuracy", "inference_ms_per_sample").empty


def test_unknown_axis():
    with pytest.raises(ValueError, match="'device_second' is unknown, did you mean 'device_seconds'"):
        pareto_front(table_of([(0.5, 5.0)]), "val_accuracy", "device_second")
    with pytest.raises(ValueError, match="different axes"):
        pareto_front(table_of([(0.5, 5.0)]), "device_seconds", "device_seconds")


def test_hypervolume_closed_forms():
    assert hypervolume(np.array([[0.25, 0.5]]), (1, 1)) == pytest.approx(0.75 * 0.5)
    staircase = np.array([[0, 2], [1, 1], [2, 0]])
    assert hypervolume(staircase, (3, 3)) == 3 + 2 + 1
    assert hypervolume(np.array([[1, 2, 3]]), (2, 4, 6)) == 1 * 2 * 3
    assert hypervolume(np.array([[0, 0, 1], [1, 1, 0]]), (2, 2, 2)) == 4 + 2 - 1  # inclusion and exclusion
    assert hypervolume(np.empty((0, 2)), (1, 1)) == 0
    assert hypervolume(np.array([[1.0, 0.0], [2.0, -5.0]]), (1, 1)) == 0  # nothing below the reference


@pytest.mark.parametrize("axes", [2, 3, 4])
def test_hypervolume_against_monte_carlo(axes):
    generator = np.random.default_rng(axes)
    points = generator.random((12, axes))
    samples = generator.random((40_000, axes))
    hit = np.zeros(len(samples), dtype=bool)
    for point in points:
        hit |= (samples >= point).all(axis=1)
    deviation = math.sqrt(hit.mean() * (1 - hit.mean()) / len(samples))
    assert hypervolume(points, [1] * axes) == pytest.approx(hit.mean(), abs=5 * deviation)


def test_hypervolume_invariances():
    points = np.random.default_rng(3).random((9, 3))
    volume = hypervolume(points, (1, 1, 1))
    assert hypervolume(points[non_dominated(points)], (1, 1, 1)) == pytest.approx(volume)
    assert hypervolume(points[::-1] * 2 + 5, (7, 7, 7)) == pytest.approx(8 * volume)
    for axes in itertools.permutations(range(3)):
        assert hypervolume(points[:, axes], (1, 1, 1)) == pytest.approx(volume)


def test_hypervolume_refuses_what_has_no_volume():
    with pytest.raises(ValueError, match="finite"):
        hypervolume(np.array([[math.nan, 0.0]]), (1, 1))
    with pytest.raises(ValueError, match="do not fit"):
        hypervolume(np.array([[0.0, 0.0]]), (1, 1, 1))


def test_marginal_cost_is_seconds_per_hundredth():
    front = pareto_front(table_of([(0.5, 10.0), (0.6, 30.0), (0.6, 30.0), (0.605, 60.0)]), "val_accuracy")
    priced = marginal_cost(front, "val_accuracy")
    assert math.isnan(priced[EXTRA].iloc[0])
    assert priced[EXTRA].iloc[1:].tolist() == pytest.approx([20 / 10, 20 / 10, 30 / 0.5])
    losses = pareto_front(table_of([(0.5, 10.0), (0.4, 30.0)], ("val_loss", "device_seconds")), "val_loss")
    assert marginal_cost(losses, "val_loss")[EXTRA].iloc[1] == pytest.approx(20 / 10)


def test_marginal_cost_wants_a_front():
    for points in ([(0.6, 10.0), (0.5, 5.0)], [(0.5, 1.0), (0.6, 2.0), (0.55, 3.0)]):
        with pytest.raises(ValueError, match="not a front"):
            marginal_cost(table_of(points), "val_accuracy")
    empty = pareto_front(table_of([(math.nan, 1.0)]), "val_accuracy")
    assert marginal_cost(empty, "val_accuracy").empty
