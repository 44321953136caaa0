"""The default sampler: where it looks, on spaces of every kind of domain."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from mmtune.records import COMPLETE, FAILED, INFEASIBLE, PAUSED
from mmtune.search.kernels import Marginals
from mmtune.search.parzen import propose
from mmtune.search.rungs import Member
from mmtune.space.assignments import check
from mmtune.space.domains import Categorical, Number
from mmtune.space.drawing import assign, draw, place
from mmtune.space.space import Space

RUNGS = (1, 3, 9)
FLAT = Space({"x": (Number(0.0, 1.0),), "y": (Number(1e-4, 1.0, log=True),)})
RICH = Space(
    {
        "family": (Categorical(("fusion", "text")),),
        "lr": (Number(1e-5, 1e-1, log=True),),
        "width": (Number(16, 64, is_int=True, step=16),),
        "depth": (Number(1, 12, is_int=True, log=True),),
        "kind": (Categorical(("early", "late", None), when={"family": ("fusion",)}),),
        "drop": (Number(0.0, 0.5, step=0.1),),
        "n": (Number(1, 9, is_int=True, when={"kind": ("late",)}),),
        "k": (Number(0, 4, is_int=True, at_most="n", when={"kind": ("late",)}),),
        "floor": (Number(1e-6, 1e-1, log=True, at_most="lr"),),
    }
)  # fmt: skip


def sample(space, rng):
    return assign(space, lambda _, domain, high: draw(domain, high, rng))


def members_of(space, loss, *, count, epochs=3, state=PAUSED, family=None, start=0):
    rng, found = random.Random(start), []
    for number in range(start, start + count):
        params = sample(space, rng)
        value = loss(params)
        found.append(
            Member(number, family or params.get("family", ""), state, epochs, bests=(value,) * epochs, params=params)
        )
    return found


def spent(family):
    """A trial that failed after so many epochs that its family has had its share."""
    return Member(-1, family, FAILED, 10**6, bests=(math.inf,) * 10**5)


def proposals(space, members, count=200, *, share=0.0):
    known = {"members": members, "rungs": RUNGS, "random_share": share, "even_share": 0.5, "by_cost": True}
    return [propose(space, rng=random.Random(seed), **known) for seed in range(count)]


def test_it_looks_near_the_best_of_a_late_rung():
    # Loss is the distance to x = .8 and y = 10^-3, a third of the way down the logarithm.
    members = members_of(FLAT, lambda p: abs(p["x"] - 0.8) + abs(math.log10(p["y"]) + 3), count=60)
    found = proposals(FLAT, members)
    off = [abs(p["x"] - 0.8) + abs(math.log10(p["y"]) + 3) / 4 for p in found]
    drawn = [abs(p["x"] - 0.8) + abs(math.log10(p["y"]) + 3) / 4 for p in proposals(FLAT, members, share=1.0)]
    assert sorted(off)[100] < 0.4 * sorted(drawn)[100]


def test_early_rungs_and_few_trials_teach_nothing():
    at_random = proposals(FLAT, [])

    def loss(params):
        return abs(params["x"] - 0.8)

    assert proposals(FLAT, members_of(FLAT, loss, count=60, epochs=1)) == at_random  # rung 1 of 9 is too early
    assert proposals(FLAT, members_of(FLAT, loss, count=3)) == at_random  # two parameters: four trials at least
    assert proposals(FLAT, members_of(FLAT, loss, count=5)) != at_random
    diverged = members_of(FLAT, lambda params: math.inf, count=60, epochs=2, state=FAILED)
    assert proposals(FLAT, diverged) == at_random


@pytest.mark.slow
def test_an_early_rung_teaches_each_parameter_by_itself():
    """The best lie on the diagonal x = y: together they say so, one by one they say nothing."""
    square = Space({"x": (Number(0.0, 1.0),), "y": (Number(0.0, 1.0),)})
    off = {}
    for epochs in (3, 9):
        members = members_of(square, lambda p: abs(p["x"] - p["y"]), count=400, epochs=epochs)
        known = {"members": members, "rungs": (3, 9, 20), "random_share": 0.0, "even_share": 0.5, "by_cost": True}
        found = [propose(square, rng=random.Random(seed), **known) for seed in range(200)]
        off[epochs] = sum(abs(p["x"] - p["y"]) for p in found) / len(found)
    assert off[9] < 0.1 and off[3] > 0.15  # of even draws it is a third


def test_an_early_rung_tells_good_values_of_a_parameter():
    members = members_of(FLAT, lambda p: abs(p["x"] - 0.8), count=60)
    known = {"members": members, "rungs": (3, 9, 20), "random_share": 0.0, "even_share": 0.5, "by_cost": True}
    found = [propose(FLAT, rng=random.Random(seed), **known) for seed in range(200)]
    assert sum(abs(p["x"] - 0.8) for p in found) / 200 < 0.15  # of even draws it is 0.34


def test_marginals_add_up_to_one_and_skip_who_has_no_such_parameter():
    space = Space({"kind": (Categorical(("a", "b", "c")),), "x": (Number(0.0, 1.0, when={"kind": ("a",)}),)})
    places = [{"kind#0": 0.0, "x#0": 0.4}, {"kind#0": 0.0, "x#0": 0.5}, {"kind#0": 1.0}]
    marginals = Marginals(space, places)
    kinds = np.exp(marginals.log_density([{"kind#0": float(kind)} for kind in range(3)])) / 3
    leave = 0.2 / 3
    near = 0.8 + leave
    sums = [2 * near + leave, near + 2 * leave, 3 * leave]
    assert kinds == pytest.approx([(total + 1 / 3) / 4 for total in sums])
    assert kinds.sum() == pytest.approx(1)
    grid = (np.arange(1000) + 0.5) / 1000
    assert np.exp(marginals.log_density([{"x#0": at} for at in grid])).mean() == pytest.approx(1, abs=1e-3)


def test_a_random_share_knows_nothing():
    members = members_of(FLAT, lambda p: p["x"], count=60)
    assert proposals(FLAT, members, share=1.0) == proposals(FLAT, [], share=1.0)
    known, unknown = proposals(FLAT, members, 600, share=0.4), proposals(FLAT, [], 600, share=0.4)
    assert sum(a == b for a, b in zip(known, unknown, strict=True)) / 600 == pytest.approx(0.4, abs=0.06)


@pytest.mark.slow
def test_each_family_learns_from_its_own():
    good = members_of(RICH, lambda p: 0.1 + p["lr"], count=80)
    members = [m for m in good if m.family == "text"]
    assert {p["family"] for p in proposals(RICH, members, 20)} == {"fusion"}  # of which nothing is known: its turn
    fusion = [p["lr"] for p in proposals(RICH, members, 200)]
    found = proposals(RICH, [*members, spent("fusion")], 200)
    assert {p["family"] for p in found} == {"text"}
    text = [p["lr"] for p in found]
    assert sorted(text)[len(text) // 2] < 0.3 * sorted(fusion)[len(fusion) // 2]  # text's better trials have low rates


@pytest.mark.slow
def test_every_proposal_lies_in_the_space():
    members = members_of(RICH, lambda p: p["lr"] * p["width"], count=120, epochs=9, state=COMPLETE)
    found = [*proposals(RICH, [*members, spent("text")], 150, share=0.2)]
    found += proposals(RICH, [*members, spent("fusion")], 150, share=0.2)
    for params in found:
        assert check(RICH, params) == []
        places = place(RICH, params)
        assert [name.partition("#")[0] for name in sorted(places)] == sorted(params)
        assert all(0 <= at <= 1 for name, at in places.items() if name[:4] not in ("fami", "kind"))
    assert {p["width"] for p in found} == {16, 32, 48, 64} and {p.get("kind") for p in found} == {"early", "late", None}
    assert {p["k"] for p in found if "k" in p} == {0, 1, 2, 3, 4}


def test_a_proposal_is_a_function_of_what_is_known_and_the_seed():
    members = members_of(RICH, lambda p: p["lr"], count=60)
    shuffled = members[:]
    random.Random(0).shuffle(shuffled)
    assert proposals(RICH, members, 20) == proposals(RICH, shuffled, 20)


def infeasible_beyond_half(count):
    """What lies beyond x = .5 was infeasible, the rest paused; the loss is best at x = 1, where nothing can be."""
    members = members_of(FLAT, lambda p: 1 - p["x"], count=count)
    return [replace(member, state=INFEASIBLE, bests=()) if member.params["x"] > 0.5 else member for member in members]


def test_it_keeps_away_from_where_trials_were_infeasible():
    found = [p["x"] for p in proposals(FLAT, infeasible_beyond_half(80), share=1.0)]
    assert sum(x > 0.55 for x in found) < 0.12 * len(found)  # of even draws 45 % are there
    assert min(found) < 0.1 and max(found) > 0.45  # and everywhere else


def test_the_best_draw_it_to_the_border_and_not_beyond():
    found = [p["x"] for p in proposals(FLAT, infeasible_beyond_half(80))]
    assert 0.4 < min(found) and max(found) < 0.65


def test_one_infeasible_trial_bans_nothing():
    members = members_of(FLAT, lambda p: p["x"], count=20)
    members[3] = replace(members[3], state=INFEASIBLE, bests=())
    found = [p["x"] for p in proposals(FLAT, members, share=1.0)]
    near = [x for x in found if abs(x - members[3].params["x"]) < 0.1]
    assert near and len(found) == 200


def test_where_everything_was_infeasible_it_still_proposes():
    members = [replace(m, state=INFEASIBLE, bests=()) for m in members_of(RICH, lambda p: 0.0, count=30)]
    for params in proposals(RICH, members, count=20):
        assert check(RICH, params) == []
