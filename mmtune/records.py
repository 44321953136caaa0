"""What a study folder holds and how it is read and written safely. Only the standard library and ``trainables.files``.

The folder is the API between running (``mmtune``) and reading (``analysis``)::

    <storage>/<study>/
      spec.yaml      the search file as it ran, overrides applied
      study.json     versions, git commit, argv, start (UTC), seeds
      reports.csv    append-only, one row per (trial, epoch)
      trials.csv     one row a trial, replaced atomically
      changes.csv    append-only, rows of trials.csv that are newer than it; gone when trials.csv has them
      caches.csv     append-only, one row for each thing that filled the cache
      learnt.csv     one row for each trial of another study that proposals learn from; written once
      tested.csv     append-only, one row each time that `mmtune test` looked at the test split
      optuna.log     Optuna JournalStorage
      tune/          Ray Tune's scratch      tensorboard/<trial>/
      trials/<id>/   config.yaml, model.json, {last,middle,best}.safetensors, predictions.parquet
      report/        written by analysis, may be deleted
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from mmtune.info import read_info
from trainables.clock import PARTS
from trainables.files import append, drop_torn_line, write_atomic

Row = TypeVar("Row", bound=Mapping[str, Any])
STORAGE = "studies"  # where study folders are looked for, and made, unless a user says otherwise

# --- trial states -----------------------------------------------------------------------------
WAITING, RUNNING, PAUSED, COMPLETE = "WAITING", "RUNNING", "PAUSED", "COMPLETE"
PRUNED, FAILED, INFEASIBLE = "PRUNED", "FAILED", "INFEASIBLE"
STATES = (WAITING, RUNNING, PAUSED, COMPLETE, PRUNED, FAILED, INFEASIBLE)
ENDED = (COMPLETE, PRUNED, FAILED, INFEASIBLE)


# --- costs: columns of reports.csv and trials.csv beside the metrics, which trainables.metrics has ----------
@dataclass(frozen=True)
class Cost:
    """What a trial takes."""

    mode: Literal["max", "min"]
    """Which way is better."""
    about: str
    unit: str


COSTS: dict[str, Cost] = {
    "device_seconds": Cost("min", "wall_seconds x devices held; what filled caches is the study's, in caches.csv", "s"),
    "device_seconds_alone": Cost(
        "min", "device_seconds, and what the caches that it used took once: the trial's price by itself", "s"
    ),
    "wall_seconds": Cost("min", "time that its workers were held, the filling of caches left out", "s"),
    "peak_memory_gib": Cost("min", "the trial's own peak: allocated on the GPU, else beyond its empty slot", "GiB"),
    "inference_ms_per_sample": Cost("min", "median time of the whole model on 32 samples, a sample", "ms"),
    "inference_ms_single": Cost("min", "median time of the whole model on one sample", "ms"),
    "num_parameters": Cost("min", "parameters of the model, locked ones included", "parameters"),
    "num_trainable": Cost("min", "parameters that train", "parameters"),
    "epochs": Cost("min", "epochs trained", "epochs"),
}

SUMS = ("wall_seconds", "device_seconds", *PARTS, "setup_seconds")  # since the last report in reports.csv, else totals
ALONE = "device_seconds_alone"
TIMES = (*SUMS, ALONE, "inference_ms_per_sample", "inference_ms_single")  # that depend on the kind of device
_ROUNDING = 1e-6  # seconds; sums of as many floats differ by less
DEVICE = "device_kind"  # the column with the name of a trial's device
TESTED = "tested.csv"
TESTS = "tested"  # in a trial's folder: what `mmtune test` wrote, a folder for each split
NULL = "null"  # a parameter whose value is null; one that a trial does not have is an empty cell
PEAKS = ("peak_memory_gib", "reserved_memory_gib")  # so far in reports.csv, the most in trials.csv
_NEEDED = {  # columns by the file's name
    "reports.csv": {"epoch"}, "trials.csv": {"trial", "state"}, "changes.csv": {"trial", "state"},
    "caches.csv": {"trial", "device_seconds"},
}  # fmt: skip
_NUMBERS = frozenset((*SUMS, ALONE, *PEAKS, "epochs", "best_epoch", "until_epoch", "seconds", "samples_per_second"))
_TRIAL = re.compile(r"t\d{4,}")
TRIAL_COLUMNS = ("trial", "state", "epochs", "best_epoch")  # trials.csv opens with these
INFERENCE = (  # of the model as it is used, encoders included
    "inference_ms_per_sample", "inference_ms_per_sample_iqr", "inference_ms_single", "inference_ms_single_iqr",
    "inference_threads",
)  # fmt: skip
TEST = "test_"  # columns of trials.csv: the test split, which a finalist's trial is evaluated on once, at its end
TRIAL_FACTS = ("num_parameters", "num_trainable", *INFERENCE, "cache_seconds", "forward_rows")  # once a trial


def trial_id(number: int) -> str:
    """'t0007' for Optuna's trial number 7: the name of the trial everywhere."""
    return f"t{number:04d}"


