"""Promotion by hand-made ledgers in closed form, and rules that hold in any search."""

import math
import random
from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from mmtune.records import COMPLETE, FAILED, INFEASIBLE, PAUSED, RUNNING, WAITING
from mmtune.search.promotion import Go, View, _last, ladder, next_job, standings
from mmtune.search.rungs import Member, Rules

RULES = Rules(rungs=(1, 3, 9), eta=3)
NEW = Go(None, 1)


def paused(number, *values, family="fusion", seconds=1.0):
    """Paused after so many epochs; values as losses."""
    bests = tuple(min(values[: epoch + 1]) for epoch in range(len(values)))
    return Member(number, family, PAUSED, until=len(values), bests=bests, seconds=seconds)


def job(*members, rules=RULES, **view):
    return next_job(View(members=members, **view), rules)


@pytest.mark.parametrize(
    ("length", "grace", "eta", "rungs"),
    [
        (51, 1, 3, (2, 6, 18, 51)),  # a twenty-fifth of 51 is 2; 54 would be above 51
        (52, 3, 3, (3, 9, 27, 52)),
        (12, 1, 3, (1, 3, 12)),  # no 9: from there 12 is only a third more
        (4, 1, 2, (1, 2, 4)),
        (9, 4, 3, (4, 9)),
        (9, 6, 3, (9,)),
        (1, 1, 3, (1,)),
        (1, 2, 3, (1,)),
        (2, 1, 3, (1, 2)),
        (200, 1, 3, (8, 24, 72, 200)),
    ],
)
def test_a_ladder_begins_at_a_twenty_fifth_and_leaves_out_rungs_near_the_end(length, grace, eta, rungs):
    assert ladder(length, grace=grace, eta=eta) == rungs


def test_the_best_of_three_goes_on_and_no_second_before_there_are_six():
    members = [paused(0, 0.5), paused(1, 0.3)]
    assert job(*members) == NEW  # floor(2 / 3) = 0
    members.append(paused(2, 0.4))
    assert job(*members) == Go(1, 3)
    members[1] = replace(members[1], state=RUNNING, until=3)
    assert job(*members, live={1}) == NEW  # marked when it was decided: nobody else goes for it
    members += [paused(3, 0.1), paused(4, 0.2)]
    # Two are better than the one promoted, but one of floor(5 / 3) has gone: promotion is delayed.
    assert job(*members, live={1}) == NEW
    assert job(*members, paused(5, 0.9), live={1}) == Go(3, 3)


def test_the_highest_rung_comes_first():
    members = [paused(n, 0.5 + n / 100, 0.5, 0.4 + n / 100) for n in range(3)] + [
        paused(n, n / 10) for n in range(3, 15)
    ]
    assert job(*members) == Go(0, 9)
    below = [replace(members[0], state=RUNNING, until=9), *members[1:]]
    assert job(*below, live={0}) == Go(3, 3)  # floor(15 / 3) = 5, three have gone; t3 has .3 as the best at epoch 1


def test_a_trial_counts_with_its_best_value_so_far():
    up_and_down = paused(0, 0.2, 0.8, 0.9)
    assert job(up_and_down, paused(1, 0.3, 0.3, 0.3), paused(2, 0.4, 0.4, 0.4)) == Go(0, 9)


def test_equal_values_go_by_number_in_whatever_order_they_came():
    members = [paused(n, 0.5) for n in range(9)]
    for seed in range(20):
        random.Random(seed).shuffle(members)
        assert job(*members) == Go(0, 3)


def test_what_failed_is_the_worst_of_the_next_rung_and_what_did_not_fit_is_in_none():
    nan = Member(1, "fusion", FAILED, until=3, bests=(0.1,))  # diverged in epoch 2
    at_once = Member(2, "fusion", FAILED, until=1)
    members = [paused(0, 0.5), at_once]
    assert job(*members, nan) == NEW  # floor(3 / 3) = 1 of rung 1 was promoted: the one that diverged later
    assert job(*members, paused(3, 0.6)) == Go(0, 3)  # counted, never promoted
    assert job(paused(0, 0.5), replace(at_once, state=INFEASIBLE), paused(3, 0.6)) == NEW  # two in the ranks
    at_three = [paused(4, 0.5, 0.5, 0.5), paused(5, 0.6, 0.6, 0.6)]
    assert job(*at_three) == NEW
    assert job(*at_three, nan) == Go(4, 9)  # it stands on rung 3 as the worst, with the .1 of epoch 1 forgotten
    assert job(*[replace(at_once, number=n) for n in range(9)]) == NEW


