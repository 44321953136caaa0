"""Every second of every slot is a trial's, a cache's or idle: sums over holds that a test's own clock steps through."""

import pytest

from mmtune.slots.holds import AHEAD, Holds


class Clock:
    """Seconds that only the test lets pass."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def make(*slots, workers=1, share=1.0):
    clock = Clock()
    return Holds(slots, workers=workers, share=share, clock=clock), clock


def row(epoch, **parts):
    return {"epoch": epoch, "train_seconds": 0.0, "eval_seconds": 0.0, "checkpoint_seconds": 0.0, **parts}


def test_a_report_takes_the_time_since_the_one_before_and_the_end_takes_the_rest():
    holds, clock = make("a", workers=2, share=0.5)
    clock.now += 3  # idle
    holds.take("a", "t0000-to-2", "t0000")
    clock.now += 10
    first = holds.report("t0000-to-2", row(1, train_seconds=4.0, eval_seconds=2.0, cache_seconds=8.0))
    assert (first["wall_seconds"], first["device_seconds"]) == (10, 10 * 2 * 0.5)
    assert (first["train_seconds"], first["eval_seconds"], first["checkpoint_seconds"]) == (2.0, 1.0, 0.0)  # its share
    assert first["setup_seconds"] == 10 - 2 - 1 and first["cache_seconds"] == 4.0
    clock.now += 1  # until the decision: the next report's
    holds.answered("t0000-to-2")
    clock.now += 5
    assert holds.report("t0000-to-2", row(2))["wall_seconds"] == 6
    holds.answered("t0000-to-2")
    clock.now += 2
    holds.give_back("a")
    clock.now += 4
    spent = holds.spent()
    assert spent.idle == 3 + 4
    [(trial, times)] = spent.unreported
    assert trial == "t0000" and times["wall_seconds"] == times["device_seconds"] == times["setup_seconds"] == 2
    clock.now += 1
    again = holds.spent()
    assert (again.idle, again.unreported, again.fillings) == (1, [], [])


def test_what_filled_a_cache_is_taken_out_of_the_trial_that_did_it():
    holds, clock = make("a", "b", workers=3)
    holds.take("a", "t0000-to-1", "t0000")
    holds.take("b", "prepare-0-0", None)
    clock.now += 20
    holds.filled("a", "tokens", 500, 15.0, "a GPU")
    holds.filled("b", "waiting for tokens", None, 14.0, "a GPU")
    assert holds.report("t0000-to-1", row(1))["device_seconds"] == 3 * 5
    holds.answered("t0000-to-1")
    holds.give_back("b")
    clock.now += 7
    spent = holds.spent(is_last=True)
    columns = ("trial", "what", "rows", "seconds", "device_seconds")
    booked = [tuple(each[name] for name in columns) for each in spent.fillings]
    assert booked[:2] == [("t0000", "tokens", 500, 15, 45), (AHEAD, "waiting for tokens", None, 14, 42)]
    assert booked[2][0] == AHEAD and booked[2][3:] == (6, 18)  # the rest of the job beside the trials
    assert {each["device"] for each in spent.fillings} == {"a GPU"}
    total = 3 * 5 + sum(each[4] for each in booked) + sum(times["device_seconds"] for _, times in spent.unreported)
    assert total + spent.idle == 2 * 3 * 27


def test_a_report_that_died_unanswered_is_the_trial_s_all_the_same():
    holds, clock = make("a")
    holds.take("a", "t0000-to-3", "t0000")
    clock.now += 4
    holds.report("t0000-to-3", row(1))  # its worker dies before the answer
    clock.now += 1
    holds.give_back("a")
    clock.now += 2
    holds.take("a", "t0000-to-3", "t0000")
    clock.now += 3
    assert holds.report("t0000-to-3", row(1))["wall_seconds"] == 3  # from the checkpoint
    holds.answered("t0000-to-3")
    spent = holds.spent(is_last=True)
    assert [times["wall_seconds"] for _, times in spent.unreported] == [5, 0] and spent.idle == 2


@pytest.mark.parametrize("is_last", [True, False])
def test_what_is_still_held_counts_when_the_pool_ends(is_last):
    holds, clock = make("a")
    holds.take("a", "t0000-to-3", "t0000")
    clock.now += 4
    assert len(holds.spent(is_last=is_last).unreported) == is_last
