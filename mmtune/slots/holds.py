"""Who holds the slots, and for how long: every second of every slot is a trial's, a cache's, or idle.

A trial holds a slot from the moment its job is handed out until it is given back. Each report takes the time since the
one before it; what is left at the end has no report. What filled a cache on the way is taken out and booked by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmtune import records
from mmtune.slots.messages import Row, Spent
from trainables.clock import PARTS, split

AHEAD = "ahead of the trials"  # who needed what was filled before any trial


@dataclass
class _Hold:
    job: str
    trial: str | None  # None of a job that fills a cache
    since: float  # when the last report was answered that a decision came for, at first when it was taken
    cached: float = 0.0  # seconds since then that went into caches
    reported: float | None = None  # when the report came that waits for its answer
    device: str | None = None  # its name, once it said it


class Holds:
    """The accounts of a pool of slots.

    Args:
        slots: their names; they are idle from now on.
        workers: of a slot.
        share: of a device that a worker holds: ``gpus_per_worker``, or 1 without GPUs.
        clock: seconds.
    """

    def __init__(
        self, slots: Sequence[str], *, workers: int, share: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._devices, self._share, self._clock = workers * share, share, clock
        self._idle_since = dict.fromkeys(slots, clock())
        self._holds: dict[str, _Hold] = {}
        self._fillings: list[dict[str, Any]] = []
        self._unreported: list[tuple[str, dict[str, float]]] = []
        self._idle = 0.0

    def add(self, slots: Sequence[str]) -> None:
        """More slots, idle from now on."""
        self._idle_since |= dict.fromkeys(slots, self._clock())

    def take(self, slot: str, job: str, trial: str | None) -> None:
        """A job is handed to a slot."""
        now = self._clock()
        self._idle += now - self._idle_since.pop(slot, now)
        self._holds[slot] = _Hold(job, trial, now)

    def report(self, job: str, row: Row) -> Row:
        """The row with the time that its job has held its slot since the report before."""
        hold = self._of(job)
        if hold is None:
            return row
        hold.reported = self._clock()
        parts = {name: (row.get(name) or 0.0) * self._share for name in PARTS}
        wall = max(0.0, hold.reported - hold.since - hold.cached)
        row = row | split(wall, devices=self._devices, parts=parts)
        if row.get("cache_seconds") is not None:
            row["cache_seconds"] *= self._share
        return row

    def answered(self, job: str) -> None:
        """The job's report has arrived: what follows is another's."""
        hold = self._of(job)
        if hold is not None and hold.reported is not None:
            hold.since, hold.cached, hold.reported = hold.reported, 0.0, None

    def filled(self, slot: str, what: str, rows: int | None, seconds: float, device: str) -> None:
        """The job of a slot made something for the cache, or waited for another that did."""
        hold = self._holds.get(slot)
        if hold is not None:
            hold.cached += seconds
            hold.device = device
            self._book(hold, what, rows, seconds)

    def give_back(self, slot: str) -> None:
        """The slot's job is over, or its workers died."""
        now, hold = self._clock(), self._holds.pop(slot, None)
        self._idle_since[slot] = now
        if hold is None:
            return
        left = max(0.0, now - hold.since - hold.cached)
        if hold.trial is None:
            self._book(hold, "reading data and finding what is there", None, left)
        else:
            self._unreported.append((hold.trial, split(left, devices=self._devices, parts={})))

    def spent(self, *, is_last: bool = False) -> Spent:
        """What is not in reports, since this was asked last.

        Args:
            is_last: the pool ends: what is still held is given back.
        """
        for slot in list(self._holds) if is_last else ():
            self.give_back(slot)
        now = self._clock()
        for slot, since in self._idle_since.items():
            self._idle += now - since
            self._idle_since[slot] = now
        spent = Spent(self._fillings, self._unreported, self._idle * self._devices)
        self._fillings, self._unreported, self._idle = [], [], 0.0
        return spent

    def _of(self, job: str) -> _Hold | None:
        return next((hold for hold in self._holds.values() if hold.job == job), None)

    def _book(self, hold: _Hold, what: str, rows: int | None, seconds: float) -> None:
        self._fillings.append(
            {
                "time": records.now(),
                "trial": hold.trial or AHEAD,
                "what": what,
                "rows": rows,
                "seconds": seconds,
                "device_seconds": seconds * self._devices,
                "device": hold.device,
            }
        )
