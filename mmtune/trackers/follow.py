"""Follows a study folder and hands what is new in it to a tracker: a run a trial.

What was sent is asked of the tracker, not kept here: a study that is killed and resumed, or sent again by
``mmtune track``, goes on with the runs that are there. As a process (``python -m mmtune.trackers.follow NAME ROOT``) it
ends when its standard input does, after a last look.
"""

from __future__ import annotations

import math
import select
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from mmtune import records
from mmtune.info import read_info
from mmtune.trackers.kinds import TRACKERS
from trainables.modelfolder import CONFIG, FACTS, TOKENIZER, WEIGHTS

EVERY = 5.0  # seconds between two looks
MODEL = (CONFIG, FACTS, TOKENIZER, WEIGHTS)


@dataclass(frozen=True)
class Epoch:
    """One report: numbers by name, at a time (seconds since 1970)."""

    epoch: int
    time: float
    values: dict[str, float]


@dataclass(frozen=True)
class TrialNews:
    """What there is to say of a trial.

    Attributes:
        trial: its id.
        state: of :data:`mmtune.records.STATES`.
        params: what was sampled, the family among it.
        epochs: all its reports that count.
        totals: metrics of its best epoch (``best/...``) and costs (``cost/...``), of one that is over.
        error: its first line, or "".
        started, ended: seconds since 1970; None as long as it is not known.
        model: files of its model, once the study is at its end and as far as they were kept.
    """

    trial: str
    state: str
    params: dict[str, str]
    epochs: list[Epoch]
    totals: dict[str, float]
    error: str = ""
    started: float | None = None
    ended: float | None = None
    model: list[Path] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return self.state in records.ENDED


class Tracker(Protocol):
    """Where trials go; whatever it raises is told, and tried again at the next look."""

    def send(self, news: TrialNews) -> bool:
        """Writes what is new of a trial; whether there was something."""
        ...


def news_of(root: Path, *, is_end: bool) -> list[TrialNews]:
    """All trials of a study, as its tables have them now.

    Raises:
        ValueError: not a study.
    """
    from analysis.studies import load_reports, load_studies

    folder = records.open_study(root)
    try:
        table = load_studies(root)
    except ValueError:  # no trial yet
        return []
    params = ["family", *table.attrs["params"]]
    reports: dict[str, list[Epoch]] = {}
    if folder.reports.is_file():
        rows = load_reports(root)
        for row in rows.loc[rows["is_current"]].sort_values("epoch").to_dict("records"):
            values = _numbers(row, without=("epoch", "is_current"))
            reports.setdefault(row["trial"], []).append(Epoch(int(row["epoch"]), row["time"].timestamp(), values))
    found = []
    for row in table.to_dict("records"):
        numbers = _numbers(row, without=(*params, "epochs", "best_epoch"))
        is_over = row["state"] in records.ENDED
        totals = {f"best/{name}": value for name, value in numbers.items() if name.startswith("val_")}
        totals |= {f"cost/{name}": value for name, value in numbers.items() if not name.startswith("val_")}
        files = [folder.trial(row["trial"]) / name for name in MODEL]
        has_weights = files[-1].is_file() and is_end and row["state"] != records.FAILED
        found.append(
            TrialNews(
                trial=row["trial"],
                state=row["state"],
                params={
                    name: str(row[name]) for name in params if row.get(name) is not None and row[name] == row[name]
                },
                epochs=reports.get(row["trial"], []),
                totals=totals if is_over else {},
                error=row["error"],
                started=_seconds(row["started"]),
                ended=_seconds(row["ended"]) if is_over else None,
                model=[file for file in files if file.is_file()] if has_weights else [],
            )
        )
    return found


def send_all(root: Path, tracker: Tracker, *, is_end: bool) -> int:
    """Sends what is new of a study; of how many trials there was something."""
    return sum(tracker.send(news) for news in news_of(root, is_end=is_end))


def open_tracker(name: str, root: Path) -> Tracker:
    """The tracker of that name, for a study.

    Raises:
        ValueError: its package is not installed, or it lacks a setting.
    """
    return import_module(TRACKERS[name].module).open_tracker(records.open_study(root))


def study_key(folder: records.StudyFolder) -> str:
    """What tells a study from others, of its name too.

    Raises:
        ValueError: its study.json is damaged.
    """
    info = read_info(folder.info, is_whole=False)
    return f"{info.get('study', folder.name)} {info.get('started')}"


def _numbers(row: Mapping[str, Any], *, without: tuple[str, ...]) -> dict[str, float]:
    """The finite numbers of a row."""
    return {
        str(name): float(value)
        for name, value in row.items()
        if name not in without
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    }


def _seconds(time: Any) -> float | None:
    return None if time is None or time != time else time.timestamp()


def main(name: str, root: Path) -> int:
    """Follows until standard input ends; prints a line for the first thing that goes wrong."""
    answer, sys.stdout = sys.stdout, sys.stderr  # a client's own words are not for the driver
    tracker, told, is_end, has_failed = None, False, False, False
    while not is_end:
        ready, _, _ = select.select([sys.stdin], [], [], EVERY)
        is_end = bool(ready)
        has_failed = False
        try:
            tracker = tracker or open_tracker(name, root)
            send_all(root, tracker, is_end=is_end)
        except Exception as error:  # whatever a tracker's client raises: it is told, and tried again
            has_failed = True
            if not told:
                told = True
                said = str(error).strip() or type(error).__name__
                print(f"{said.splitlines()[0][:300]} (tried again)", file=answer, flush=True)
    return int(has_failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
