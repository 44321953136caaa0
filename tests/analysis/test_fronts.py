"""Fronts against slow second implementations: dominance pair by pair, volume by inclusion and exclusion."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from analysis.fronts import best_under_budget, cheapest_within_delta, front_history, front_share, knee
from analysis.pareto import pareto_front
from analysis.studies import load_studies

AXES = ("device_seconds", "peak_memory_gib", "val_accuracy")


def table_of(points, names=AXES):
    points = np.asarray(points, dtype=float)
    facts = {"study": "s", "trial": [f"t{n:04d}" for n in range(len(points))], "state": "COMPLETE", "family": "text"}
    return pd.DataFrame(points, columns=list(names)).assign(**facts)


def union_of_boxes(points, corner):
    """Volume of the union of the boxes from each point to the corner, by inclusion and exclusion."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for some in itertools.combinations(points, size):
            total += (-1) ** (size + 1) * np.prod(np.clip(corner - np.max(some, axis=0), 0, None))
    return total


@pytest.mark.parametrize("num_costs", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_front_is_who_no_other_dominates_and_its_volume_that_of_the_union(num_costs, seed):
    costs = list(AXES[:num_costs])
    table = table_of(np.random.default_rng(seed).integers(0, 7, size=(25, 3)))
    losses = np.column_stack([*(table[name] for name in costs), -table["val_accuracy"]])
    alone = [
        name
        for name, mine in zip(table["trial"], losses, strict=True)
        if not any((other <= mine).all() and (other < mine).any() for other in losses)
    ]
    front = pareto_front(table, "val_accuracy", costs)
    assert sorted(front["trial"]) == alone
    scaled = (losses - losses.min(axis=0)) / (losses.max(axis=0) - losses.min(axis=0))
    union = union_of_boxes(np.unique(scaled[front.index], axis=0), np.ones(num_costs + 1))
    assert front_share(table, "val_accuracy", costs) == pytest.approx(union)


def test_the_knee_is_where_the_front_bends():
    points = [(0, 0.0), (1, 0.7), (4, 0.9), (10, 1.0), (5, 0.2)]  # scaled: 0+1, 0.1+0.3, 0.4+0.1, 1+0
    table = table_of(points, ("device_seconds", "val_accuracy"))
    at = knee(table, "val_accuracy", "device_seconds")
    assert at is not None and at.at["trial"] == "t0001"
    straight = table_of([(0, 0.0), (5, 0.5), (10, 1.0)], ("device_seconds", "val_accuracy"))
    assert knee(straight, "val_accuracy", "device_seconds") is None
    assert knee(table.iloc[[0, 3]], "val_accuracy", "device_seconds") is None
    hollow = table_of([(0, 0.0), (9, 0.2), (10, 1.0)], ("device_seconds", "val_accuracy"))
    assert knee(hollow, "val_accuracy", "device_seconds") is None  # above the line


def test_the_best_within_a_budget_and_the_cheapest_near_the_best():
    table = table_of([(1, 0.5), (2, 0.8), (2, 0.81), (9, 0.82), (3, 0.81)], ("num_parameters", "val_accuracy"))
    table["device_seconds"] = 1.0
    best = [best_under_budget(table, "val_accuracy", "num_parameters", limit) for limit in (0.5, 1, 8.9, 9)]
    assert [None if row is None else row["trial"] for row in best] == [None, "t0000", "t0002", "t0003"]
    near = [cheapest_within_delta(table, "val_accuracy", "num_parameters", delta) for delta in (0, 0.01, 0.02, 1)]
    assert [row["trial"] for row in near if row is not None] == ["t0003", "t0002", "t0002", "t0000"]
    losses = table.rename(columns={"val_accuracy": "val_loss"})
    least = cheapest_within_delta(losses, "val_loss", "num_parameters", 0.0)
    assert least is not None and least.at["trial"] == "t0000"
    assert cheapest_within_delta(table.iloc[:0], "val_accuracy", "num_parameters", 1.0) is None


def test_the_front_as_it_was_after_each_half(studies):
    """Trial 0 reports 3 x 10 s first, then trial 1 30 s in one epoch, which is better and as dear."""
    first, second = studies.trial(0, val_accuracy=0.6), studies.trial(1, val_accuracy=0.9, epochs=1, best_epoch=1)
    late = [row | {"time": "2026-01-02T04:00:00+00:00"} for row in studies.reports(second)]
    path = studies.write("demo", [first, second], [*late, *studies.reports(first)])  # not in the order of time
    history = front_history(path, load_studies(path), "val_accuracy", "device_seconds", parts=6)
    assert history["device_hours"].to_list() == pytest.approx([10 * n / 3600 for n in range(1, 7)])
    assert history["val_accuracy"].to_list() == pytest.approx([0.2, 0.4, 0.6, 0.6, 0.6, 0.9])
    assert history["trials"].to_list() == [1, 1, 1, 1, 1, 2]
    assert history["front"].to_list() == ["t0000"] * 5 + ["t0001"]
    assert set(history["cost_unit"]) == {"s"}
    # one box for all: from 10 s to 30 s, from 0.2 to 0.9; at (20 s, 0.4) a half times 2/7 of it is dominated
    assert history["hypervolume"].to_list()[1] == pytest.approx(1 / 7)
    epochs = front_history(path, load_studies(path), "val_accuracy", "epochs", parts=6)
    assert epochs["front"].to_list() == ["t0000"] * 5 + ["t0001"]
    assert math.isnan(front_share(table_of([(1, 0.5)], AXES[::2]), "val_accuracy", "device_seconds"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hours", "told"),
    [
        (1.5, [0.15 * n for n in range(1, 11)]),
        (2.0, [1, 2]),
        (3.25, [1, 2, 3, 3.25]),
        (24, list(range(1, 25))),
        (25, [*range(2, 25, 2), 25]),
        (97, [*range(8, 97, 8), 97]),
    ],
)
def test_the_front_is_told_after_each_hour_and_of_a_short_search_after_each_tenth(studies, hours, told):
    trial = studies.trial(0, val_accuracy=0.5, epochs=50, best_epoch=50, device_seconds=hours * 3600)
    path = studies.write("demo", [trial], studies.reports(trial))
    history = front_history(path, load_studies(path), "val_accuracy", "device_seconds")
    assert history["device_hours"].to_list() == pytest.approx(told)
    assert history["spent_share"].to_list() == pytest.approx([hour / hours for hour in told])
    done = np.floor(50 * np.array(told) / hours + 1e-6)  # whole epochs by then
    assert history["val_accuracy"].to_list() == pytest.approx(0.5 * done / 50)
