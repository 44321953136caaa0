"""Whose turn it is among searched families: shares of device-seconds, what they promise, and noise of the clock."""

import math
import random
from collections import Counter
from dataclasses import replace

import pytest

from mmtune.records import COMPLETE, FAILED, INFEASIBLE, PAUSED, RUNNING
from mmtune.search.rungs import Member
from mmtune.search.turns import _last, families_of, next_family

FAMILIES = ("cheap", "dear", "other")


def pick(members, *, families=FAMILIES, seed=0, even_share=0.5):
    rng = random.Random(seed)
    return next_family(families, known=families_of(members), rng=rng, even_share=even_share, by_cost=True)


def member(number, family, value, *, seconds=1.0, epochs=3, state=PAUSED):
    return Member(number, family, state, epochs, bests=(value,) * epochs, seconds=seconds)


def play(prices, levels, *, turns, even_share, seed=0, by_cost=True):
    """A search that gives each new trial three epochs and a value around its family's level; trials by family."""
    rng, members = random.Random(seed), []
    for number in range(turns):
        draw = random.Random(number)
        family = next_family(list(prices), known=families_of(members), rng=draw, even_share=even_share, by_cost=by_cost)
        members.append(member(number, family, levels[family] + rng.random(), seconds=prices[family]))
    return Counter(m.family for m in members)


def test_even_shares_are_of_seconds_and_not_of_trials():
    counts = play({"cheap": 1.0, "dear": 16.0}, {"cheap": 0.0, "dear": 0.0}, turns=170, even_share=1.0)
    assert counts == {"cheap": 160, "dear": 10}


def test_of_a_budget_of_trials_shares_are_of_trials():
    known = {"prices": {"cheap": 1.0, "dear": 16.0}, "levels": {"cheap": 0.0, "dear": 0.0}}
    assert play(**known, turns=24, even_share=1.0, by_cost=False) == {"cheap": 12, "dear": 12}


@pytest.mark.slow
def test_what_is_not_shared_evenly_goes_to_the_family_whose_best_third_is_best():
    # Two thirds of the seconds go to the better family, once enough is known, and half of the rest: 5 parts of 6.
    prices = {"cheap": 1.0, "dear": 4.0}
    for best, rest in (("cheap", "dear"), ("dear", "cheap")):
        counts = play(prices, {best: 0.0, rest: 5.0}, turns=700, even_share=1 / 3)
        assert counts[best] * prices[best] / (counts[rest] * prices[rest]) == pytest.approx(5, rel=0.15)


def test_families_that_are_clearly_worse_are_soon_left():
    """With next to nothing shared evenly, of 100 trials of four families over 80 are of the good one."""
    for seed in range(3):
        counts = play(dict.fromkeys("abcd", 1.0), {"a": 0.0, "b": 5.0, "c": 5.0, "d": 5.0},
                      turns=100, even_share=0.01, seed=seed)  # fmt: skip
        assert counts["a"] > 80, counts


def test_a_trial_far_dearer_than_its_family_counts_as_what_it_is():
    """A fine-tuned encoder's, say: 16 epochs' worth each, so that three of them are more than 40 usual ones."""
    usual = [member(number, "cheap", 0.5) for number in range(40)]
    mixed = [member(40 + n, "dear", 0.5, seconds=16.0 if n > 4 else 1.0) for n in range(8)]
    assert pick(usual + mixed, families=["cheap", "dear"], even_share=1) == "cheap"
    assert pick(usual + mixed[:5], families=["cheap", "dear"], even_share=1) == "dear"


def test_a_family_without_trials_is_first():
    members = [member(0, "cheap", 0.1), member(1, "other", 0.2)]
    for seed in range(10):
        assert pick(members, seed=seed) == "dear"


def test_of_equals_each_may_be_first():
    found = Counter(pick([], seed=seed) for seed in range(300))
    assert all(count == pytest.approx(100, abs=35) for count in found.values())


def test_the_order_of_families_in_the_file_decides_nothing():
    """Young families often tie for the best third, with the best value of all in it."""
    members = [member(number, FAMILIES[number % 3], 0.5 + 0.1 * (number // 3)) for number in range(9)]
    for families in (FAMILIES, FAMILIES[::-1]):
        found = Counter(pick(members, families=families, even_share=0.01, seed=seed) for seed in range(300))
        assert all(found[family] == pytest.approx(100, abs=35) for family in FAMILIES), found


def test_failures_promise_nothing_but_cost_what_they_took():
    good = [member(number, "cheap", 0.5, epochs=3) for number in range(20)]
    bad = [replace(member(20 + n, "dear", 0.4, epochs=3), state=FAILED) for n in range(20)]
    assert {pick(good + bad, families=["cheap", "dear"], seed=seed) for seed in range(20)} == {"cheap"}
    longer = [replace(m, until=9) for m in good]  # what is promised counts: 180 epochs of cheap, 60 of dear that failed
    assert pick(longer + bad, families=["cheap", "dear"], even_share=1) == "dear"


def test_nothing_known_yet_shares_evenly():
    members = [Member(0, "cheap", RUNNING, 1), Member(1, "dear", FAILED, 3)]
    assert pick(members) == "other"
    finite = [member(0, "cheap", math.inf, state=COMPLETE)]
    assert pick(finite, families=["cheap", "dear"]) == "dear"


def test_the_noise_of_a_clock_changes_nothing():
    rng = random.Random(5)
    members = [member(n, FAMILIES[n % 3], rng.random(), seconds=(1.0, 4.0, 64.0)[n % 3]) for n in range(40)]
    for at in range(1, 41):
        noisy = [replace(m, seconds=(m.seconds or 0.0) * rng.uniform(0.75, 1.3)) for m in members[:at]]
        assert pick(noisy, seed=at) == pick(members[:at], seed=at)


@pytest.mark.parametrize("seed", range(4))
def test_what_was_kept_of_the_last_proposal_changes_none(seed):
    """Trials that come in any order, report, fail, break a constraint, change their price and are taken back."""
    rng, members = random.Random(seed), {}
    for step in range(200):
        number = rng.randrange(60)
        if rng.random() < 0.1:
            members.pop(number, None)
        else:
            value, price = rng.choice([rng.random(), math.inf]), rng.choice([1.0, 3.0, 100.0])
            state = rng.choice([PAUSED, RUNNING, COMPLETE, FAILED, INFEASIBLE])
            epochs = rng.randrange(4) if state in (RUNNING, FAILED) else 3
            new = member(
                number, rng.choice(FAMILIES), value, seconds=price if epochs else None, epochs=epochs, state=state
            )
            members[number] = replace(new, until=rng.choice([3, 9]))
        asked = list(members.values())
        rule = {"even_share": 0.25, "by_cost": step % 3 > 0}
        kept = next_family(FAMILIES, known=families_of(asked), rng=random.Random(step), **rule)
        memory = dict(vars(_last))
        vars(_last).clear()
        fresh = families_of(sorted(asked, key=lambda m: m.number))
        assert next_family(FAMILIES, known=fresh, rng=random.Random(step), **rule) == kept
        vars(_last).update(memory)
