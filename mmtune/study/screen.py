"""What a person sees of a study while it runs: a live table on a terminal, one plain line a report anywhere else."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune import records
from mmtune.filling import Filling, clock, read_fillings

if TYPE_CHECKING:
    from rich.columns import Columns
    from rich.console import Group

    from mmtune.search.trials import TrialRecord, Trials

_SHOWN = 12  # trials in the table


class Screen:
    """Shows the trials of a study.

    Args:
        name: of the study.
        trials: what is known of them, the ledger's own.
        total: trials at most, None without such a budget.
        filling: folder where workers say what caches they fill.
        say: receives each line; None: nothing is shown, on a terminal neither.
        every: seconds between two lines on a cache, where there is no terminal.
    """

    def __init__(
        self,
        name: str,
        trials: Trials,
        *,
        total: int | None,
        filling: Path,
        say: Callable[[str], None] | None = print,
        every: float = 5.0,
    ) -> None:
        from rich.console import Console
        from rich.live import Live

        self._name, self._trials, self._total, self._filling, self._every = name, trials, total, filling, every
        self._say, self._is_over = say, threading.Event()
        console = Console()
        self._began = time.monotonic()
        self._done_before = trials.num_settled()
        self._note = ""
        self._live = None
        if console.is_terminal and say is not None:
            self._live = Live(get_renderable=self._render, console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Screen:
        if self._live is not None:
            self._live.start(refresh=True)
        elif self._say is not None:
            threading.Thread(target=self._say_fillings, name="fillings", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        if self._live is not None:
            with contextlib.suppress(Exception):  # a broken terminal must not hide how the study ended
                self._live.stop()

    def say(self, text: str) -> None:
        """A line of its own."""
        self._note = text
        self._line(text)

    def reported(self, trial: str, row: Mapping[str, Any]) -> None:
        """An epoch came in."""
        if self._is_mute:
            return
        trials = self._trials
        metric, best = trials.metric, trials.best()
        top = ""
        if best is not None:
            value = trials.best_row(best)
            assert value is not None
            top = f" | best {value[metric]:.4f} {best.trial}"
        self._line(
            f"{trial} epoch {row['epoch']}/{trials.max_epochs} {metric} {row[metric]:.4f}"
            f" loss {row['train_loss']:.4f}{top} | {trials.num_settled()}"
            f"{'' if self._total is None else f'/{self._total}'} trials, {trials.device_seconds():.1f} device seconds"
        )

    def ended(self, trial: str) -> None:
        """A trial is over or paused."""
        if self._is_mute:
            return
        record = self._trials[trial]
        error = f": {record.error}" if record.error else ""
        self._line(f"{trial} {record.state} after {record.epoch} epochs{error}")

    @property
    def _is_mute(self) -> bool:
        """Whether lines go nowhere: the table says it all, or nothing shall be said."""
        return self._live is not None or self._say is None

    def _line(self, text: str) -> None:
        if self._say is not None and self._live is None:
            self._say(text)

    def _say_fillings(self) -> None:
        """A line every few seconds while caches are filled, in a thread of its own."""
        while not self._is_over.wait(self._every):
            for filling in read_fillings(self._filling):
                self._line(str(filling))

    def _render(self) -> Group:
        """The table; called from the display's own thread."""
        from rich.console import Group
        from rich.table import Table

        trials, metric = list(self._trials.values()), self._trials.metric
        states = {state: 0 for state in records.STATES}
        for record in trials:
            states[record.state] += 1
        counts = "  ".join(f"{state.lower()} {count}" for state, count in states.items() if count)
        spent, wall = self._trials.device_seconds(), time.monotonic() - self._began
        head = (
            f"{self._name}: {counts or 'starting'}  |  {sum(r.epoch for r in trials)} epochs, "
            f"{spent / 3600:.4f} device-hours, {clock(wall)} elapsed{self._left(wall)}"
        )
        table = Table(box=None, pad_edge=False)
        for column in ("trial", "state", "family", "epoch", metric, "best", "params"):
            table.add_column(column, no_wrap=column != "params", overflow="ellipsis")
        best = self._trials.best()
        running = [record for record in trials if record.state == records.RUNNING]
        shown = ([best] if best is not None and best not in running else []) + running
        for record in shown[-_SHOWN:]:
            table.add_row(*self._cells(record, is_best=record is best))
        cut = [f"{_SHOWN} of {len(shown)} trials shown"] if len(shown) > _SHOWN else []
        bars = [_bar(filling) for filling in read_fillings(self._filling)]
        return Group(head, table, *cut, *bars, self._note)

    def _cells(self, record: TrialRecord, *, is_best: bool) -> list[str]:
        metric, top = self._trials.metric, self._trials.best_row(record)
        last = record.rows[-1].get(metric) if record.rows else None
        return [
            f"{'[bold green]' if is_best else ''}{record.trial}",
            record.state.lower(),
            str(record.params.get("family", "")),
            f"{record.epoch}/{self._trials.max_epochs}",
            "" if last is None else f"{last:.4f}",
            "" if top is None else f"{top[metric]:.4f}",
            " ".join(f"{key}={_short(value)}" for key, value in record.params.items() if key != "family"),
        ]

    def _left(self, wall: float) -> str:
        done = self._trials.num_settled() - self._done_before
        if not done or self._total is None:
            return ""
        missing = self._total - self._trials.num_settled()
        return f", about {clock(wall / done * missing)} left" if missing > 0 else ""


def _bar(filling: Filling) -> Columns:
    from rich.columns import Columns
    from rich.progress_bar import ProgressBar

    return Columns([ProgressBar(total=filling.total, completed=filling.done, width=30), str(filling)])


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
