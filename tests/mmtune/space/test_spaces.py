"""Random spaces, checked by a second, slower reading of `when` and `at_most`; sampling driven by Optuna itself."""

from __future__ import annotations

import ast
import itertools
import math
import random
import sys
import warnings
from collections import Counter
from pathlib import Path

import optuna
import pytest

from mmtune.space.assignments import check
from mmtune.space.corners import corners
from mmtune.space.domains import Categorical, Number
from mmtune.space.optuna_names import suggest, to_optuna
from mmtune.space.problems import problems_of, unreachable
from mmtune.space.space import Space

optuna.logging.set_verbosity(optuna.logging.ERROR)

PAPER = Space(
    {
        "optim.lr": (Number(1e-5, 5e-4, log=True),),
        "uda.k": (Number(0, 4, is_int=True, at_most="uda.n", when={"uda.mode": ("dynamic",)}),),
        "uda.lam": (Number(0.01, 10.0, log=True, when={"uda.mode": ("fixed", "dynamic")}),),
        "uda.n": (Number(1, 20, is_int=True, log=True, when={"uda.mode": ("dynamic",)}),),
        "uda.mode": (Categorical(("none", "fixed", "dynamic")),),
    }
)


def random_space(seed: int) -> Space:
    """A space without problems: conditions, alternatives and bounds, its keys in shuffled order."""
    rng = random.Random(seed)
    domains: dict[str, tuple] = {}
    switches: list[str] = []
    for i in range(rng.randint(3, 8)):
        key, when = f"k{i}", {}
        if switches and rng.random() < 0.6:
            switch = rng.choice(switches)
            choices = domains[switch][0].choices
            when = {switch: tuple(rng.sample(choices, rng.randint(1, len(choices) - 1)))}
        if rng.random() < 0.35:
            choices = rng.choice([("a", "b", "c"), (True, False), (None, 0.5, 2), (16, 32)])
            domains[key] = (Categorical(choices, when),)
            switches.append(key)
            continue
        domain = random_number(rng, when)
        bounds = [k for k, d in domains.items() if isinstance(d[0], Number) and len(d) == 1 and d[0].when in ({}, when)]
        if bounds and domain.step is None and rng.random() < 0.5:
            other = rng.choice(bounds)
            bound = domains[other][0]
            if bound.is_int or not domain.is_int:
                low = bound.low - rng.choice([0, 0 if domain.log else 1])
                low = low if domain.is_int else float(low)
                domain = Number(low, low + 3, is_int=domain.is_int, log=domain.log, when=when, at_most=other)
        domains[key] = (domain,)
        if when and domain.at_most is None and rng.random() < 0.4:
            switch, values = next(iter(when.items()))
            others = tuple(c for c in domains[switch][0].choices if c not in values)
            domains[key] = (domain, random_number(rng, {switch: others}, is_int=domain.is_int))
    keys = list(domains)
    rng.shuffle(keys)
    return Space({key: domains[key] for key in keys})


def random_number(rng: random.Random, when: dict, is_int: bool | None = None) -> Number:
    is_int = rng.random() < 0.5 if is_int is None else is_int
    log = rng.random() < 0.4
    if is_int:
        low = rng.randint(1, 5)
        step = rng.choice([None, 2]) if not log else None
        return Number(low, low + 2 * rng.randint(0, 4), is_int=True, log=log, step=step, when=when)
    low, step = rng.choice([1e-3, 0.1, 1.0]), None if log else rng.choice([None, 0.1])
    return Number(low, round(low + rng.choice([0.0, 0.5, 3.0]), 6), log=log, step=step, when=when)


def lies_in(space: Space, params: dict) -> bool:
    """A second reading: each key exists exactly when one of its alternatives holds, its value within that."""
    if set(params) - set(space.domains):
        return False
    for key, alternatives in space.domains.items():
        holding = []
        for domain in alternatives:
            if all(k in params and params[k] in values for k, values in domain.when.items()):
                holding.append(domain)
        if len(holding) != (key in params):
            return False
        for domain in holding:
            value = params[key]
            if isinstance(domain, Categorical):
                good = value in domain.choices
            else:
                good = isinstance(value, int if domain.is_int else float) and domain.low <= value <= domain.high
                if domain.at_most is not None:
                    good &= value <= params[domain.at_most]
                if domain.step is not None:
                    steps = (value - domain.low) / domain.step
                    good &= math.isclose(steps, round(steps), abs_tol=1e-6)
            if not good:
                return False
    return True


