"""What is wrong with a space, and where."""

from __future__ import annotations

import pytest

from mmtune.space.domains import Categorical, Number
from mmtune.space.problems import problems_of
from mmtune.space.space import Space

cat, num = Categorical, Number


@pytest.mark.parametrize(
    "domains, where, message",
    [
        ({"x": (num(2.0, 1.0),)}, ("x", 0, ("low",)), "2.0 is above high (1.0)"),
        ({"x": (num(0.0, 1.0, log=True),)}, ("x", 0, ("low",)), "low must be above 0"),
        ({"x": (num(0, 5, is_int=True, log=True),)}, ("x", 0, ("low",)), "low must be at least 1"),
        ({"x": (num(-1e308, 1e308),)}, ("x", 0, ("high",)), "too wide"),
        ({"x": (num(0, 2**60, is_int=True),)}, ("x", 0, ("high",)), "too large"),
        ({"x": (num(0, 10**400, is_int=True),)}, ("x", 0, ("high",)), "too large"),
        ({"x": (num(0.0, 1.0, step=0.3),)}, ("x", 0, ("step",)), "does not divide"),
        ({"x": (num(0.0, 1e300, step=1e-300),)}, ("x", 0, ("step",)), "2**53 steps"),
        ({"x": (num(0, 4, is_int=True, step=0),)}, ("x", 0, ("step",)), "must be above 0"),
        ({"x": (num(1.0, 2.0, step=0.5, log=True),)}, ("x", 0, ("step",)), "exclude each other"),
        ({"x": (cat(()),)}, ("x", 0, ("choices",)), "is empty"),
        ({"x": (cat((1, 2, True)),)}, ("x", 0, ("choices",)), "true occurs twice"),
        ({"x": (cat(tuple(range(20_000))),)}, ("x", 0, ("choices",)), "has 20000 values, at most 1000"),
        ({"x": (num(0.0, 1.0, when={"y": (1,)}),)}, ("x", 0, ("when", "y")), "'y' is neither searched nor fixed"),
        ({"x": (num(0.0, 1.0, when={"y": (1,)}),), "y": (num(0.0, 1.0),)}, ("x", 0, ("when", "y")), "is a number"),
        ({"x": (num(0.0, 1.0, when={"y": ("B",)}),), "y": (cat(("a", "b")),)}, ("x", 0, ("when", "y")), "Known: a, b"),
        ({"x": (num(0.0, 1.0, at_most="z"),)}, ("x", 0, ("at_most",)), "'z' is not searched"),
        ({"x": (num(0.0, 1.0, at_most="y"),), "y": (cat((1, 2)),)}, ("x", 0, ("at_most",)), "is categorical"),
        ({"x": (num(0, 1, is_int=True, at_most="y"),), "y": (num(0.0, 1.0),)}, ("x", 0, ("at_most",)), "is a float"),
        ({"x": (num(1.0, 2.0, at_most="y"),), "y": (num(0.5, 2.0),)}, ("x", 0, ("at_most",)), "can be 0.5, below low"),
        ({"x": (num(0.0, 1.0, at_most="x"),)}, ("x", None, ()), "circle: x -> x"),
        (
            {"x": (cat(("a", "b"), {"y": ("a",)}),), "y": (cat(("a", "b"), {"x": ("a",)}),)},
            ("x", None, ()),
            "x -> y -> x",
        ),
        (
            {"x": (num(0.0, 1.0, at_most="y"),), "y": (num(0.0, 1.0, when={"m": ("a",)}),), "m": (cat(("a", "b")),)},
            ("x", 0, ("at_most",)),
            "'y' does not always exist when 'x' does",
        ),
        ({"x": (num(0.0, 1.0), num(2.0, 3.0))}, ("x", 1, ()), "alternatives 1 and 2 both hold; their"),
        (
            {
                "m": (cat(("a", "b", "c")),),
                "x": (num(0.0, 1.0, when={"m": ("a", "b")}), num(2.0, 3.0, when={"m": ("b", "c")})),
            },
            ("x", 1, ()),
            "both hold when m is b",
        ),
    ],
)
def test_problems_are_located(domains, where, message):
    (problem,) = problems_of(Space(domains))
    assert problem[:3] == where
    assert message in problem.message


def test_alternatives_may_exclude_each_other_through_other_keys():
    """y exists only under m = a, so its condition excludes m = b without naming m."""
    space = Space(
        {
            "m": (cat(("a", "b")),),
            "y": (cat(("p", "q"), {"m": ("a",)}),),
            "x": (num(0.0, 1.0, when={"y": ("p",)}), num(2.0, 3.0, when={"m": ("b",)})),
        }
    )
    assert problems_of(space) == []
