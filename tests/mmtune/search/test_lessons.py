"""What other studies teach: how their trials are ranked, what proposals do with it, and when they stop doing so."""

import math
import random
from dataclasses import replace

import pytest

from mmtune.records import COMPLETE, FAILED, INFEASIBLE, PAUSED, PRUNED
from mmtune.search.belief import beliefs_of, trust
from mmtune.search.lessons import Lesson, lessons_of, ranked
from mmtune.search.parzen import propose
from mmtune.search.rungs import Member
from mmtune.search.samplers import SAMPLERS, Question
from mmtune.space.domains import Categorical, Number
from mmtune.space.drawing import assign, draw, place
from mmtune.space.space import Space

RUNGS = (1, 3, 9)
PLANE = Space({"x": (Number(0.0, 1.0),), "y": (Number(0.0, 1.0),)})
MIXED = Space(
    {
        "lr": (Number(1e-4, 1e-1, log=True),),
        "kind": (Categorical(("a", "b", None)),),
        "width": (Number(1, 9, is_int=True, when={"kind": ("a",)}),),
    }
)
KNOWN = {"rungs": RUNGS, "random_share": 0.34, "even_share": 1.0, "by_cost": True}


def member(number, *bests, state=PAUSED, **params):
    return Member(number, "", state, len(bests), bests=bests, params=params)


def old_study(loss, *, count=40, space=PLANE, name="old"):
    """Lessons of a study of random trials, each of one epoch."""
    rng, members = random.Random(f"{name} {count}"), []
    for number in range(count):
        params = assign(space, lambda _, domain, high: draw(domain, high, rng))
        members.append(Member(number, "", PAUSED, 1, bests=(loss(params),), params=params))
    places = lambda one: place(space, one.params)  # noqa: E731
    return list(lessons_of(name, members, RUNGS, names=str, places=places))


def search(loss, lessons, *, count, seed, space=PLANE):
    """The losses of a search of one-epoch trials, in order."""
    members = []
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        params = propose(space, members=members, rng=rng, lessons=lessons, **KNOWN)
        members.append(Member(number, "", PAUSED, 1, bests=(loss(params),), params=params))
    return [one.bests[0] for one in members]


def away_from(x, y):
    return lambda params: math.hypot(params["x"] - x, params["y"] - y)


def test_whoever_came_further_is_better_and_on_a_rung_the_value_decides():
    members = [
        member(0, 0.1),  # the best value of all, but it was left behind on the first rung
        member(1, 0.9, 0.5, 0.5),
        member(2, 0.8, 0.4, 0.4),
        member(3, *[0.7] * 9, state=COMPLETE),
        member(4, 0.2, 0.2, 0.2, 0.2, state=FAILED),  # on its way to the last rung
        member(5, math.inf, state=FAILED),
        member(6, 0.0, state=INFEASIBLE),
        member(7, 0.05, state=PRUNED),
        member(8),  # never reported
    ]
    assert [one.number for one in ranked(members, RUNGS)] == [3, 4, 2, 1, 7, 0, 5]


def test_a_lesson_is_a_rank_among_its_family_and_no_value():
    members = [replace(member(n, 0.1 * n, x=0.1 * n), family="ab"[n % 2]) for n in range(6)]
    found = list(lessons_of("old", members, RUNGS, names="t{}".format, places=lambda one: {"x#0": one.params["x"]}))
    assert [(one.trial, one.family, one.rank, one.of) for one in found] == [
        ("t0", "a", 1, 3), ("t2", "a", 2, 3), ("t4", "a", 3, 3),
        ("t1", "b", 1, 3), ("t3", "b", 2, 3), ("t5", "b", 3, 3),
    ]  # fmt: skip
    scaled = [replace(one, bests=(1000 * one.bests[0] - 7,)) for one in members]  # another metric of the same order
    again = lessons_of("old", scaled, RUNGS, names="t{}".format, places=lambda one: {"x#0": one.params["x"]})
    assert list(again) == found


@pytest.mark.parametrize(("count", "good"), [(1, 1), (3, 3), (8, 4), (40, 10), (1000, 64)])
def test_the_best_quarter_is_followed(count, good):
    lessons = [Lesson("old", "t", "", rank, count, {}) for rank in range(1, count + 1)]
    assert sum(lesson.is_good for lesson in lessons) == good


