"""``finalists:`` and ``seeds:`` in place of a search, and ``confirm:`` after one."""

from __future__ import annotations

import pytest
from spec_files import FAMILIES, GOOD, line_of, problems

from mmtune.space.space import Space
from mmtune.spec.search_spec import load_spec

pytestmark = pytest.mark.usefixtures("stand_ins")

ONE = """\
study: again
family: fusion
dataset: openclipart
fixed: {epochs: 9, batch_size: 32}
finalists:
  demo/t0004: {optim.lr: 1, uda.mode: dynamic}
  by hand: {optim.lr: 5.0e-4}
seeds: [2, 3, 5]
budget: {device_hours: 2}
"""
SEVERAL = """\
study: again
family: {type: categorical, choices: [text, fusion]}
dataset: openclipart
finalists:
  a/t0001: {family: fusion, model.kind: late}
  a/t0000: {family: text, epochs: 7}
  b/t0009: {family: fusion, epochs: 3}
seeds: [4, 1]
budget: {trials: 5}
"""


def test_every_finalist_on_every_seed():
    spec = load_spec(ONE)
    assert spec.space.keys == ("finalist", "seed") and spec.budget.trials == 6
    assert [(row["seed"], row["finalist"]) for row in spec.try_first] == [
        (seed, name) for seed in (2, 3, 5) for name in ("demo/t0004", "by hand")
    ]
    assert (spec.sampler.name, spec.scheduler.name, spec.epochs) == ("brute_force", "none", 9)
    config = spec.trial_config({"finalist": "demo/t0004", "seed": 3})
    assert (config.seed, config.epochs, config.optim.lr, config.uda.mode) == (3, 9, 1.0, "dynamic")
    assert spec.trial_config({"finalist": "by hand", "seed": 5}).optim.lr == 5e-4
    assert load_spec(spec.to_yaml()) == spec


def test_finalists_of_several_families():
    spec = load_spec(SEVERAL)
    assert spec.space.keys == ("family", "finalist", "seed") and spec.epochs == 10  # fusion/late has the default
    assert len(spec.try_first) == 5  # the budget ends before the last
    assert spec.try_first[0] == {"family": "fusion", "finalist": "a/t0001", "seed": 4}
    assert [row["family"] for row in spec.corners()] == ["fusion", "text", "fusion"]
    configs = [spec.trial_config(row) for row in spec.try_first]
    assert [(c.family, c.epochs, c.seed) for c in configs][:4] == [
        ("fusion", 10, 4), ("text", 7, 4), ("fusion", 3, 4), ("fusion", 10, 1),
    ]  # fmt: skip


CASES = [
    ("seeds: [2, 3, 5]", "seeds: [2, 3, 2]", "seeds[2]", "2 is there already"),
    ("seeds: [2, 3, 5]", "seeds: [2, x]", "seeds[1]", "'x' is not a number"),
    ("seeds: [2, 3, 5]", "seeds: [-1]", "seeds[0]", "must be at least 0"),
    ("seeds: [2, 3, 5]\n", "", "seeds", "is missing: give the seeds"),
    ("budget: {device_hours: 2}", "budget: {trials: 7}", "budget.trials", "7 is above 6"),
    ("budget:", "scheduler: {name: asha}\nbudget:", "scheduler", "no effect beside finalists"),
    ("budget:", "space: {optim.lr: {type: float, low: 1, high: 2}}\nbudget:", "space", "no effect beside finalists"),
    ("budget:", "confirm: {seeds: 3}\nbudget:", "confirm", "no effect beside finalists"),
    ("{optim.lr: 5.0e-4}", "77", "finalists.by hand", "is 77; write {optim.lr: 1.0e-3}"),
    ("optim.lr: 5.0e-4", "optim.rl: 5.0e-4", "finalists.by hand.optim.rl", "did you mean 'optim.lr'?"),
    ("optim.lr: 5.0e-4", "optim.lr: 99", "finalists.by hand.optim.lr", "99.0 must be at most 10"),
    ("optim.lr: 5.0e-4", "epochs: 3", "finalists.by hand.epochs", "is both fixed and a finalist's"),
    ("optim.lr: 5.0e-4", "seed: 3", "finalists.by hand.seed", "is one of seeds"),
    ("optim.lr: 5.0e-4", "target: x", "finalists.by hand.target", "must be the same for all"),
    ("optim.lr: 5.0e-4", "family: text", "finalists.by hand.family", "belongs at the top level"),
    ("epochs: 9", "seed: 9", "fixed.seed", "give seeds"),
]


@pytest.mark.parametrize("old, new, key, message", CASES, ids=[f"{case[2]}-{i}" for i, case in enumerate(CASES)])
def test_problems(old, new, key, message):
    found = problems(ONE.replace(old, new))
    assert [(at, message in said) for at, _, said in found] == [(key, True)], found
    assert new == "" or found[0][1] == line_of(new.split("\n")[0], ONE.replace(old, new))


def test_problems_of_families():
    ((key, _, said),) = problems(SEVERAL.replace("family: text, ", ""))
    assert key == "finalists.a/t0000" and "has no family. Known: text, fusion" in said
    ((key, _, said),) = problems(SEVERAL.replace("family: text, epochs", "family: fusion, epochs"))
    assert key == "family.choices" and "no finalist is of family 'text'" in said
    plateau = "fixed: {optim.schedule: plateau, optim.plateau_patience: 4}\nfinalists:"
    ((key, _, said),) = problems(SEVERAL.replace("finalists:", plateau).replace("epochs: 7", "patience: 3"))
    assert key == "finalists.a/t0000" and "must be below patience" in said


def test_what_follows_a_search():
    assert load_spec(GOOD).confirm is None
    spec = load_spec(GOOD, overrides=["confirm.seeds=4"])
    assert (spec.confirm.seeds, spec.confirm.top) == (4, 1) and load_spec(spec.to_yaml()).confirm == spec.confirm
    assert load_spec(FAMILIES + "confirm: {}\n").confirm.seeds == 5
    ((key, _, said),) = problems(GOOD + "confirm: {seeds: 1}\n")
    assert key == "confirm.seeds" and "at least 2" in said
    ((key, _, said),) = problems(GOOD.replace("study: demo", f"study: {'a' * 95}") + "confirm: {seeds: 2}\n")
    assert key == "study" and "too long beside confirm" in said


def test_a_seed_that_is_searched_is_told_about_confirm():
    ((key, _, said),) = problems(GOOD.replace("space:\n", "space:\n  seed: {type: int, low: 1, high: 5}\n"))
    assert key == "space.seed" and "mmtune confirm STUDY" in said
    assert isinstance(load_spec(GOOD).space, Space)
