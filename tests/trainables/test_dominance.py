"""Fronts against brute force, volumes against closed forms and Monte Carlo, and the order in which points are kept."""

import itertools
import math

import numpy as np
import pytest

from trainables.dominance import fronts, hypervolume, non_dominated, spread_order


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


@pytest.mark.parametrize("axes", [2, 3])
def test_fronts_are_peeled_off_one_after_the_other(axes):
    points = np.random.default_rng(axes).integers(0, 9, size=(50, axes)).astype(float)
    found, left, number = fronts(points), list(range(50)), 0
    while left:
        top = [p for p in left if not any(dominates(points[q], points[p]) for q in left)]
        assert all(found[p] == number for p in top)
        left, number = [p for p in left if p not in top], number + 1


def test_a_front_of_two_axes_goes_by_the_volume_that_each_adds():
    generator = np.random.default_rng(5)
    for _ in range(20):
        points = generator.random((12, 2))
        order, front = spread_order(points), fronts(points)
        assert [front[row] for row in order] == sorted(front)
        ranks = points.argsort(axis=0).argsort(axis=0).astype(float)
        for number in range(front.max() + 1):
            rows = [row for row in order if front[row] == number]
            ends = [row for row in rows if ranks[row, 0] in (min(ranks[rows, 0]), max(ranks[rows, 0]))]
            assert sorted(rows[: len(ends)]) == sorted(ends)  # the best of either axis comes first
            reference = ranks.max(axis=0) + 1
            inner = [row for row in rows if row not in ends]
            volume = hypervolume(ranks[rows], reference)
            rest = [[other for other in rows if other != row] for row in inner]
            alone = [volume - hypervolume(ranks[others], reference) for others in rest]
            assert alone == sorted(alone, reverse=True)


def test_of_equal_points_the_first_is_kept_and_the_order_is_of_ranks():
    points = np.array([[1.0, 5.0], [0.0, 9.0], [2.0, 4.0], [1.0, 5.0], [8.0, 0.0]])
    order = spread_order(points).tolist()
    assert order[-1] == 3 and {*order[:2]} == {1, 4}
    assert spread_order(points * [1000, 1e-6]).tolist() == order
    assert spread_order(np.exp(points)).tolist() == order
    assert spread_order(np.full((3, 3), 2.0)).tolist() == [0, 1, 2]