def trial_number(trial: str) -> int:
    """The inverse of :func:`trial_id`."""
    return int(trial[1:])


def now() -> str:
    """The time as a study folder has it: UTC, ISO 8601, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_better(value: float, than: float | None, mode: str) -> bool:
    """Strictly better under ``mode`` ('max' or 'min'); anything beats None."""
    if than is None:
        return True
    return value > than if mode == "max" else value < than


@dataclass(frozen=True)
class StudyFolder:
    """Paths of one study folder; touches no disk by itself."""

    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def spec(self) -> Path:
        return self.root / "spec.yaml"

    @property
    def info(self) -> Path:
        return self.root / "study.json"

    @property
    def reports(self) -> Path:
        return self.root / "reports.csv"

    @property
    def trials(self) -> Path:
        return self.root / "trials.csv"

    @property
    def changes(self) -> Path:
        return self.root / "changes.csv"

    @property
    def caches(self) -> Path:
        return self.root / "caches.csv"

    @property
    def learnt(self) -> Path:
        return self.root / "learnt.csv"

    @property
    def tested(self) -> Path:
        return self.root / TESTED

    @property
    def optuna_log(self) -> Path:
        return self.root / "optuna.log"

    @property
    def lock(self) -> Path:
        return self.root / ".lock"

    @property
    def report(self) -> Path:
        return self.root / "report"

    @property
    def tune(self) -> Path:
        return self.root / "tune"

    @property
    def filling(self) -> Path:
        return self.tune / "filling"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    def trial(self, trial: str) -> Path:
        return self.root / "trials" / trial


def open_study(path: str | Path) -> StudyFolder:
    """The study in ``path``.

    Raises:
        ValueError: there is no such folder, it is not a study, or its study.json is damaged or of a later format.
    """
    root = Path(path)
    if not root.is_dir():
        raise ValueError(f"{path}: no such study folder")
    folder = StudyFolder(root.resolve())
    if not folder.info.is_file() or not folder.spec.is_file():
        raise ValueError(f"{path}: not a study folder (no study.json and spec.yaml in it)")
    read_info(folder.info, is_whole=False)
    return folder


def find_study(name_or_path: str | Path) -> Path:
    """The study folder at a path, or the one of that name in ./studies; whether it is a study is not looked at."""
    path = Path(name_or_path).expanduser()
    if not path.exists() and len(path.parts) == 1 and (Path(STORAGE) / path).exists():
        return Path(STORAGE) / path
    return path


# --- writing ------------------------------------------------------------------------------------
def write_json(path: Path, value: Any) -> None:
    """Replaces ``path`` as a whole by ``value`` in JSON, keys in order."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def cell(value: Any) -> str:
    """A value as CSV files have it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    return " ".join(str(value).splitlines())  # a bare carriage return would split the row for every reader


def param_cell(value: Any) -> Any:
    """A parameter's value as trials.csv has it: null is a word, an empty cell one that the trial does not have."""
    return NULL if value is None else value


