"""The broker of a study: one actor between Tune's trial actors, the slots and the driver.

Trial actors hand jobs in, slots take them in order, and a stop is cooperative: it is the answer to a report.
No process is killed to stop a trial, so nothing leaks and nothing restarts. It imports no torch.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mmtune import records
from mmtune.slots.heartbeat import Beats, Place
from mmtune.slots.holds import Holds
from mmtune.slots.messages import CacheJob, End, Event, Order, Pending, Row, Spent, TrialJob


@dataclass
class _Job:
    trial: str
    payload: TrialJob | CacheJob
    attempt: int = 0
    losses: int = 0  # of its workers
    acked_epoch: int = 0
    pending: Pending | None = None  # report or end that the trial actor has not answered yet
    event: asyncio.Event = field(default_factory=asyncio.Event)
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    stop: bool = False


class Broker:
    """A queue of jobs and who works on which, as an async actor.

    Args:
        max_retries: how often a trial whose workers die is tried again.
        poll_seconds: how long a long poll waits before it says "nothing yet".
        slots: their names.
        workers: of a slot.
        share: of a device that a worker holds.
        frozen_seconds: ``resources.frozen_seconds``.
    """

    def __init__(
        self,
        *,
        max_retries: int,
        poll_seconds: float = 10.0,
        slots: Sequence[str] = (),
        workers: int = 1,
        share: float = 1.0,
        frozen_seconds: float = 0.0,
    ) -> None:
        self._max_retries, self._poll_seconds = max_retries, poll_seconds
        self._holds = Holds(slots, workers=workers, share=share)
        self._beats = Beats(replaced_after=frozen_seconds)
        self._jobs: dict[str, _Job] = {}
        self._queue: collections.deque[str] = collections.deque()
        self._busy: dict[str, str] = {}  # slot -> trial
        self._served: collections.Counter[str] = collections.Counter()
        self._changed = asyncio.Condition()
        self._closing, self._is_called_back = False, asyncio.Event()
        self._said: list[str] = []  # for the person who watches

    # --- trial actors -------------------------------------------------------------------------------
    async def submit(self, trial: str, payload: TrialJob | CacheJob) -> None:
        """Queues a job, or attaches to it when the trial's actor was restarted."""
        if trial in self._jobs:
            return
        self._jobs[trial] = _Job(trial, payload, acked_epoch=payload.get("known_epoch", 0))
        async with self._changed:
            self._queue.append(trial)
            self._changed.notify_all()

    async def submit_all(self, payloads: dict[str, TrialJob | CacheJob]) -> None:
        """Queues jobs in their order, which calls of their own may lose on the way."""
        for trial, payload in payloads.items():
            await self.submit(trial, payload)

    async def next_event(self, trial: str) -> Event:
        """('report', row), ('end', how) or, after a while, ('wait', None)."""
        job = self._jobs.get(trial)
        if job is None:
            return "end", {"state": records.FAILED, "error": "the job is gone"}
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(job.event.wait(), self._poll_seconds)
        return job.pending or ("wait", None)

    async def answer(self, trial: str, *, stop: bool) -> None:
        """The decision on the pending report, or the receipt of the end. Stopping a queued job forgets it."""
        job = self._jobs.get(trial)
        if job is None:
            return
        job.stop = job.stop or stop
        if job.pending is not None and job.pending[0] == "end":
            self._forget(trial)
        elif job.pending is not None:
            job.acked_epoch = max(job.acked_epoch, job.pending[1]["epoch"])
            self._holds.answered(trial)
            job.pending = None
            job.event.clear()
            job.decided.set()
        if stop and trial in self._queue:
            self._queue.remove(trial)
            self._forget(trial)

    # --- slots --------------------------------------------------------------------------------------
    async def next_job(self, slot: str) -> Order | Literal["idle", "close"]:
        """A job, 'idle' after a while, or 'close'. Asking while busy means the worker group died."""
        if slot in self._busy:
            self._requeue(slot, "its worker died")
        deadline = time.monotonic() + self._poll_seconds
        async with self._changed:
            while not self._queue and not self._closing:
                left = deadline - time.monotonic()
                if left <= 0:
                    return "idle"
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), left)
            if self._closing:
                return "close"
            trial = self._queue.popleft()
        job = self._jobs[trial]
        job.attempt += 1
        self._busy[slot] = trial
        self._served[slot] += 1
        self._holds.take(slot, trial, job.payload.get("trial"))
        return Order(slot=slot, trial=trial, attempt=job.attempt, job=job.payload, known_epoch=job.acked_epoch)

    async def report(self, trial: str, attempt: int, row: Row) -> bool:
        """Passes an epoch's row up and waits for the decision: True stops the trial."""
        job = self._jobs.get(trial)
        if job is None or job.attempt != attempt or self._closing:
            return True
        if job.stop or row["epoch"] <= job.acked_epoch:
            return job.stop
        job.decided.clear()
        job.pending = ("report", self._holds.report(trial, row))
        job.event.set()
        await job.decided.wait()
        return job.stop or self._closing

    async def finish(self, slot: str, trial: str, attempt: int, end: End) -> None:
        """The job is over; ``end`` has 'state', and 'reason', 'facts' or 'error'."""
        job = self._jobs.get(trial)
        if self._busy.get(slot) == trial and (job is None or job.attempt == attempt):
            del self._busy[slot]
            self._holds.give_back(slot)
        if job is None or job.attempt != attempt:
            return
        if job.stop or self._closing:  # the trial actor has moved on
            self._forget(trial)
        else:
            job.pending = ("end", end)
            job.event.set()

    async def hand_back(self, slot: str, trial: str) -> None:
        """The slot's worker is wanted back: the job goes on elsewhere, which is no retry."""
        if self._busy.get(slot) == trial:
            self._requeue(slot, "its worker was told to end", is_loss=False)
            async with self._changed:
                self._changed.notify_all()

    async def called_back(self) -> None:
        """Returns when the session ends."""
        await self._is_called_back.wait()

    async def filled(self, slot: str, what: str, rows: int | None, seconds: float, device: str) -> None:
        """The job made something for the cache, or waited for another: that is the study's time, not the trial's."""
        self._holds.filled(slot, what, rows, seconds, device)

    async def beat(self, slot: str, rank: int, place: Place) -> None:
        """A worker of a slot lives."""
        word = self._beats.beat(slot, rank, place)
        self._said += [] if word is None else [word]

    async def tell(self, trial: str, text: str) -> None:
        """A line of a job's worker for the person who watches."""
        job = self._jobs.get(trial)
        self._said.append(text if job is None else f"{_name(job)}: {text}")

    # --- driver -------------------------------------------------------------------------------------
    async def add_slots(self, slots: Sequence[str]) -> None:
        """The pool has grown."""
        self._holds.add(slots)

    async def slot_died(self, slot: str, why: str) -> int:
        """Puts the slot's job back; how many jobs the slot has been given so far."""
        self._beats.forget(slot)
        if slot in self._busy:
            self._requeue(slot, why)
            async with self._changed:
                self._changed.notify_all()
        return self._served[slot]

    async def spent(self, *, is_last: bool = False) -> Spent:
        """Where the time went since this was asked last; ``is_last`` ends the accounts: what is held is given back."""
        return self._holds.spent(is_last=is_last)

    async def close(self) -> None:
        """Stops running jobs, at their next report or checkpoint, and lets the slots' workers return."""
        self._closing = True
        self._is_called_back.set()
        for job in self._jobs.values():
            job.decided.set()
        async with self._changed:
            self._changed.notify_all()

    async def said(self, gone: Collection[str] = ()) -> list[str]:
        """What happened since this was asked last, a line each; answers as long as the broker lives.

        Args:
            gone: ids of nodes that have left the cluster.
        """
        said, self._said = self._said + self._beats.silent(gone), []
        return said

    async def to_replace(self) -> list[Place]:
        """Workers that are frozen, to be killed."""
        return self._beats.to_replace()

    def _requeue(self, slot: str, why: str, *, is_loss: bool = True) -> None:
        trial = self._busy.pop(slot)
        self._holds.give_back(slot)
        job = self._jobs.get(trial)
        if job is None:
            return
        if job.pending is not None and job.pending[0] == "report":  # the next attempt reports it again
            job.pending = None
            job.event.clear()
        job.decided.set()
        job.losses += is_loss
        if job.stop:
            self._forget(trial)
        elif job.losses > self._max_retries:
            job.pending = ("end", {"state": records.FAILED, "error": f"{why} {job.losses} times"})
            job.event.set()
        elif is_loss:
            self._queue.appendleft(trial)
            going_on = f"it goes on after epoch {job.acked_epoch}" if "trial" in job.payload else "it is filled again"
            self._said.append(f"{_name(job)}: {why}; {going_on} (retry {job.losses} of {self._max_retries})")
        else:
            self._queue.appendleft(trial)
            if not self._closing:
                self._said.append(f"{_name(job)}: {why}; it goes on inside epoch {job.acked_epoch + 1}")

    def _forget(self, trial: str) -> None:
        self._jobs.pop(trial, None)


def _name(job: _Job) -> str:
    return job.payload["trial"] if "trial" in job.payload else "a cache"
