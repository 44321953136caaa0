"""Values at random and positions in a range."""

import math
import random
from collections import Counter

import pytest

from mmtune.space.domains import Categorical, Number
from mmtune.space.drawing import completed, draw
from mmtune.space.positions import position_in, value_at
from mmtune.space.space import Space


def shares(domain, high, count=12000):
    rng = random.Random(0)
    counts = Counter(draw(domain, high, rng) for _ in range(count))
    return {value: number / count for value, number in sorted(counts.items())}


@pytest.mark.parametrize(
    ("domain", "high", "expected"),
    [
        (Number(1, 4, is_int=True), 4, dict.fromkeys((1, 2, 3, 4), 1 / 4)),
        (Number(0, 9, is_int=True, step=3), 6, dict.fromkeys((0, 3, 6), 1 / 3)),  # at_most leaves 9 out
        (Number(0.0, 0.3, step=0.1), 0.3, dict.fromkeys((0.0, 0.1, 0.2, 0.3), 1 / 4)),
        (Number(0.5, 0.5, step=0.1), 0.5, {0.5: 1}),
        # log-uniform from 1/2 to 7/2, rounded: ln 3, ln 5/3 and ln 7/5 of ln 7
        (Number(1, 3, is_int=True, log=True), 3, {n: math.log((n + 0.5) / (n - 0.5)) / math.log(7) for n in (1, 2, 3)}),
        (Categorical(("a", "b")), None, {"a": 0.5, "b": 0.5}),
    ],
)
def test_shares_of_values(domain, high, expected):
    assert shares(domain, high) == pytest.approx(expected, abs=0.02)


def test_floats_are_uniform_in_their_scale():
    rng = random.Random(0)
    drawn = sorted(draw(Number(1e-4, 1.0, log=True), 1e-2, rng) for _ in range(4000))
    assert drawn[0] >= 1e-4 and drawn[-1] <= 1e-2
    assert math.log10(drawn[2000]) == pytest.approx(-3, abs=0.05)


@pytest.mark.parametrize(
    ("domain", "high", "value", "position"),
    [
        (Number(0.0, 4.0), 4.0, 1.0, 0.25),
        (Number(1e-4, 1.0, log=True), 1e-2, 1e-3, 0.5),
        (Number(2, 10, is_int=True), 6, 4, 0.5),
        (Number(0.0, 0.5, step=0.1), 0.5, 0.3, 0.6),
        (Number(3, 9, is_int=True), 3, 3, 0.0),
    ],
)
def test_positions_and_back(domain, high, value, position):
    assert position_in(domain, high, value) == pytest.approx(position)
    back = value_at(domain, high, position)
    assert back == pytest.approx(value) and type(back) is type(value)


def test_a_position_takes_the_nearest_value():
    assert value_at(Number(0, 10, is_int=True, step=5), 10, 0.6) == 5
    assert value_at(Number(0.0, 1.0, step=0.25), 1.0, 0.4) == 0.5
    assert value_at(Number(1, 8, is_int=True), 8, 1.0) == 8


def test_what_a_row_leaves_open_takes_first_choices_and_lower_ends():
    space = Space({
        "family": (Categorical(("text", "image")),),
        "lock": (
            Categorical((True,), when={"family": ("image",)}),
            Categorical((False, True), when={"family": ("text",)}),
        ),
        "depth": (Number(1, 3, is_int=True),),
        "width": (Number(0.5, 2.0, when={"lock": (True,)}),),
    })  # fmt: skip
    assert completed(space, {}) == {"family": "text", "lock": False, "depth": 1}
    assert completed(space, {"lock": True}) == {"family": "text", "lock": True, "depth": 1, "width": 0.5}
    assert completed(space, {"family": "image", "depth": 2}) == {
        "family": "image", "lock": True, "depth": 2, "width": 0.5,
    }  # fmt: skip
