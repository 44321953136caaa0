import math

import numpy as np
import pandas as pd
import pytest

from analysis.pareto import EXTRA, marginal_cost, pareto_front


def table_of(points, names=("val_accuracy", "device_seconds"), state="COMPLETE"):
    facts = {"study": "s", "trial": [f"t{n:04d}" for n in range(len(points))], "state": state, "family": "text"}
    return pd.DataFrame(points, columns=list(names)).assign(**facts)


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
