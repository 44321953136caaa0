"""How far caches are while they are filled: rows done of all, rate, time left. Standard library and trainables.files.

A slot's worker cannot print where a person looks. It keeps a small file in the study folder, which the study's own
screen and ``mmtune status`` of another process read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from trainables.files import write_atomic

_STALE_SECONDS = 120.0  # without a word: its worker was killed


@dataclass(frozen=True)
class Filling:
    """One cache while it is filled."""

    what: str
    done: int  # rows
    total: int
    rate: float  # rows a second, since the first word of it

    @property
    def seconds_left(self) -> float | None:
        """None until the rate is known."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None

    def __str__(self) -> str:
        text = f"{self.what}: {self.done:,} of {self.total:,} rows"
        left = self.seconds_left
        return text if left is None else f"{text}, {self.rate:,.0f} a second, {clock(left)} left"


class Meter:
    """Listens to :func:`trainables.data.cache.progress.tell` and hands on, every now and then, how far it is.

    Args:
        show: receives it.
        every: seconds between two words of one cache; its last row is always told.
        delay: seconds before the first.
    """

    def __init__(self, show: Callable[[Filling], None], *, every: float, delay: float = 0.0) -> None:
        self._show, self._every, self._delay = show, every, delay
        self._what, self._first, self._began, self._next = "", 0, 0.0, 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what != self._what:
            self._what, self._first, self._began, self._next = what, done, now, now + self._delay
        has_said = self._next > self._began + self._delay or not self._delay
        if now < self._next and not (done >= total and has_said):
            return
        self._next = now + self._every
        seconds = now - self._began
        self._show(Filling(what, done, total, (done - self._first) / seconds if seconds > 0 else 0.0))


def file_meter(path: Path, *, every: float = 1.0) -> Meter:
    """Keeps what it hears in ``path``, for other processes to read, and removes it after the last row."""

    def show(filling: Filling) -> None:
        if filling.done >= filling.total:
            path.unlink(missing_ok=True)
        else:
            write_atomic(path, json.dumps(asdict(filling)))

    return Meter(show, every=every)


def read_fillings(folder: Path) -> list[Filling]:
    """What :func:`file_meter` keeps in a folder; of equal caches, which slots share, the one that is farthest."""
    found: dict[str, Filling] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            is_stale = time.time() - path.stat().st_mtime > _STALE_SECONDS
            filling = Filling(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:  # done meanwhile
            continue
        if not is_stale and (filling.what not in found or found[filling.what].done < filling.done):
            found[filling.what] = filling
    return list(found.values())


def clock(seconds: float) -> str:
    """'1:02:03', or '2:03' below an hour."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