def test_a_trial_that_ended_by_itself_stands_on_the_rungs_above():
    early = Member(0, "fusion", COMPLETE, until=3, bests=(0.5, 0.2), seconds=1.0)  # patience, after epoch 2
    others = [paused(1, 0.5, 0.5, 0.3), paused(2, 0.5, 0.5, 0.4)]
    assert job(early, *others) == NEW  # it is the top third of three and needs no training
    worse = replace(early, bests=(0.5, 0.45))
    assert job(worse, *others) == Go(1, 9)  # counted, but it keeps nobody from going on


def test_an_interrupted_trial_goes_on_first_to_where_it_was_going():
    members = [paused(n, n / 10) for n in range(3)]
    cut = Member(3, "fusion", RUNNING, until=9, bests=(0.1, 0.1, 0.1))
    assert job(*members, cut) == Go(3, 9)
    assert job(*members, cut, live={3}) == NEW  # four members, and one has been promoted
    assert job(*members, cut, paused(4, 0.8), paused(5, 0.9), live={3}) == Go(0, 3)
    assert job(*members, Member(3, "", WAITING, until=1)) == Go(3, 1)


def test_the_best_third_of_all_goes_on_and_then_that_of_each_family():
    fusion = [paused(n, 0.1 + n / 100) for n in range(3)]
    text = [paused(n, 0.8 + n / 100, family="text") for n in range(3, 6)]
    members, went = [*fusion, *text], []
    while isinstance(go := job(*members, live={*went}), Go) and go.number is not None:
        assert go.until == 3
        went.append(go.number)
        members[go.number] = replace(members[go.number], state=RUNNING, until=3)
    assert went == [0, 1, 3]  # two of six, and the best text trial, though fusion's third is better


def test_the_first_trials_of_families_are_held_against_each_other():
    members = [paused(0, 0.5), paused(1, 0.3, family="text"), paused(2, 0.4, family="image")]
    assert job(*members) == Go(1, 3)  # no family has three


def test_of_all_families_a_rung_counts_what_each_costs():
    # Epochs of text cost 16 times fusion's, those of image the same within the clock's noise.
    cheap = [paused(n, 0.5 + n / 100) for n in range(4)] + [paused(4, 0.3, family="image", seconds=1.9)]
    dear = [paused(5, 0.1, family="text", seconds=16.0), paused(6, 0.2, family="text", seconds=17.0)]
    gone = replace(dear[0], state=RUNNING, until=3)
    assert job(*cheap, *dear) == Go(5, 3)
    # In epochs of fusion 37 below rung 1 and 32 above: not more.
    assert job(*cheap, gone, dear[1], live={5}) == Go(6, 3)
    both = [gone, replace(dear[1], state=RUNNING, until=3)]
    more = [paused(n, 0.9) for n in range(7, 9)]
    assert job(*cheap, *both, *more, live={5, 6}) == Go(
        0, 3
    )  # of its family; t4, third of all, waits: 64 above, 39 below


def test_a_rung_that_has_cost_more_than_the_one_below_waits():
    # Nine members at 1 s an epoch: 9 s below the first rung. Whoever goes to epoch 3 at 100 s an epoch pays 200 s.
    dear = [paused(0, 0.1, seconds=100.0), paused(1, 0.2, seconds=100.0)]
    cheap = [paused(n, n / 10) for n in range(3, 10)]
    assert job(*dear, *cheap) == Go(0, 3)  # 200 + 7 s below rung 1, nothing above
    gone = [replace(dear[0], state=RUNNING, until=3), dear[1]]
    assert job(*gone, *cheap, live={0}) == Go(1, 3)  # 200 s promised above, 207 s below
    gone[1] = replace(dear[1], state=RUNNING, until=3)
    assert job(*gone, *cheap, live={0, 1}) == NEW  # 400 s above
    noise = [paused(n, n / 10, seconds=1.0 + n % 3) for n in range(9)]
    promoted = [replace(noise[n], state=RUNNING, until=3) for n in range(2)]
    assert job(*promoted, *noise[2:], live={0, 1}) == Go(2, 3)  # up to fourfold prices are the clock's noise