def csv_text(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """A whole CSV file as text, header first; None becomes an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([cell(row.get(column)) for column in columns])
    return out.getvalue()


class CsvAppender:
    """reports.csv: each row is on disk when ``append`` returns; a new column rewrites the file whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []
        if path.exists():
            drop_torn_line(path)
            with path.open(newline="", encoding="utf-8") as file:
                self.columns = next(csv.reader(file), [])

    def append(self, row: Mapping[str, Any]) -> None:
        new = [column for column in row if column not in self.columns]
        if new:
            rows = read_csv(self.path) if self.path.exists() else []
            columns = [*self.columns, *new]
            write_atomic(self.path, csv_text(columns, [*rows, row]))
            self.columns = columns
            return
        line = csv_text(self.columns, [row]).split("\n", 1)[1]
        append(self.path, line.encode())


# --- reading ------------------------------------------------------------------------------------
def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a study's CSV as text; damaged ones are left out, and a last line without its newline (cut short).

    Raises:
        ValueError: the file is no text.
    """
    if not path.exists():
        return []
    data = path.read_bytes()
    try:
        text = data[: data.rfind(b"\n") + 1].decode()
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: is damaged, not a table ({error})") from None
    if rows:
        check_columns(path, rows[0])
    return [row for row in rows if None not in row and None not in row.values() and _is_sound(row)]


def check_columns(path: Path, names: Iterable[str]) -> None:
    """Raises ValueError if a file lacks columns that its name promises; in a study reports.csv says the trial, too."""
    needed = _NEEDED.get(path.name, set())
    if path.name == "reports.csv" and (path.parent / "study.json").exists():  # `mmtune train` writes one as well
        needed = needed | {"trial"}
    if not needed <= set(names):
        raise ValueError(f"{path}: is damaged, its first line names other columns")


def is_number_column(name: str) -> bool:
    """Whether a cell of this column is a number, or empty."""
    return name in _NUMBERS or name.startswith(("val_", "train_"))


def _is_sound(row: Mapping[str, str]) -> bool:
    """Whether a row says what it is of, and has numbers where numbers belong."""
    if row.get("state", RUNNING) not in STATES or not row.get("epoch", "1").isdecimal():
        return False
    if ("state" in row or "epoch" in row) and not _TRIAL.fullmatch(row.get("trial", "t0000")):
        return False
    try:
        return any([cell and (not is_number_column(name) or math.isfinite(float(cell))) for name, cell in row.items()])
    except ValueError:
        return False


def read_trials(folder: StudyFolder) -> list[dict[str, str]]:
    """The last row of each trial as text, from trials.csv and what changed since it was written."""
    return list(newest(read_csv(folder.trials), read_csv(folder.changes)).values())


def newest(trials: Iterable[Row], changes: Iterable[Row]) -> dict[str, Row]:
    """The last row of each trial by its id, from the rows of trials.csv and of changes.csv."""
    return {row["trial"]: row for rows in (trials, changes) for row in rows}


def parse_cell(text: str) -> Any:
    """'' -> None, 'true'/'false' -> bool, numbers -> int or float, the rest as it is."""
    if text == "":
        return None
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def read_rows(path: Path) -> list[dict[str, Any]]:
    """:func:`read_csv` with parsed cells."""
    return [{key: parse_cell(value) for key, value in row.items()} for row in read_csv(path)]


def unreported(trial: Mapping[str, Any], reports: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The part of a trial's columns of time that is in no report: its workers were held after the last one.

    Args:
        trial: its row of trials.csv, written when it had ``epochs`` epochs.
        reports: its rows of reports.csv; later ones are left out.
    """
    known = [row for row in reports if row["epoch"] <= (trial.get("epochs") or 0)]
    left = {name: (trial.get(name) or 0.0) - sum([row.get(name) or 0.0 for row in known]) for name in SUMS}
    return {name: seconds for name, seconds in left.items() if seconds > _ROUNDING}


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
