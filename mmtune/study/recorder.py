"""Everything a study writes while it runs: reports.csv, trials.csv, TensorBoard, and what a terminal shows.

The ledger is rebuilt from reports.csv and trials.csv on resume; a report that it already has is left out, so
no (trial, epoch) is ever written twice.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mmtune import records
from mmtune.records import StudyFolder
from trainables.files import write_atomic


@dataclass
class TrialRecord:
    """One trial as far as the study knows it."""

    trial: str
    state: str = records.WAITING
    params: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    started: str | None = None
    ended: str | None = None

    @property
    def epoch(self) -> int:
        return self.rows[-1]["epoch"] if self.rows else 0

    def best(self, metric: str, mode: str) -> dict[str, Any] | None:
        """The row of the best epoch, the first of equals; None before any report."""
        found: dict[str, Any] | None = None
        for row in self.rows:
            value = row.get(metric)
            if value is not None and records.is_better(value, None if found is None else found[metric], mode):
                found = row
        return found

    def total(self, column: str) -> float:
        return sum(row.get(column) or 0.0 for row in self.rows)


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Recorder:
    """The ledger of a study and its files.

    Args:
        folder: the study.
        objective: metric and mode that decide a trial's best epoch.
        params: flat parameter names, the columns of trials.csv.
        max_epochs: the most a trial can train.
    """

    def __init__(self, folder: StudyFolder, *, objective: tuple[str, str], params: list[str], max_epochs: int) -> None:
        self.folder, self.params, self.max_epochs = folder, params, max_epochs
        self.metric, self.mode = objective
        self.trials: dict[str, TrialRecord] = {}
        self._csv = records.CsvAppender(folder.reports)
        self._writers: dict[str, Any] = {}
        self._load()

    def _load(self) -> None:
        for row in records.read_rows(self.folder.trials):
            trial = TrialRecord(row["trial"], row["state"])
            trial.params = {key: row[key] for key in self.params if row.get(key) is not None}
            trial.facts = {key: row[key] for key in records.TRIAL_FACTS if row.get(key) is not None}
            trial.error, trial.started, trial.ended = row.get("error"), row.get("started"), row.get("ended")
            self.trials[trial.trial] = trial
        for row in records.read_rows(self.folder.reports):
            trial = self.trials.setdefault(row["trial"], TrialRecord(row["trial"], records.RUNNING))
            trial.rows.append({key: value for key, value in row.items() if key not in ("trial", "time")})

    # --- what others ask ----------------------------------------------------------------------------
    def ended(self) -> list[str]:
        """Trials that are over."""
        return [name for name, trial in list(self.trials.items()) if trial.state in records.ENDED]

    def objective_by_epoch(self, trial: str) -> dict[int, float]:
        """Every reported epoch's objective."""
        rows = self.trials[trial].rows if trial in self.trials else []
        return {row["epoch"]: row[self.metric] for row in rows if row.get(self.metric) is not None}

    def device_seconds(self) -> float:
        """Spent so far, by all trials of all sessions."""
        return sum(trial.total("device_seconds") for trial in list(self.trials.values()))

    def best(self) -> TrialRecord | None:
        """The trial with the best objective at any epoch."""
        found, value = None, None
        for trial in list(self.trials.values()):
            row = trial.best(self.metric, self.mode)
            if row is not None and trial.state not in (records.FAILED, records.INFEASIBLE):
                if records.is_better(row[self.metric], value, self.mode):
                    found, value = trial, row[self.metric]
        return found

    # --- what happens -------------------------------------------------------------------------------
    def start(self, trial: str, params: Mapping[str, Any]) -> TrialRecord:
        """A trial begins, or goes on in a new session."""
        record = self.trials.setdefault(trial, TrialRecord(trial))
        record.params, record.state = dict(params), records.RUNNING
        record.started = record.started or now()
        self._write_trials()
        return record

    def add(self, trial: str, row: Mapping[str, Any]) -> bool:
        """One epoch's report; False if it was already there."""
        record = self.trials[trial]
        if row["epoch"] <= record.epoch:
            return False
        row = dict(row)
        record.facts |= {key: row.pop(key) for key in records.TRIAL_FACTS if key in row}
        self._csv.append({"trial": trial, "time": now(), **row})
        record.rows.append(row)
        self._write_scalars(record, row)
        return True

    def end(
        self,
        trial: str,
        state: str,
        *,
        facts: Mapping[str, Any] | None = None,
        error: str | None = None,
        traceback: str | None = None,
    ) -> None:
        """A trial is over."""
        record = self.trials[trial]
        record.state, record.ended = state, now()
        record.facts |= dict(facts or {})
        if error is not None:
            record.error = error.strip().splitlines()[0] if error.strip() else "unknown error"
            write_atomic(self.folder.trial(trial) / "error.txt", (traceback or error) + "\n")
        self._write_hparams(record)
        self._write_trials()

    def close(self) -> None:
        """Flushes and closes the TensorBoard files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    # --- files --------------------------------------------------------------------------------------
    def _write_trials(self) -> None:
        rows = [self._trial_row(self.trials[name]) for name in sorted(self.trials)]
        metrics: dict[str, None] = {}
        for row in rows:
            metrics |= dict.fromkeys(key for key in row if key.startswith("val_"))
        columns = [*records.TRIAL_COLUMNS, *self.params, *metrics, *_COST_COLUMNS, "error", "started", "ended"]
        write_atomic(self.folder.trials, records.csv_text(columns, rows))

    def _trial_row(self, trial: TrialRecord) -> dict[str, Any]:
        best = trial.best(self.metric, self.mode) or {}
        rows = trial.rows
        speed = [row["samples_per_second"] for row in rows if row.get("samples_per_second")]
        return {
            "trial": trial.trial,
            "state": trial.state,
            "epochs": trial.epoch,
            "best_epoch": best.get("epoch"),
            **trial.params,
            **{key: value for key, value in best.items() if key.startswith("val_")},
            **{column: trial.total(column) for column in records.SUMS},
            "samples_per_second": sum(speed) / len(speed) if speed else None,
            "peak_memory_gib": max((row.get("peak_memory_gib") or 0.0 for row in rows), default=None),
            **trial.facts,
            "error": trial.error,
            "started": trial.started,
            "ended": trial.ended,
        }

    def _writer(self, trial: str) -> Any:
        if trial not in self._writers:
            from tensorboardX import SummaryWriter

            self._writers[trial] = SummaryWriter(str(self.folder.tensorboard / trial), flush_secs=5)
        return self._writers[trial]

    def _write_scalars(self, record: TrialRecord, row: Mapping[str, Any]) -> None:
        writer = self._writer(record.trial)
        for key, value in row.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and key != "epoch":
                writer.add_scalar(key.replace("_", "/", 1) if key.startswith(("train_", "val_", "uda_")) else key,
                                  value, row["epoch"])  # fmt: skip
        writer.add_scalar("total/device_seconds", record.total("device_seconds"), row["epoch"])

    def _write_hparams(self, record: TrialRecord) -> None:
        """HParams of the trial, in the trial's own run, so that the tab and the curves share a name."""
        from tensorboardX.summary import hparams

        best = record.best(self.metric, self.mode)
        metrics = {f"best/{self.metric}": best[self.metric]} if best else {}
        metrics |= {"total/device_seconds": record.total("device_seconds")}
        plain = (int, float, str, bool)
        params = {key: value if isinstance(value, plain) else str(value) for key, value in record.params.items()}
        writer = self._writer(record.trial)
        for summary in hparams({**params, "state": record.state}, metrics):
            writer.file_writer.add_summary(summary)
        for key, value in metrics.items():
            if math.isfinite(value):
                writer.add_scalar(key, value, record.epoch)
        writer.close()
        del self._writers[record.trial]


