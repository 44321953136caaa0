"""Priors of parameters: what they draw, and how far proposals follow them as trials bear them out or not."""

import math
import random
from collections import Counter

import pytest

from mmtune.records import FAILED, PAUSED
from mmtune.search.belief import beliefs_of, density, drawer, has_prior, trust
from mmtune.search.parzen import propose
from mmtune.search.rungs import Member
from mmtune.search.samplers import SAMPLERS, Question
from mmtune.space.domains import Categorical, Number
from mmtune.space.drawing import assign, draw
from mmtune.space.space import Space
from mmtune.spec.document import SpecError
from mmtune.spec.search_spec import load_spec

RUNGS = (1, 3)
LINE = Space({"x": (Number(0.0, 10.0, prior=(2.0, 1.0)),)})
LOG = Space({"x": (Number(1e-5, 1e-1, log=True, prior=(1e-3, 3.0)),)})
CHOICE = Space({"kind": (Categorical(("a", "b", None), prior=(3.0, 1.0, 0.0)),)})


def trust_in_prior(space, members):
    (share,) = trust(beliefs_of(space), members, RUNGS)
    return share


def draws(space, count, *, members=(), only_prior=False):
    found = []
    for seed in range(count):
        rng = random.Random(seed)
        if only_prior:
            rng.random = iter([0.0]).__next__  # below any trust: this proposal follows the prior
            pick = drawer(space, members=members, rungs=RUNGS, rng=rng)
            del rng.random
        else:
            pick = drawer(space, members=members, rungs=RUNGS, rng=rng)
        found.append(assign(space, pick))
    return found


def members_of(space, loss, *, count):
    """Trials of which one half comes from the prior and the other does not, as the first proposals do."""
    found, rng = [], random.Random(1)
    for number in range(count):
        if number % 2:
            params = draws(space, number + 1, only_prior=True)[-1]
        else:
            params = assign(space, lambda _, domain, high: draw(domain, high, rng))
        found.append(Member(number, "", PAUSED, 1, bests=(loss(params),), params=params))
    return found


