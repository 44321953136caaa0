"""Batches made in advance: a thread gets the next ones ready while a GPU is busy with this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def ahead(make: Callable[[Item], Made], items: Iterable[Item], *, depth: int) -> Iterator[Made]:
    """``make(item)`` of each item in order; a thread of its own makes up to ``depth`` of them in advance.

    What ``make`` raises is raised when its item is asked for.
    """
    if depth == 0:
        yield from map(make, items)
        return
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[Made]] = deque()
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
