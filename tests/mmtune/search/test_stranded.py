"""Whoever is called stranded never returns: seen in whole searches, played with the schedule's own decisions."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from mmtune import records
from mmtune.search.promotion import Go, View, ladder, next_job
from mmtune.search.rungs import Member, Rules
from mmtune.search.stranded import stranded


def play(seed, *, trials, workers=1, rules, failing=0.0, families="a"):
    """(jobs given, numbers stranded before each job, most that waited at once, whole ladder's worth of them)."""
    draw = random.Random(seed)
    members: dict[int, Member] = {}
    live: dict[int, int] = {}
    lost: set[int] = set()
    returned, waiting = [], 0

    def view():
        room = trials - len(members)
        return View(members=list(members.values()), live=set(live), room=room, next_number=len(members))

    while True:
        job = next_job(view(), rules) if len(live) < workers else "wait"
        if isinstance(job, Go):
            number = len(members) if job.number is None else job.number
            if number in lost:
                returned.append(number)
            if job.number is None:
                members[number] = Member(number, draw.choice(families), records.RUNNING, job.until)
            members[number] = replace(members[number], state=records.RUNNING, until=job.until)
            live[number] = job.until
            continue
        if not live:
            return returned, lost, waiting
        number = draw.choice(sorted(live))
        until, member = live.pop(number), members[number]
        bests = list(member.bests)
        for _ in range(until - member.epoch):
            bests.append(min([*bests[-1:], draw.random()]))
        state = records.COMPLETE if until == rules.rungs[-1] else records.PAUSED
        if draw.random() < failing:
            state, bests = records.FAILED, bests[:-1]
        members[number] = replace(member, state=state, bests=tuple(bests), until=until)
        if state == records.PAUSED:
            lost |= set(stranded(view(), rules, number))
        paused = {member.number for member in members.values() if member.state == records.PAUSED}
        waiting = max(waiting, len(paused - lost))


@pytest.mark.parametrize("seed", range(30))
def test_nobody_who_is_stranded_is_promoted(seed):
    draw = random.Random(seed + 1000)
    eta = draw.choice([2, 3, 4])
    rungs = ladder(draw.choice([4, 9, 12, 27]), grace=1, eta=eta)
    rules = Rules(rungs, eta, brackets=draw.choice([1, 1, 2]) if len(rungs) > 2 else 1)
    returned, lost, _ = play(
        seed, trials=draw.randint(3, 60), workers=draw.choice([1, 4]), rules=rules, families=draw.choice(["a", "ab"]),
        failing=draw.choice([0.0, 0.05]),
    )  # fmt: skip
    assert returned == []


def test_of_many_trials_few_wait_with_all_they_need():
    """48 on rungs of 1, 3 and 9 epochs, a third promoted from each: 16 and 5 may go on, and a few are on their way."""
    _, lost, waiting = play(1, trials=48, rules=Rules((1, 3, 9, 27), 3))
    assert len(lost) > 30 and waiting <= 48 // 3 + 3


@pytest.mark.parametrize("change", [{"room": None}, {"points": ((0.1, 0.2),)}])
def test_where_ranks_may_change_nobody_is(change):
    points = change.get("points", ())
    members = [Member(at, "a", records.PAUSED, 1, bests=(0.1 * at,), points=points) for at in range(9)]
    rules = Rules((1, 3), 3)
    room = change.get("room", 0)
    assert stranded(View(members, room=room), rules, 8) == []
    plain = [replace(member, points=()) for member in members]
    assert stranded(View(plain, room=0), rules, 8) == [3, 4, 5, 6, 7, 8]
    assert stranded(View(plain, room=9), rules, 8) == [6, 7, 8]


def test_a_leader_and_the_next_are_never():
    members = [Member(at, "a", records.PAUSED, 1, bests=(0.1 * at,)) for at in range(4)]
    assert stranded(View(members, room=0), Rules((1, 3), 9), 3) == [2, 3]  # none is promoted, the best ends the study
    failed = [replace(members[0], state=records.FAILED, until=3), *members[1:]]
    assert stranded(View(failed, room=0), Rules((1, 3), 9), 3) == [3]