def test_the_end_of_the_budget_trains_the_leaders_of_each_family():
    members = [paused(0, 0.5, 0.5, 0.5), paused(1, 0.4), paused(2, 0.9, family="text")]
    assert job(*members, room=1) == NEW
    assert job(*members, room=0) == Go(1, 9)
    one = [members[0], replace(members[1], state=RUNNING, until=9), members[2]]
    assert job(*one, room=0, live={1}) == Go(2, 9)
    both = [*one[:2], replace(members[2], state=RUNNING, until=9)]
    assert job(*both, room=0, live={1, 2}) == "wait"
    done = [members[0], Member(1, "fusion", COMPLETE, 9, (0.4,) * 9), Member(2, "text", COMPLETE, 9, (0.9,) * 9)]
    assert job(*done, room=0) == "done"
    assert job(*done[:2], Member(2, "text", FAILED, 9, (0.1,)), room=0) == "done"


def test_time_that_is_just_enough_goes_to_the_leaders():
    trained = [Member(n, "fusion", COMPLETE, 9, (0.7,) * 9, seconds=4.0) for n in (3, 4)]  # 72 s were spent
    members = [paused(0, 0.5), paused(1, 0.4), *trained]
    members += [paused(n, 0.9, 0.9, 0.9, family="text", seconds=2.0) for n in (2, 5)]
    # t1 lacks 8 epochs of 1 s, t2 lacks 6 of 2 s: 20 s, less than a quarter of 86 + 20 s.
    assert job(*members, seconds_left=20.1) == NEW
    assert job(*members, seconds_left=20.0) == Go(1, 9)
    gone = [members[0], replace(members[1], state=RUNNING, until=9), *members[2:]]
    assert job(*gone, live={1}, seconds_left=20.0) == Go(2, 9)
    gone[4] = replace(members[4], state=RUNNING, until=9)
    assert job(*gone, live={1, 2}, seconds_left=20.0) == "wait"
    assert job(*gone, live={1, 2}, seconds_left=21.0) == NEW


def test_epochs_that_are_just_enough_go_to_the_leaders():
    trained = [Member(n, "fusion", COMPLETE, 9, (0.7,) * 9, seconds=4.0) for n in (3, 4, 5, 6)]
    members = [paused(0, 0.5), paused(1, 0.4), *trained]
    members += [paused(n, 0.9, 0.9, 0.9, family="text", seconds=20.0) for n in (2, 7)]
    # t1 lacks 8 epochs, t2 lacks 6, whatever one takes: 14, less than a quarter of 44 + 14.
    assert job(*members, epochs_left=15) == NEW
    assert job(*members, epochs_left=14) == Go(1, 9)
    assert job(*members, epochs_left=15, seconds_left=1000.0) == NEW
    assert job(*members, epochs_left=15, seconds_left=1.0) == Go(1, 9)  # whichever is scarce
    gone = [members[0], replace(members[1], state=RUNNING, until=9), *members[2:]]
    assert job(*gone, live={1}, epochs_left=14) == Go(2, 9)


def test_a_quarter_of_the_time_at_most_is_kept_for_the_leaders_and_the_best_is_first():
    families = [paused(n, 0.9 - n / 10, 0.9, 0.9, family=f"f{n}", seconds=2.0) for n in range(4)]
    families.append(Member(9, "f0", COMPLETE, 9, (1.0,) * 9, seconds=4.0))  # 36 s, and 6 s of each other: 60 s spent
    # The four lack 12 s each. Of 80 s in all a quarter is kept: 20 s.
    assert job(*families, seconds_left=20.1) == NEW
    assert job(*families, seconds_left=20.0) == Go(3, 9)
    gone = [*families[:3], replace(families[3], state=RUNNING, until=9), families[4]]
    assert job(*gone, live={3}, seconds_left=20.0) == Go(2, 9)
    # Less was spent: the best one's 12 s are kept, of 6 + 6 + 12.1 s.
    assert job(*families[2:4], seconds_left=12.1) == NEW
    assert job(*families[2:4], seconds_left=12.0) == Go(3, 9)


def test_one_rung_is_a_search_without_early_stopping():
    whole = Rules(rungs=(9,), eta=3)
    assert job(rules=whole, room=2) == Go(None, 9)
    assert job(Member(0, "fusion", RUNNING, until=9), rules=whole, room=0, live={0}) == "done"
    assert job(Member(0, "fusion", RUNNING, until=9, bests=(0.5,)), rules=whole, room=0) == Go(0, 9)