@pytest.mark.slow
def test_what_a_study_teaches_is_a_density():
    """Its mean over uniform points is one, and over its own draws it is above one."""
    (belief,) = beliefs_of(MIXED, old_study(lambda p: abs(math.log(p["lr"] / 1e-3)), space=MIXED))
    rng = random.Random(0)

    def mean_over(pick):
        points = [assign(MIXED, pick()) for _ in range(3000)]
        return sum(belief.density(member(n, **point)) for n, point in enumerate(points)) / len(points)

    assert mean_over(lambda: lambda _, domain, high: draw(domain, high, rng)) == pytest.approx(1, abs=0.1)
    assert mean_over(lambda: belief.pick(rng)) > 1.2


def test_each_study_is_believed_as_much_as_chance_until_trials_tell_them_apart():
    lessons = old_study(away_from(0.2, 0.8), name="near") + old_study(away_from(0.9, 0.1), name="far")
    beliefs = beliefs_of(PLANE, lessons)
    assert [belief.name for belief in beliefs] == ["study near", "study far"]
    assert trust(beliefs, [], RUNGS) == pytest.approx([1 / 3, 1 / 3])
    rng, loss, members = random.Random(5), away_from(0.25, 0.75), []
    picks = [*(belief.pick for belief in beliefs), lambda rng: lambda _, domain, high: draw(domain, high, rng)]
    for number in range(60):
        params = assign(PLANE, picks[number % 3](rng))
        members.append(member(number, loss(params), **params))
    near, far = trust(beliefs, members, RUNGS)
    assert near > 0.5 and far < 0.15
    early_near, early_far = trust(beliefs, members[:6], RUNGS)
    assert 1 / 3 < early_near < near and far < early_far < 1 / 3


def test_an_old_study_with_a_near_optimum_brings_the_first_trials_closer():
    loss, lessons = away_from(0.25, 0.75), old_study(away_from(0.2, 0.8))
    first = [[sum(search(loss, some, count=12, seed=seed)) / 12 for seed in range(10)] for some in ([], lessons)]
    without, learnt = (sum(found) / 10 for found in first)
    assert learnt < 0.75 * without


def test_one_that_misleads_costs_little():
    loss = away_from(0.25, 0.75)
    wrong = old_study(away_from(0.9, 0.1))
    best = [[min(search(loss, some, count=40, seed=seed)) for seed in range(10)] for some in ([], wrong)]
    without, misled = (sum(found) / 10 for found in best)
    assert misled < 1.6 * without


def test_the_same_lessons_and_seed_give_the_same_proposals():
    lessons = old_study(away_from(0.2, 0.8))
    assert search(away_from(0, 0), lessons, count=20, seed=3) == search(
        away_from(0, 0), list(lessons), count=20, seed=3
    )


def test_a_family_learns_from_its_own_trials_there():
    space = Space({"family": (Categorical(("a", "b")),), "x": (Number(0.0, 1.0),)})
    lessons = [
        Lesson("old", f"t{n}", family, 1 + n, 4, {"family#0": at, "x#0": x + n / 1000})
        for family, at, x in (("a", 0.0, 0.1), ("b", 1.0, 0.9))
        for n in range(4)
    ]
    found = {"a": [], "b": []}
    for seed in range(300):
        params = propose(space, members=[], rng=random.Random(seed), lessons=lessons, **KNOWN)
        found[params["family"]].append(params["x"])
    for family, x in (("a", 0.1), ("b", 0.9)):
        near = sum(abs(value - x) < 0.15 for value in found[family]) / len(found[family])
        assert near == pytest.approx(0.5 * (0.8 * 0.997 + 0.2 * 0.25) + 0.5 * 0.25, abs=0.1)


def test_random_learns_too_and_without_lessons_is_optunas():
    lessons, options = tuple(old_study(away_from(0.2, 0.8))), SAMPLERS["random"].options()
    kinds = [
        type(SAMPLERS["random"].make(Question(1, 1, space=PLANE, lessons=some), options)) for some in (lessons, ())
    ]
    assert [kind.__name__ for kind in kinds] == ["Given", "RandomSampler"]
