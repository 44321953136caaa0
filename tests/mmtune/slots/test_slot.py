"""The broker between trial actors and slots: who gets which job, and what happens when one of them dies."""

import asyncio

import pytest

from mmtune.slots import slot
from mmtune.slots.slot import Broker


def run(scenario):
    """Runs an async scenario that may not hang."""
    return asyncio.run(asyncio.wait_for(scenario, 10))


@pytest.fixture
def short_polls(monkeypatch):
    monkeypatch.setattr(slot, "_POLL_SECONDS", 0.05)


def row(epoch):
    return {"epoch": epoch, "val_accuracy": 0.5}


async def take(broker, name="slot-0"):
    job = await broker.next_job(name)
    assert job["kind"] == "job"
    return job


def test_jobs_are_served_in_order_and_reports_wait_for_the_decision():
    async def scenario():
        broker = Broker(max_retries=2)
        await broker.submit("t0", {"config": 0, "known_epoch": 0})
        await broker.submit("t1", {"config": 1, "known_epoch": 0})
        job = await take(broker)
        assert (job["trial"], job["config"], job["attempt"]) == ("t0", 0, 1)
        reporting = asyncio.create_task(broker.report("t0", 1, row(1)))
        assert await broker.next_event("t0") == ("report", row(1))
        assert not reporting.done()
        await broker.answer("t0", stop=False)
        assert await reporting is False
        stopped = asyncio.create_task(broker.report("t0", 1, row(2)))
        await broker.next_event("t0")
        await broker.answer("t0", stop=True)
        assert await stopped is True
        await broker.finish("slot-0", "t0", 1, {"state": "COMPLETE"})
        assert (await take(broker))["trial"] == "t1"

    run(scenario())


def test_a_dead_worker_group_gets_its_job_again_after_the_last_answered_epoch():
    async def scenario():
        broker = Broker(max_retries=1)
        await broker.submit("t0", {"known_epoch": 3})
        await take(broker)
        lost = asyncio.create_task(broker.report("t0", 1, row(4)))
        await broker.next_event("t0")
        await broker.answer("t0", stop=False)
        await lost
        unanswered = asyncio.create_task(broker.report("t0", 1, row(5)))
        await asyncio.sleep(0)
        again = await take(broker)  # asking while busy: the group was restarted
        assert await unanswered is True or again  # the old group's call is let go
        assert (again["attempt"], again["known_epoch"]) == (2, 4)
        assert await broker.report("t0", 1, row(5)) is True  # a straggler of the first attempt is told to stop
        await asyncio.sleep(0)
        third = asyncio.create_task(broker.next_job("slot-0"))
        kind, end = await broker.next_event("t0")
        assert kind == "end" and end["state"] == "FAILED" and "2 times" in end["error"]
        third.cancel()

    run(scenario())


def test_a_restarted_trial_actor_attaches_and_sees_the_unanswered_report():
    async def scenario():
        broker = Broker(max_retries=2)
        await broker.submit("t0", {"known_epoch": 0})
        await take(broker)
        reporting = asyncio.create_task(broker.report("t0", 1, row(1)))
        assert await broker.next_event("t0") == ("report", row(1))
        await broker.submit("t0", {"known_epoch": 0})  # the actor died before it answered
        assert await broker.next_event("t0") == ("report", row(1))
        await broker.answer("t0", stop=False)
        assert await reporting is False

    run(scenario())


def test_polls_return_when_there_is_nothing(short_polls):
    async def scenario():
        broker = Broker(max_retries=2)
        assert await broker.next_job("slot-0") == {"kind": "idle"}
        await broker.submit("t0", {"known_epoch": 0})
        await take(broker)
        assert await broker.next_event("t0") == ("wait", {})

    run(scenario())


def test_closing_lets_everyone_go():
    async def scenario():
        broker = Broker(max_retries=2)
        waiting = asyncio.create_task(broker.next_job("slot-1"))
        await broker.submit("t0", {"known_epoch": 0})
        assert (await waiting)["trial"] == "t0"
        reporting = asyncio.create_task(broker.report("t0", 1, row(1)))
        idle = asyncio.create_task(broker.next_job("slot-0"))
        await asyncio.sleep(0.01)
        await broker.close()
        assert await reporting is True
        assert await idle == {"kind": "close"}

    run(scenario())


def test_a_trial_stopped_before_it_began_never_runs(short_polls):
    async def scenario():
        broker = Broker(max_retries=2)
        await broker.submit("t0", {"known_epoch": 0})
        await broker.answer("t0", stop=True)
        assert await broker.next_job("slot-0") == {"kind": "idle"}

    run(scenario())


def test_a_slot_that_cannot_start_counts_nothing_served():
    async def scenario():
        broker = Broker(max_retries=2)
        assert await broker.slot_died("slot-0", "why") == 0
        await broker.submit("t0", {"known_epoch": 0})
        await take(broker, "slot-0")
        assert await broker.slot_died("slot-0", "why") == 1
        assert (await take(broker, "slot-1"))["trial"] == "t0"  # another slot takes it over

    run(scenario())
