"""The broker between trial actors and slots: who gets which job, and what happens when one of them dies."""

import asyncio

from mmtune.slots.broker import Broker
from mmtune.slots.messages import CacheJob, Order, TrialJob


def run(scenario):
    """Runs an async scenario that may not hang."""
    return asyncio.run(asyncio.wait_for(scenario, 10))


def job(*, family="text", known_epoch=0):
    return TrialJob(trial="t0000", config={"family": family}, folder="", known_epoch=known_epoch, is_tested=False)


def row(epoch):
    return {"epoch": epoch, "val_accuracy": 0.5}


def untimed(event):
    """A report without what the broker adds: how long the slot was held for it."""
    kind, content = event
    return kind, {name: value for name, value in content.items() if not name.endswith("_seconds")}


async def take(broker, name="slot-0"):
    order = await broker.next_job(name)
    assert isinstance(order, Order)
    return order


def test_jobs_are_served_in_order_and_reports_wait_for_the_decision():
    async def scenario():
        broker = Broker(max_retries=2)
        await broker.submit("t0", job(family="text"))
        await broker.submit("t1", job(family="image"))
        order = await take(broker)
        assert (order.trial, order.job, order.attempt) == ("t0", job(family="text"), 1)
        reporting = asyncio.create_task(broker.report("t0", 1, row(1)))
        assert untimed(await broker.next_event("t0")) == ("report", row(1))
        assert not reporting.done()
        await broker.answer("t0", stop=False)
        assert await reporting is False
        stopped = asyncio.create_task(broker.report("t0", 1, row(2)))
        await broker.next_event("t0")
        await broker.answer("t0", stop=True)
        assert await stopped is True
        await broker.finish("slot-0", "t0", 1, {"state": "COMPLETE"})
        assert (await take(broker)).trial == "t1"

    run(scenario())


def test_jobs_of_one_call_are_served_in_its_order():
    async def scenario():
        broker = Broker(max_retries=2)
        names = [f"prepare-{index}" for index in range(9)]
        await broker.submit_all({name: CacheJob(requirement=name.encode(), along=b"") for name in names})
        orders = [await take(broker, f"slot-{index}") for index in range(9)]
        assert [order.trial for order in orders] == names
        assert [order.job.get("requirement") for order in orders] == [name.encode() for name in names]

    run(scenario())


def test_a_dead_worker_group_gets_its_job_again_after_the_last_answered_epoch():
    async def scenario():
        broker = Broker(max_retries=1)
        await broker.submit("t0", job(known_epoch=3))
        await take(broker)
        lost = asyncio.create_task(broker.report("t0", 1, row(4)))
        await broker.next_event("t0")
        await broker.answer("t0", stop=False)
        await lost
        unanswered = asyncio.create_task(broker.report("t0", 1, row(5)))
        await asyncio.sleep(0)
        again = await take(broker)  # asking while busy: the group was restarted
        assert await unanswered is True or again  # the old group's call is let go
        assert (again.attempt, again.known_epoch) == (2, 4)
        assert await broker.said() == ["t0000: its worker died; it goes on after epoch 4 (retry 1 of 1)"]
        await broker.tell("t0", "a checkpoint is damaged")
        assert await broker.said() == ["t0000: a checkpoint is damaged"] and await broker.said() == []
        assert await broker.report("t0", 1, row(5)) is True  # a straggler of the first attempt is told to stop
        await asyncio.sleep(0)
        third = asyncio.create_task(broker.next_job("slot-0"))
        kind, end = await broker.next_event("t0")
        assert (kind, end) == ("end", {"state": "FAILED", "error": "its worker died 2 times"})
        third.cancel()

    run(scenario())


def test_a_restarted_trial_actor_attaches_and_sees_the_unanswered_report():
    async def scenario():
        broker = Broker(max_retries=2)
        await broker.submit("t0", job())
        await take(broker)
        reporting = asyncio.create_task(broker.report("t0", 1, row(1)))
        assert untimed(await broker.next_event("t0")) == ("report", row(1))
        await broker.submit("t0", job())  # the actor died before it answered
        assert untimed(await broker.next_event("t0")) == ("report", row(1))
        await broker.answer("t0", stop=False)
        assert await reporting is False

    run(scenario())


def test_polls_return_when_there_is_nothing():
    async def scenario():
        broker = Broker(max_retries=2, poll_seconds=0.05)
        assert await broker.next_job("slot-0") == "idle"
        await broker.submit("t0", job())
        await take(broker)
        assert await broker.next_event("t0") == ("wait", None)

    run(scenario())


def test_closing_lets_everyone_go():
    async def scenario():
        broker = Broker(max_retries=2)
        waiting = asyncio.create_task(broker.next_job("slot-1"))
        await broker.submit("t0", job())
        order = await waiting
        assert isinstance(order, Order) and order.trial == "t0"
        reporting = asyncio.create_task(broker.report("t0", 1, row(1)))
        idle = asyncio.create_task(broker.next_job("slot-0"))
        await asyncio.sleep(0.01)
        await broker.close()
        assert await reporting is True
        assert await idle == "close"

    run(scenario())


def test_a_trial_stopped_before_it_began_never_runs():
    async def scenario():
        broker = Broker(max_retries=2, poll_seconds=0.05)
        await broker.submit("t0", job())
        await broker.answer("t0", stop=True)
        assert await broker.next_job("slot-0") == "idle"

    run(scenario())


def test_a_slot_that_cannot_start_counts_nothing_served():
    async def scenario():
        broker = Broker(max_retries=2)
        assert await broker.slot_died("slot-0", "why") == 0
        await broker.submit("t0", job())
        await take(broker, "slot-0")
        assert await broker.slot_died("slot-0", "why") == 1
        assert (await take(broker, "slot-1")).trial == "t0"  # another slot takes it over

    run(scenario())


def test_a_job_that_is_handed_back_is_no_retry_and_goes_on_elsewhere():
    async def scenario():
        broker = Broker(max_retries=0)
        await broker.submit("t0", job(known_epoch=3))
        for attempt in (1, 2, 3):
            order = await take(broker)
            assert (order.attempt, order.known_epoch) == (attempt, 3)
            await broker.hand_back("slot-0", "t0")
        assert await broker.said() == ["t0000: its worker was told to end; it goes on inside epoch 4"] * 3
        assert (await take(broker, "slot-1")).attempt == 4
        await broker.slot_died("slot-1", "its worker died")
        kind, end = await broker.next_event("t0")
        assert kind == "end" and end.get("error") == "its worker died 1 times"

    run(scenario())


def test_workers_are_called_back_when_the_session_ends():
    async def scenario():
        broker = Broker(max_retries=0)
        hearing = asyncio.create_task(broker.called_back())
        await broker.submit("t0", job())
        await take(broker)
        assert not hearing.done()
        await broker.close()
        await hearing
        await broker.hand_back("slot-0", "t0")
        assert await broker.next_job("slot-0") == "close" and await broker.said() == []

    run(scenario())