_COST_COLUMNS = (*records.SUMS, "samples_per_second", "peak_memory_gib", *records.TRIAL_FACTS)


# --- what a person sees -------------------------------------------------------------------------------
class Progress:
    """A live table on a terminal; one plain line a report anywhere else.

    Args:
        recorder: the study's ledger.
        total: trials at most, None without such a budget.
        slots: trials that run at the same time.
    """

    def __init__(self, recorder: Recorder, *, total: int | None, slots: int) -> None:
        from rich.console import Console
        from rich.live import Live

        self.recorder, self.total, self.slots = recorder, total, slots
        self.console = Console()
        self._began = time.monotonic()
        self._spent_before = recorder.device_seconds()
        self._done_before = len(recorder.ended())
        self._note = ""
        self._live = None
        if self.console.is_terminal:
            self._live = Live(get_renderable=self._render, console=self.console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            with contextlib.suppress(Exception):  # a broken terminal must not hide how the study ended
                self._live.stop()

    def say(self, text: str) -> None:
        """A line of its own."""
        self._note = text
        if self._live is None:
            print(text, flush=True)

    def reported(self, trial: str, row: Mapping[str, Any]) -> None:
        """An epoch came in."""
        if self._live is not None:
            return
        recorder = self.recorder
        best = recorder.best()
        top = ""
        if best is not None:
            value = best.best(recorder.metric, recorder.mode)
            assert value is not None
            top = f" | best {value[recorder.metric]:.4f} {best.trial}"
        print(
            f"{trial} epoch {row['epoch']}/{recorder.max_epochs} {recorder.metric} {row[recorder.metric]:.4f}"
            f" loss {row['train_loss']:.4f}{top} | {len(recorder.ended())}"
            f"{'' if self.total is None else f'/{self.total}'} trials, {recorder.device_seconds():.1f} device seconds",
            flush=True,
        )

    def ended(self, trial: str) -> None:
        """A trial is over."""
        if self._live is not None:
            return
        record = self.recorder.trials[trial]
        error = f": {record.error}" if record.error else ""
        print(f"{trial} {record.state} after {record.epoch} epochs{error}", flush=True)

    def _render(self) -> Any:
        """The table; called from the display's own thread."""
        from rich.console import Group
        from rich.table import Table

        recorder, trials = self.recorder, list(self.recorder.trials.values())
        states = {state: 0 for state in records.STATES}
        for record in trials:
            states[record.state] += 1
        counts = "  ".join(f"{state.lower()} {count}" for state, count in states.items() if count)
        spent, wall = recorder.device_seconds(), time.monotonic() - self._began
        head = (
            f"{recorder.folder.name}: {counts or 'starting'}  |  {sum(r.epoch for r in trials)} epochs, "
            f"{spent / 3600:.4f} device-hours, {_clock(wall)} elapsed{self._left(wall)}"
        )
        table = Table(box=None, pad_edge=False)
        for column in ("trial", "state", "family", "epoch", recorder.metric, "best", "params"):
            table.add_column(column, no_wrap=column != "params", overflow="ellipsis")
        best = recorder.best()
        running = [record for record in trials if record.state == records.RUNNING]
        shown = ([best] if best is not None and best not in running else []) + running
        for record in shown[-12:]:
            last = record.rows[-1].get(recorder.metric) if record.rows else None
            top = record.best(recorder.metric, recorder.mode)
            mark = "[bold green]" if record is best else ""
            params = " ".join(f"{key}={_short(value)}" for key, value in record.params.items() if key != "family")
            table.add_row(
                f"{mark}{record.trial}", record.state.lower(), str(record.params.get("family", "")),
                f"{record.epoch}/{recorder.max_epochs}", "" if last is None else f"{last:.4f}",
                "" if top is None else f"{top[recorder.metric]:.4f}", params,
            )  # fmt: skip
        return Group(head, table, self._note)

    def _left(self, wall: float) -> str:
        done = len(self.recorder.ended()) - self._done_before
        if not done or self.total is None:
            return ""
        missing = self.total - len(self.recorder.ended())
        return f", about {_clock(wall / done * missing)} left" if missing > 0 else ""


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
