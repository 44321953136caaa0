"""What the cache costs: whoever fills it, or waits for another who does, books the time with all that listen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

SHORTEST_WAIT = 0.05  # seconds; a lock that nobody holds takes less


@dataclass(frozen=True)
class Filling:
    """A folder of the cache that this process made, or waited for.

    Attributes:
        what: it is, for people.
        rows: how many it holds; None of what has none, and of a wait.
        seconds: of this process, without what was made for it on the way.
    """

    what: str
    rows: int | None
    seconds: float


@dataclass(eq=False)
class Book:
    """What was booked while a :func:`booking` block ran.

    Attributes:
        fillings: in the order in which they ended.
        used: name of a folder -> the seconds that making it once took, of every one that was opened or made, and of
            those that it was made from.
    """

    hear: Callable[[Filling], object] = lambda filling: None
    fillings: list[Filling] = field(default_factory=list)
    used: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """That this process spent on making and waiting."""
        return sum(filling.seconds for filling in self.fillings)


_books: list[Book] = []
_inner: list[float] = []  # for each folder in the making: seconds of what is made on the way


@contextmanager
def booking(hear: Callable[[Filling], object] = lambda filling: None) -> Iterator[Book]:
    """A book that is open while the block runs; ``hear`` is called with each filling as it ends."""
    book = Book(hear)
    _books.append(book)
    try:
        yield book
    finally:
        _books.remove(book)


class Making:
    """One folder in the making.

    Attributes:
        seconds: of its own so far.
    """

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began - _inner[-1]


@contextmanager
def making() -> Iterator[Making]:
    """Times the making of a folder; what is made within the block for it is not its own."""
    _inner.append(0.0)
    made = Making()
    try:
        yield made
    finally:
        _inner.pop()
        if _inner:
            _inner[-1] += time.perf_counter() - made._began


def book_made(facts: Mapping[str, object], seconds: float) -> None:
    """A folder was made; ``facts`` are those of its meta.json."""
    rows = facts.get("rows")
    _hear(Filling(str(facts.get("about", "")), rows if isinstance(rows, int) else None, seconds))


def book_wait(what: str, seconds: float) -> None:
    """Another process made a folder that this one needed."""
    if _inner:
        _inner[-1] += seconds
    _hear(Filling(f"waiting for {what}", None, seconds))


def book_use(name: str, facts: Mapping[str, object]) -> None:
    """The folder ``name`` was opened; ``facts`` are those of its meta.json."""
    if _books:
        seconds, sources = facts.get("seconds"), facts.get("sources")
        costs = {name: seconds, **(sources if isinstance(sources, dict) else {})}
        for book in _books:
            book.used |= {key: float(value) for key, value in costs.items() if isinstance(value, int | float)}


def _hear(filling: Filling) -> None:
    for book in _books:
        book.fillings.append(filling)
        book.hear(filling)
