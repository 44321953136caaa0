"""How far the making of a cache is: who makes it tells, and at most one listener of the process hears it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, int, int], None]  # what is made, rows done, rows of all

_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Calls ``listener`` while the block runs, in the thread that makes a cache; it must be quick."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(what: str, done: int, total: int) -> None:
    """``done`` of ``total`` rows of ``what`` are made."""
    if _listeners:
        _listeners[-1](what, done, total)