class Simulation:
    """A search over random curves, in which any of ``workers`` may be the next to end, fail or run out of memory."""

    def __init__(self, seed, *, workers, families=("a", "b"), trials=60, rules=RULES):
        self.rng, self.rules, self.workers, self.trials = random.Random(seed), rules, workers, trials
        self.families, self.members, self.live, self.history = families, {}, set(), []
        self.order = random.Random(seed)  # in which the schedule is told of the members

    def view(self):
        members = list(self.members.values())
        self.order.shuffle(members)
        return View(members=members, live=set(self.live), room=self.trials - len(self.members))

    def decide(self):
        decision = next_job(self.view(), self.rules)
        if isinstance(decision, Go):
            self.history.append(decision)
            number = len(self.members) if decision.number is None else decision.number
            if decision.number is None:
                self.members[number] = Member(number, self.rng.choice(self.families), RUNNING, decision.until)
            else:
                self.check_promotion(decision)
                self.members[number] = replace(self.members[number], state=RUNNING, until=decision.until)
            self.live.add(number)
        return decision

    def check_promotion(self, decision):
        pass

    def end(self):
        number = self.rng.choice(sorted(self.live))
        self.live.discard(number)
        member = self.members[number]
        kind = self.rng.random()
        if kind < 0.05:
            self.members[number] = replace(member, state=INFEASIBLE)
        elif kind < 0.15:
            self.members[number] = replace(member, state=FAILED)
        else:
            bests = list(member.bests)
            while len(bests) < member.until:
                bests.append(min([*bests, round(self.rng.random(), 1)]))  # rounded: there are many equal values
            state = COMPLETE if member.until == self.rules.rungs[-1] or kind < 0.2 else PAUSED
            self.members[number] = replace(member, state=state, bests=tuple(bests), seconds=self.rng.uniform(1, 2))

    def run(self):
        while True:
            decision = "wait"
            while len(self.live) < self.workers and isinstance(decision := self.decide(), Go):
                pass
            if not self.live:
                assert decision == "done"
                return self
            self.end()


class Checked(Simulation):
    def is_in_turn(self, member, others, at):
        rungs = self.rules.rungs
        ranked = sorted((v, m.number) for m in others if (v := m.value_at(rungs, at)) is not None)
        quota = len(ranked) // self.rules.eta
        num_gone = sum(m.until > member.until and m.value_at(rungs, at) is not None for m in others)
        return num_gone < quota and member.number in [number for _, number in ranked[:quota]]

    def check_promotion(self, decision):
        member, rungs = self.members[decision.number], self.rules.rungs
        assert member.state == PAUSED and member.number not in self.live
        assert decision.until in rungs and decision.until > member.until == member.epoch
        if self.trials > len(self.members) or decision.until != rungs[-1]:  # no leader at the budget's end
            at = rungs.index(member.until)
            assert decision.until == rungs[at + 1]
            everybody = list(self.members.values())
            family = [other for other in everybody if other.family == member.family]
            assert self.is_in_turn(member, everybody, at) or self.is_in_turn(member, family, at)
            assert math.isfinite(member.value_at(rungs, at))


@pytest.mark.parametrize("workers", [1, 4, 16, 64])
@pytest.mark.parametrize("seed", range(5))
def test_no_search_breaks_the_rules(workers, seed):
    search = Checked(seed, workers=workers).run()
    assert len(search.members) == search.trials
    promoted = Counter((go.number, go.until) for go in search.history if go.number is not None)
    assert max(promoted.values()) == 1  # each trial goes to each rung once
    leaders = defaultdict(list)
    for member in search.members.values():
        assert member.epoch <= member.until  # nobody beyond its rung
        assert member.state != RUNNING
        if member.bests and member.state in (PAUSED, COMPLETE):
            leaders[member.family].append((member.bests[-1], member.number))
    for ranked in leaders.values():
        assert search.members[min(ranked)[1]].state == COMPLETE


def test_the_order_in_which_members_are_known_does_not_matter():
    histories = []
    for shuffle in range(3):
        search = Simulation(3, workers=1)
        search.order = random.Random(shuffle)
        histories.append(search.run().history)
    assert histories[0] == histories[1] == histories[2]


BRACKETS = Rules(rungs=(1, 3, 9), eta=3, brackets=3)


