"""A frozen worker (SIGSTOP, a disk that does not answer) says nothing: its heartbeat stops, and a line says so."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.actor import ActorHandle

EVERY = 5.0  # seconds between two beats
NAMED_AFTER = 30.0  # seconds without one


@dataclass(frozen=True)
class Place:
    """Where a worker runs."""

    host: str
    node: str  # its id in the Ray cluster
    pid: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Beats:
    """When each worker was heard last.

    Args:
        replaced_after: seconds of silence until a worker is killed, so that its group starts anew; 0 never is.
        clock: seconds.
    """

    def __init__(self, *, replaced_after: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._replaced_after, self._clock = replaced_after, clock
        self._heard: dict[tuple[str, int], tuple[Place, float]] = {}
        self._silent: set[tuple[str, int]] = set()  # that were named

    def beat(self, slot: str, rank: int, place: Place) -> str | None:
        """A worker lives; what to say of it, if it was thought frozen."""
        before, _ = self._heard.get((slot, rank), (place, 0.0))
        self._heard[slot, rank] = place, self._clock()
        if (slot, rank) not in self._silent:
            return None
        self._silent.discard((slot, rank))
        if place != before:  # another one in its place: its node was lost
            return None
        return f"worker {rank} of {slot} answers again ({place})"

    def forget(self, slot: str) -> None:
        """The workers of a slot are gone."""
        for key in [key for key in self._heard if key[0] == slot]:
            del self._heard[key]
            self._silent.discard(key)

    def silent(self, gone: Collection[str] = ()) -> list[str]:
        """What to say of workers that have become silent since this was asked last; ``gone``: nodes that have left."""
        found = []
        for (slot, rank), (place, heard) in self._heard.items():
            if (slot, rank) in self._silent:
                continue
            if place.node in gone:
                self._silent.add((slot, rank))
                found.append(
                    f"worker {rank} of {slot}: {place.host} has left the cluster; {slot} waits for another node"
                )
            elif self._clock() - heard >= NAMED_AFTER:
                self._silent.add((slot, rank))
                then = f"; it is replaced after {self._replaced_after:g} s" if self._replaced_after else ""
                found.append(f"worker {rank} of {slot} has not answered for {NAMED_AFTER:g} s ({place}){then}")
        return found

    def to_replace(self) -> list[Place]:
        """The workers that were silent for too long, each once."""
        now, limit = self._clock(), self._replaced_after
        late = [key for key, (_, heard) in self._heard.items() if limit and now - heard >= limit]
        return [self._heard.pop(key)[0] for key in late]


def start_beating(broker: ActorHandle, slot: str, rank: int) -> None:
    """Tells the broker every few seconds that this worker lives, from a thread of its own."""
    import ray

    place = Place(os.uname().nodename, ray.get_runtime_context().get_node_id(), os.getpid())

    def beat() -> None:
        while True:
            broker.beat.remote(slot, rank, place)
            time.sleep(EVERY)

    threading.Thread(target=beat, name="heartbeat", daemon=True).start()


def kill_worker(pid: int) -> bool:
    """Ends a frozen worker of this node; False if it is gone by itself."""
    with contextlib.suppress(OSError):
        if b"RayTrainWorker" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
            return True
    return False