def samples(space: Space, num: int) -> list[dict]:
    """Full assignments as Optuna draws them at random."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [suggest(space, study.ask()) for _ in range(num)]


def said(space: Space, params: dict) -> list[str]:
    """What is wrong with an assignment, a line each."""
    return [f"{key}: {message}" for key, message in check(space, params)]


SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_samples_and_corners_lie_in_the_space(seed):
    space = random_space(seed)
    assert problems_of(space) == []
    for params in [*samples(space, 30), *itertools.islice(corners(space), 200), *corners(space, 5)]:
        assert lies_in(space, params), params
        assert said(space, params) == []
        assert list(params) == [key for key in space.keys if key in params]


@pytest.mark.parametrize("seed", SEEDS)
def test_few_corners_have_all_the_ends_that_all_corners_have(seed):
    space = random_space(seed)

    def ends(corners):
        found = set()
        for params in corners:
            for key, value in params.items():
                for i, domain in enumerate(space.domains[key]):
                    if all(params.get(k) in values for k, values in domain.when.items() if k in params):
                        values = domain.choices if isinstance(domain, Categorical) else (domain.low, domain.high)
                        if value in values:
                            found.add((key, i, value))
        return found

    everything = list(corners(space, limit=10**6))
    assert len({repr(corner) for corner in everything}) == len(everything)
    assert ends(corners(space, limit=30)) == ends(everything)
    assert list(corners(space, limit=30)) == list(corners(space, limit=30))


def test_corners_of_a_huge_space_stay_few():
    space = Space({f"k{i}": (Number(0.0, 1.0),) for i in range(60)})
    few = list(corners(space))
    assert len(few) <= 4 * 60
    assert all({corner[key] for corner in few} == {0.0, 1.0} for key in space.keys)


def tpe(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=4)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("sampler", [tpe, optuna.samplers.RandomSampler], ids=["tpe", "random"])
def test_suggest_stays_in_the_space(seed, sampler):
    space, rng = random_space(seed), random.Random(seed)
    study = optuna.create_study(sampler=sampler(seed))
    for _ in range(12):
        trial = study.ask()
        params = suggest(space, trial)
        assert lies_in(space, params), params
        assert said(space, params) == []
        assert suggest(space, optuna.trial.FixedTrial(trial.params)) == params
        study.tell(trial, rng.random())


@pytest.mark.parametrize("seed", range(20))
def test_enqueued_params_come_back(seed):
    space = random_space(seed)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    rows = [*samples(space, 10), *itertools.islice(corners(space), 10)]
    for params in rows:
        study.enqueue_trial(to_optuna(space, params))
    for params in rows:
        suggested = suggest(space, study.ask())
        assert suggested.keys() == params.keys()
        for key, value in params.items():
            is_placed = isinstance(value, float) and any(getattr(d, "at_most", None) for d in space.domains[key])
            assert suggested[key] == (pytest.approx(value, rel=1e-14) if is_placed else value)
            assert type(suggested[key]) is type(value)


def test_partial_rows_enqueue_what_they_say():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(to_optuna(PAPER, {"uda.mode": "dynamic", "uda.n": 2, "uda.k": 1}))
    params = suggest(PAPER, study.ask())
    assert (params["uda.mode"], params["uda.n"], params["uda.k"]) == ("dynamic", 2, 1)
    assert to_optuna(PAPER, {"uda.mode": "none", "uda.lam": 1.0}) == {"uda.mode": "none"}


@pytest.mark.slow
def test_bounded_range_does_not_stick_at_the_first_one_seen():
    """Optuna's grouped TPE keeps the first range of a name: with n = 1 first, k would stay below 2 for good."""
    study = optuna.create_study(sampler=tpe(1), direction="maximize")
    study.enqueue_trial(
        to_optuna(PAPER, {"optim.lr": 1e-4, "uda.mode": "dynamic", "uda.lam": 1.0, "uda.n": 1, "uda.k": 0})
    )
    best = []
    for _ in range(60):
        trial = study.ask()
        params = suggest(PAPER, trial)
        best.append(params.get("uda.k", -1))
        study.tell(trial, float(params.get("uda.k", -1)))
    assert Counter(best[20:]).most_common(1)[0][0] == 4


def test_alternatives_and_bounds_have_their_own_optuna_names():
    space = Space(
        {
            "family": (Categorical(("a", "b")),),
            "lr": (Number(1.0, 2.0, when={"family": ("a",)}), Number(5, 6, is_int=True, when={"family": ("b",)})),
            "n": (Number(1, 9, is_int=True),),
            "k": (Number(0, 4, is_int=True, at_most="n"),),
            "x": (Number(0.0, 8.0, at_most="n"),),
        }
    )
    assert problems_of(space) == []
    low = {"family": "b", "lr": 6, "n": 2, "k": 2, "x": 1.0}
    assert to_optuna(space, low) == {"family": "b", "lr#1": 6, "n": 2, "k<=2": 2, "x/n": 0.5}
    high = {"family": "a", "lr": 2, "n": 9, "k": 2, "x": 1.0}
    assert to_optuna(space, high) == {"family": "a", "lr": 2.0, "n": 9, "k": 2, "x/n": 0.125}
    assert suggest(space, optuna.trial.FixedTrial(to_optuna(space, low))) == low


def test_order_is_topological_then_as_in_the_file():
    assert PAPER.order == ("optim.lr", "uda.mode", "uda.lam", "uda.n", "uda.k")
    assert PAPER.keys == ("optim.lr", "uda.k", "uda.lam", "uda.n", "uda.mode")
    for seed in SEEDS:
        space = random_space(seed)
        place = {key: i for i, key in enumerate(space.order)}
        assert sorted(place) == sorted(space.keys)
        for key, alternatives in space.domains.items():
            for domain in alternatives:
                needs = [*domain.when, *([domain.at_most] if isinstance(domain, Number) and domain.at_most else [])]
                assert all(place[other] < place[key] for other in needs)


