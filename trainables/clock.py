"""Where the time of a trial goes. Its workers are held from the moment it is given to them until they give it back;
what they did not spend on one of ``PARTS`` is setup: opening data, building the model, waiting for a decision, timing
the finished model. Only the standard library."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

PARTS: tuple[str, ...] = ("train_seconds", "eval_seconds", "checkpoint_seconds")


class Clock:
    """One process's clock; it starts when it is made.

    Args:
        now: seconds from some moment on; ``time.process_time`` where others have the same cores.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self.restart()

    def restart(self) -> None:
        """From now on."""
        self._since, self._left_out = self._now(), 0.0
        self._parts = dict.fromkeys(PARTS, 0.0)
        self._inside = 0.0  # seconds of parts within the one under way

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time of the block is that of ``name``, one of ``PARTS``, but for that of a part inside of it."""
        began, around = self._now(), self._inside
        self._inside = 0.0
        try:
            yield
        finally:
            took = self._now() - began
            self._parts[name] += took - self._inside
            self._inside = around + took

    def leave_out(self, seconds: float) -> None:
        """So many passed on what is booked elsewhere: caches."""
        self._left_out += seconds

    def read(self) -> dict[str, float]:
        """``wall_seconds`` since it started, and the parts of them."""
        return {"wall_seconds": self._now() - self._since - self._left_out, **self._parts}


def split(wall: float, *, devices: float, parts: Mapping[str, float]) -> dict[str, float]:
    """The columns of time: ``wall_seconds``, ``device_seconds``, and what these were for, in device-seconds too.

    Args:
        wall: seconds that the workers were held.
        devices: that they hold together.
        parts: device-seconds of ``PARTS``; those that are missing are 0.
    """
    known = {name: parts.get(name) or 0.0 for name in PARTS}
    held = wall * devices
    setup = max(0.0, held - sum(known.values()))
    return {"wall_seconds": wall, "device_seconds": held, **known, "setup_seconds": setup}
