"""How tables, progress, sizes and times look on a terminal, and in a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mmtune.filling import Meter

_SECONDS = 5.0  # between two lines on a cache, where there is no terminal


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Prints a table as wide as the terminal, or 200 characters wide where there is none."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # as it is: a list in brackets is no markup
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr while the block runs, gone after it; a line every few seconds where stderr is no terminal.

    Yields:
        Function to call with what is being done, how much of it is done, and how much there is.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Meter(lambda filling: print(filling, file=sys.stderr, flush=True), every=_SECONDS, delay=_SECONDS)
        return
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}")]
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        tasks = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                for task in bar.tasks:
                    bar.update(task.id, visible=not task.finished)
                tasks[what] = bar.add_task(what, total=total, rate="")
            speed = bar.tasks[tasks[what]].speed
            rate = "" if speed is None else f"{speed:,.0f} a second"
            bar.update(tasks[what], completed=done, rate=rate, refresh=done >= total)

        yield show


@contextmanager
def watching_caches() -> Iterator[None]:
    """:func:`progress_bar` of the caches that this process fills while the block runs."""
    from trainables.data.cache.progress import listening

    with progress_bar() as show, listening(show):
        yield


def size(num_bytes: int) -> str:
    """MiB below a GiB, else GiB."""
    return f"{num_bytes / 2**30:.2f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MiB"


def duration(seconds: float) -> str:
    """In the two largest units: '1 h 5 min', '3 min 20 s', '45 s'."""
    whole = round(seconds)
    for unit, name, below, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // below} {small}"
    return f"{whole} s"


def ago(when: float) -> str:
    """How long ago a time was.

    Args:
        when: seconds since 1970.
    """
    hours = (time.time() - when) / 3600
    return f"{hours / 24:.0f} days ago" if hours >= 48 else f"{hours:.0f} hours ago" if hours >= 1 else "just now"
