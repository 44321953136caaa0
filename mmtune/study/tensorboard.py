"""Event files for TensorBoard: one run a trial, its curves and its HParams under the same name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

    from mmtune.search.trials import TrialRecord


class EventFiles:
    """The event files of a study; ``root`` gets a folder a trial."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._writers: dict[str, SummaryWriter] = {}

    def add(self, record: TrialRecord, row: Mapping[str, Any]) -> None:
        """One epoch's numbers as scalars, and the trial's cost so far."""
        writer = self._writer(record.trial)
        for key, value in row.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and key != "epoch":
                grouped = key.replace("_", "/", 1) if key.startswith(("train_", "val_", "uda_")) else key
                writer.add_scalar(grouped, value, row["epoch"])
        writer.add_scalar("total/device_seconds", record.total("device_seconds"), row["epoch"])

    def end(self, record: TrialRecord, *, metric: str, mode: str) -> None:
        """HParams of a trial that is over, in the trial's own run, so that the tab and the curves share a name."""
        from tensorboardX.summary import hparams

        best = record.best(metric, mode)
        metrics = {f"best/{metric}": best[metric]} if best else {}
        metrics |= {"total/device_seconds": record.total("device_seconds")}
        plain = (int, float, str, bool)
        params = {key: value if isinstance(value, plain) else str(value) for key, value in record.params.items()}
        writer = self._writer(record.trial)
        assert writer.file_writer is not None  # it is until close()
        for summary in hparams({**params, "state": record.state}, metrics):
            writer.file_writer.add_summary(summary)
        for key, value in metrics.items():
            if math.isfinite(value):
                writer.add_scalar(key, value, record.epoch)
        writer.close()
        del self._writers[record.trial]

    def pause(self, record: TrialRecord) -> None:
        """Closes the file of a trial that goes on later, or never; another is begun if it does."""
        writer = self._writers.pop(record.trial, None)
        if writer is not None:
            writer.close()

    def close(self) -> None:
        """Flushes and closes every file."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _writer(self, trial: str) -> SummaryWriter:
        if trial not in self._writers:
            from tensorboardX import SummaryWriter

            self._writers[trial] = SummaryWriter(str(self._root / trial), flush_secs=5)
        return self._writers[trial]