def test_a_numbers_prior_is_a_normal_distribution_between_the_ends():
    found = sorted(params["x"] for params in draws(LINE, 3000, only_prior=True))
    assert 0 <= found[0] and found[-1] <= 10
    inside = 0.5 * (math.erf(8 / 2**0.5) + math.erf(2 / 2**0.5))  # of a normal around 2, what lies in 0 to 10
    share = sum(1 <= x <= 3 for x in found) / len(found)
    assert share == pytest.approx(math.erf(1 / 2**0.5) / inside, abs=0.03)
    assert found[len(found) // 2] == pytest.approx(2.03, abs=0.08)  # the cut-off tail moves the median a little


def test_with_log_the_width_is_a_factor():
    found = [params["x"] for params in draws(LOG, 3000, only_prior=True)]
    share = sum(1e-3 / 3 <= x <= 3e-3 for x in found) / len(found)
    assert share == pytest.approx(math.erf(1 / 2**0.5), abs=0.03)


def test_choices_are_drawn_by_their_weights():
    found = Counter(params["kind"] for params in draws(CHOICE, 2000, only_prior=True))
    assert found["a"] / 2000 == pytest.approx(0.75, abs=0.03) and found[None] == 0


@pytest.mark.parametrize("space", [LINE, LOG])
def test_the_density_is_one_on_average_over_the_range(space):
    uniform = Space({"x": (Number(space.domains["x"][0].low, space.domains["x"][0].high, log=space is LOG),)})
    rng = random.Random(0)
    at = [assign(uniform, lambda _, domain, high: draw(domain, high, rng)) for _ in range(20_000)]
    assert sum(density(space, params) for params in at) / len(at) == pytest.approx(1, abs=0.05)
    assert [density(CHOICE, {"kind": kind}) for kind in ("a", "b", None)] == [2.25, 0.75, 0.0]


def test_half_of_all_proposals_follow_the_prior_until_trials_say_something():
    assert trust_in_prior(LINE, []) == 0.5
    near = sum(1 <= params["x"] <= 3 for params in draws(LINE, 2000)) / 2000
    assert near == pytest.approx(0.5 * 0.698 + 0.5 * 0.2, abs=0.04)


@pytest.mark.slow
def test_trials_decide_how_far_it_is_followed():
    right = trust_in_prior(LINE, members_of(LINE, lambda p: abs(p["x"] - 2), count=60))
    wrong = trust_in_prior(LINE, members_of(LINE, lambda p: abs(p["x"] - 9), count=60))
    same = trust_in_prior(LINE, members_of(LINE, lambda p: random.Random(p["x"]).random(), count=600))
    assert right > 0.7 and wrong < 0.2 and same == pytest.approx(0.5, abs=0.1)
    few = trust_in_prior(LINE, members_of(LINE, lambda p: abs(p["x"] - 9), count=6))
    assert wrong < few < 0.5
    failed = [Member(n, "", FAILED, 1, params={"x": 2.0}) for n in range(20)]  # all that it proposed diverged
    good = [Member(20 + n, "", PAUSED, 1, bests=(0.5,), params={"x": 8.0 + n / 50}) for n in range(20)]
    assert trust_in_prior(LINE, failed + good) < 0.2


def test_a_good_prior_finds_sooner_and_a_wrong_one_does_not_keep_a_search_from_the_best():
    def best_of(prior, count=40):
        space, total = Space({"x": (Number(0.0, 1.0, prior=prior),), "y": (Number(0.0, 1.0),)}), 0.0
        for seed in range(12):
            members = []
            for number in range(count):
                rng = random.Random(f"{seed} {number}")
                known = {"members": members, "rungs": RUNGS, "random_share": 1.0, "even_share": 1.0, "by_cost": True}
                params = propose(space, rng=rng, **known)
                loss = abs(params["x"] - 0.2) + 0.1 * abs(params["y"] - 0.5)
                members.append(Member(number, "", PAUSED, 1, bests=(loss,), params=params))
            total += min(member.bests[0] for member in members) / 12
        return total

    none, right, wrong = best_of(None), best_of((0.2, 0.05)), best_of((0.9, 0.05))
    assert right < 0.7 * none and wrong < 1.6 * none


def test_without_a_prior_nothing_is_drawn_otherwise():
    plain = Space({"x": (Number(0.0, 1.0),)})
    assert not has_prior(plain)
    rng = random.Random(4)
    assert draws(plain, 5)[4] == assign(plain, lambda _, domain, high: draw(domain, high, rng))


def test_random_follows_a_prior_too():
    sampler = SAMPLERS["random"].make(Question(1, 1, space=LINE, rungs=RUNGS), SAMPLERS["random"].options())
    assert type(sampler).__name__ == "Given"
    plain = Question(1, 1, space=Space({"x": (Number(0.0, 1.0),)}))
    assert type(SAMPLERS["random"].make(plain, SAMPLERS["random"].options())).__name__ == "RandomSampler"


SPEC = """
study: s
family: fusion
dataset: openclipart
space:
  optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true, prior: LR}
  model.dropout: {type: float, low: 0.0, high: 0.5, prior: DROPOUT}
  model.kind: {type: categorical, choices: [early, late], prior: KIND}
sampler: {name: SAMPLER}
budget: {trials: 2}
"""
GOOD = {
    "LR": "{mode: 1.0e-3, width: 3}", "DROPOUT": "{mode: 0.1, width: 0.2}", "KIND": "[3, 1]", "SAMPLER": "parzen"
}  # fmt: skip


def spec_with(**given):
    text = SPEC
    for name, value in {**GOOD, **given}.items():
        text = text.replace(name, value)
    return load_spec(text)


def test_a_search_file_has_it():
    domains = spec_with().space.domains
    assert [domains[key][0].prior for key in ("optim.lr", "model.dropout", "model.kind")] == [
        (1e-3, 3.0), (0.1, 0.2), (3.0, 1.0)
    ]  # fmt: skip
    assert spec_with(LR="null").space.domains["optim.lr"][0].prior is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"LR": "{mode: 1.0, width: 3}"}, "space.optim.lr.prior (line 6): mode 1.0 is not in 0.0001 to 0.01"),
        ({"LR": "{mode: 1.0e-3, width: 0.5}"}, "width 0.5 is a factor, as log is true; it must be above 1"),
        ({"DROPOUT": "{mode: 0.1, width: 0}"}, "width 0.0 must be above 0"),
        (
            {"DROPOUT": "{mode: 0.1}"},
            "space.model.dropout.prior (line 7): write {mode: the likeliest value",
        ),
        ({"DROPOUT": "0.1"}, "space.model.dropout.prior (line 7): write {mode: the likeliest value"),
        ({"KIND": "[1]"}, "space.model.kind.prior (line 8): has 1 weights for 2 choices"),
        ({"KIND": "[0, 0]"}, "weights are 0 or more, and not all 0"),
        (
            {"SAMPLER": "tpe"},
            "'tpe' takes no prior, which optim.lr, model.dropout, model.kind has; give parzen or random",
        ),
    ],
)
def test_what_is_wrong_with_it_is_one_line(given, said):
    with pytest.raises(SpecError) as caught:
        spec_with(**given)
    assert said in str(caught.value) and "has 1 problem" in str(caught.value)


def test_families_take_turns_instead():
    with pytest.raises(SpecError, match="family.prior .line 3.: has no effect: families take turns"):
        load_spec("study: s\ndataset: openclipart\nfamily: {type: categorical, choices: [text, image], prior: [1, 2]}\n"
                  "budget: {trials: 2}\n")  # fmt: skip