def test_steps_reach_both_ends():
    space = Space({"x": (Number(0.1, 0.7, step=0.2),), "n": (Number(3, 9, is_int=True, step=3),)})
    drawn = samples(space, 200)
    assert {round(params["x"], 9) for params in drawn} == {0.1, 0.3, 0.5, 0.7}
    assert {params["n"] for params in drawn} == {3, 6, 9}
    bounded = Space({"n": (Number(2, 9, is_int=True),), "k": (Number(0, 8, is_int=True, step=4, at_most="n"),)})
    assert {(c["n"], c["k"]) for c in corners(bounded)} == {(2, 0), (9, 0), (9, 8)}


FULL = {"optim.lr": 1e-4, "uda.mode": "dynamic", "uda.lam": 1.0, "uda.n": 3, "uda.k": 2}


@pytest.mark.parametrize(
    "change, message",
    [
        ({}, None),
        ({"uda.lam": 10}, None),
        ({"uda.lam": 10.5}, "uda.lam: 10.5 is not in 0.01 to 10.0"),
        ({"optim.lr": "1e-5"}, "optim.lr: '1e-5' is a string in YAML; write 1.0e-5"),
        ({"optim.lr": True}, "optim.lr: true is not a number"),
        ({"optim.lr": math.nan}, "optim.lr: nan is not finite"),
        ({"optim.lr": [1]}, "optim.lr: [1] is not a number"),
        ({"uda.n": 3.0}, "uda.n: 3.0 is not a whole number"),
        ({"uda.k": 4}, "uda.k: 4 is above uda.n (3)"),
        ({"uda.mode": "dynamik", "uda.n": None}, "uda.mode: 'dynamik' is unknown, did you mean 'dynamic'?"),
        ({"optim.lrr": 1.0}, "optim.lrr: is not searched, did you mean 'optim.lr'?"),
    ],
)
def test_contains_says_what_is_wrong(change, message):
    found = said(PAPER, {**FULL, **change})
    assert found == [] if message is None else found[0].startswith(message)


def test_contains_of_partial_assignments():
    assert said(PAPER, {}) == []
    assert said(PAPER, {"optim.lr": 1e-4}) == []
    assert said(PAPER, {"uda.mode": "dynamic", "uda.k": 0}) == ["uda.k: give uda.n as well, it is the upper end"]
    assert said(PAPER, {"uda.lam": 1.0}) == ["uda.lam: exists only when uda.mode is fixed or dynamic"]
    assert said(PAPER, {"uda.mode": "none", "uda.n": 1}) == ["uda.n: exists only when uda.mode is dynamic"]
    fixed = Space({"x": (Number(0.0, 1.0),)}, {"epochs": 3})
    assert said(fixed, {"epochs": 4}) == ["epochs: is fixed at 3, not searched"]


def test_true_is_not_one():
    flags = Space({"flag": (Categorical((True, False)),), "x": (Number(0.0, 1.0, when={"flag": (True,)}),)})
    assert said(flags, {"flag": 1}) == ["flag: 1 is unknown. Known: true, false"]
    ones = Space({"x": (Categorical((0, 1)),)})
    assert said(ones, {"x": True}) != [] and said(ones, {"x": 1.0}) == []


def test_conditions_on_constants_are_evaluated():
    domains = {
        "x": (Number(0.0, 1.0, when={"family": ("text", "image")}),),
        "y": (Number(0.0, 1.0, when={"mode": ("b",)}),),
    }
    space = Space(domains, {"family": "text", "mode": "a"})
    assert problems_of(space) == []
    assert unreachable(space) == [("y", 0)]
    assert [list(params) for params in samples(space, 3)] == [["x"]] * 3
    assert list(corners(space)) == [{"x": 0.0}, {"x": 1.0}]


def test_a_condition_fails_when_what_it_names_does_not_exist():
    space = Space(
        {
            "a": (Categorical(("yes", "no")),),
            "b": (Categorical(("yes", "no"), {"a": ("yes",)}),),
            "c": (Number(0.0, 1.0, when={"b": ("yes", "no")}),),
        }
    )
    assert problems_of(space) == []
    assert said(space, {"a": "no", "b": "yes", "c": 0.5}) == ["b: exists only when a is yes"]
    assert {frozenset(corner) for corner in corners(space)} == {frozenset("a"), frozenset("abc")}


ROOM = ("domains", "space", "corners", "problems", "assignments", "drawing", "optuna_names", "positions")
SPACE = [f"mmtune.space.{name}" for name in ROOM]


@pytest.mark.parametrize("name", [*SPACE, "trainables.messages"])
def test_needs_only_the_standard_library(name):
    path = Path(sys.modules[name].__file__ or "")
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        allowed = {*sys.stdlib_module_names, *SPACE, "trainables.messages"}
        assert all(name.split(".")[0] in allowed or name in allowed for name in names)