def test_hyperband_shares_configurations_out_by_its_own_numbers():
    # R = 9, eta = 3: Hyperband starts 9, 5 and 3 of them at 1, 3 and 9 epochs; before it rounds up 9, 4.5 and 3.
    counts = Counter(BRACKETS.bracket_of(number) for number in range(6000))
    for bracket, weight in enumerate((9, 4.5, 3)):
        assert counts[bracket] / 6000 == pytest.approx(weight / 16.5, abs=0.02)
    assert {RULES.bracket_of(number) for number in range(50)} == {0}


def test_a_ladder_of_hyperband_begins_at_its_own_rung_and_ranks_its_own_alone():
    first = {bracket: next(n for n in range(99) if BRACKETS.bracket_of(n) == bracket) for bracket in range(3)}
    for bracket, until in enumerate((1, 3, 9)):
        assert job(rules=BRACKETS, next_number=first[bracket]) == Go(None, until)
    later = [n for n in range(99) if BRACKETS.bracket_of(n) == 1][:3]
    others = [n for n in range(99) if BRACKETS.bracket_of(n) == 0][:2]
    members = [paused(n, 0.9, 0.9, 0.5 + at / 10) for at, n in enumerate(later)]
    members += [paused(n, 0.1) for n in others]  # better, on another ladder, on which two are too few
    assert job(*members, rules=BRACKETS) == Go(later[0], 9)


def test_one_bracket_is_asha():
    rng = random.Random(3)
    for _ in range(200):
        members = [paused(n, *[rng.random() for _ in range(rng.choice((1, 3)))]) for n in range(rng.randrange(12))]
        assert job(*members) == job(*members, rules=replace(RULES, brackets=1), next_number=7)


def on_front(number, *point, **given):
    return replace(paused(number, point[0]), points=(point,), **given)


def test_with_several_objectives_a_front_goes_on_and_not_the_best_of_the_first_alone():
    # Error and cost: 0, 1, 2 are a front; 3 to 8 are beaten by 1.
    members = [on_front(0, 0.1, 90.0), on_front(1, 0.2, 50.0), on_front(2, 0.9, 1.0)]
    members += [on_front(number, 0.3 + number / 100, 60.0 + number) for number in range(3, 9)]
    went: list[int] = []
    for _ in range(3):
        go = job(*members, live={*went})
        assert isinstance(go, Go) and go.number is not None
        went.append(go.number)
        members[go.number] = replace(members[go.number], state=RUNNING, until=3)
    assert sorted(went) == [0, 1, 2] and went[2] == 1  # the ends of the front first
    single = [replace(member, points=()) for member in members]
    assert {number for _, number, _ in standings(single, (1, 3, 9), 0)[:3]} == {0, 1, 3}


def test_a_failure_is_last_with_several_objectives_too():
    members = [on_front(n, 0.5, 10.0 - n) for n in range(2)] + [Member(2, "fusion", FAILED, until=1)]
    assert [number for _, number, _ in standings(members, (1, 3, 9), 0)] == [1, 0, 2]


def fresh(view, rules):
    """The decision of somebody who has seen nothing before."""
    vars(_last).clear()
    return next_job(view, rules)


class Remembering(Simulation):
    """Compares each decision with one that remembers nothing, and changes trials as a resume or a retry may."""

    def decide(self):
        view = replace(self.view(), seconds_left=self.rng.choice([None, 5.0, 50.0, 500.0]))
        vars(_last).update(self.memory)
        decision = next_job(view, self.rules)
        self.memory = dict(vars(_last))
        assert decision == fresh(view, self.rules)
        vars(_last).update(self.memory)
        return super().decide()

    memory: dict = {}

    def end(self):
        super().end()
        number = self.rng.choice(sorted(self.members))
        if number not in self.live:
            kind, member = self.rng.random(), self.members[number]
            if kind < 0.1:  # a price far from the others', a state that is taken back
                self.members[number] = replace(member, seconds=self.rng.choice([0.01, 100.0, None]))
            elif kind < 0.15 and member.state == FAILED:
                self.members[number] = replace(member, state=PAUSED)


@pytest.mark.parametrize("seed", range(6))
def test_what_was_kept_of_the_last_decision_changes_none(seed):
    rules = RULES if seed % 2 else BRACKETS
    search = Remembering(seed, workers=4, trials=40, rules=rules)
    search.run()
    other = Remembering(seed + 100, workers=2, trials=20, rules=rules)  # another study in the same process
    other.memory = search.memory
    other.run()
