"""Event files for TensorBoard: a run a trial with its curves and HParams, and one summary of the study for all of them.

The HParams tab has the columns of the first experiment summary that it finds. So there is one, of the study: each
parameter that it searches, conditional ones too, and each metric and cost of its trials.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmtune import records
from mmtune.space.domains import Categorical

if TYPE_CHECKING:
    from mmtune.search.trials import TrialRecord
    from mmtune.space.space import Space

Kind = Literal["number", "flag", "word"]
_FLUSH_SECONDS = 5.0
_EXAMPLES: dict[Kind, float | bool | str] = {"number": 0.0, "flag": False, "word": ""}


def param_kinds(space: Space) -> dict[str, Kind]:
    """What the values of each parameter are, its alternatives taken together; null is a word."""
    kinds: dict[str, Kind] = {}
    for key in space.keys:
        domains = space.domains[key]
        values = [value for domain in domains if isinstance(domain, Categorical) for value in domain.choices]
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            kinds[key] = "number"
        else:
            is_flag = all(isinstance(value, bool) for value in values) and len(domains) == 1
            kinds[key] = "flag" if is_flag else "word"
    return kinds


def write_pictures(root: Path, pictures: Mapping[str, bytes]) -> None:
    """Puts PNG pictures, by name, into the run ``report``, in place of those that were there.

    Args:
        root: the study's tensorboard folder.
        pictures: of the report.
    """
    from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

    shutil.rmtree(root / "report", ignore_errors=True)
    file = _EventFile(root / "report")
    for name, png in pictures.items():
        width, height = struct.unpack(">II", png[16:24])  # of the PNG's header
        image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
        file.add(Summary(value=[Summary.Value(tag=name, image=image)]), 0)
    file.close()


class EventFiles:
    """The event files of a study; ``root`` gets a folder a trial.

    Args:
        root: of the study.
        params: what is searched.
    """

    def __init__(self, root: Path, params: Mapping[str, Kind]) -> None:
        self._root, self._params = root, params
        self._files: dict[str, _EventFile] = {}
        self._has_summary = any(root.glob("events.*"))

    def add(self, record: TrialRecord, row: Mapping[str, Any]) -> None:
        """One epoch's numbers as scalars, and the trial's cost so far."""
        if not self._has_summary:
            self._summarise(row)
        scalars = {"total/device_seconds": record.total("device_seconds")}
        for key, value in row.items():
            if _is_number(value) and key != "epoch":
                grouped = key.replace("_", "/", 1) if key.startswith(("train_", "val_", "uda_")) else key
                scalars[grouped] = value
        file = self._file(record.trial)
        file.scalars(scalars, row["epoch"])
        file.flush_sometimes()

    def end(self, record: TrialRecord, *, metric: str, mode: str) -> None:
        """HParams of a trial that is over, in the trial's own run, so that the tab and the curves share a name."""
        from tensorboardX.summary import hparams

        best = record.best(metric, mode) or {}
        metrics = {f"best/{key}": value for key, value in best.items() if key.startswith("val_")}
        metrics |= {f"total/{key}": record.total(key) for key in records.SUMS}
        metrics |= {f"peak/{key}": record.peak(key) for key in records.PEAKS}
        metrics |= {f"cost/{key}": value for key, value in record.facts.items()}
        params = {key: _value(value, self._params.get(key)) for key, value in record.params.items()}
        file = self._file(record.trial)
        for summary in hparams({**params, "state": record.state}, {})[1:]:  # without an experiment of its own
            file.add(summary)
        file.scalars({k: v for k, v in metrics.items() if _is_number(v) and math.isfinite(v)}, record.epoch)
        file.close()
        del self._files[record.trial]

    def pause(self, record: TrialRecord) -> None:
        """Closes the file of a trial that goes on later, or never; another is begun if it does."""
        file = self._files.pop(record.trial, None)
        if file is not None:
            file.close()

    def close(self) -> None:
        """Flushes and closes every file."""
        while self._files:
            self._files.popitem()[1].close()

    def _summarise(self, row: Mapping[str, Any]) -> None:
        """Writes the study's experiment summary, once: what is searched, and the metrics that a first row names."""
        from tensorboardX.summary import hparams

        metrics = [f"best/{key}" for key, value in row.items() if key.startswith("val_") and _is_number(value)]
        metrics += [f"total/{key}" for key in records.SUMS] + [f"cost/{key}" for key in records.TRIAL_FACTS]
        params = {key: _EXAMPLES[kind] for key, kind in self._params.items()}
        file = _EventFile(self._root)
        file.add(hparams({**params, "state": ""}, dict.fromkeys(metrics, 0))[0])
        file.close()
        self._has_summary = True

    def _file(self, trial: str) -> _EventFile:
        if trial not in self._files:
            self._files[trial] = _EventFile(self._root / trial)
        return self._files[trial]


class _EventFile:
    """A new event file in ``folder``. tensorboardX's own writes in a thread, and waits for ever behind a full disk."""

    def __init__(self, folder: Path) -> None:
        from tensorboardX.event_file_writer import EventsWriter

        self._folder, self._flushed, self._is_closed = folder, time.monotonic(), True
        with self._named():
            folder.mkdir(parents=True, exist_ok=True)
            self._events = EventsWriter(str(folder / "events"))
        self._is_closed = False

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """All in one event: one for each takes a millisecond."""
        from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        self.add(Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]), step)

    def add(self, summary: object, step: int | None = None) -> None:
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

        with self._named():
            self._events.write_event(Event(summary=summary, wall_time=time.time(), step=step))

    def flush_sometimes(self) -> None:
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            with self._named():
                self._events.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            with self._named():
                self._events.close()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """An error of a write does not name its file."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), error.filename or str(self._folder)) from None

    def __del__(self) -> None:
        with contextlib.suppress(OSError):  # which has been said
            self.close()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value(value: Any, kind: Kind | None) -> Any:
    """A parameter's value as its column has them."""
    if kind == "word" or not isinstance(value, int | float | str):
        return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return value
