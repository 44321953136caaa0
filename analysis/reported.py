"""What a study's reports say of each trial: what trials.csv would say of it if it ended now, and its times."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from analysis.reading import numbers, values
from mmtune import records


class Reported:
    """The reports of a study by trial.

    Args:
        table: of :func:`analysis.reading.read_reports`.
        metric: decides a trial's best epoch.
        mode: of the metric, 'max' or 'min'.
    """

    def __init__(self, table: pd.DataFrame, metric: str, mode: str) -> None:
        names = table["trial"].to_list()
        starts = [at for at, name in enumerate(names) if at == 0 or name != names[at - 1]]
        spans = list(pairwise([*starts, len(names)]))
        self._spans = spans
        self.trials = {names[begin]: place for place, (begin, _) in enumerate(spans)}  # in the order of the file
        none = [None] * len(table)
        self._columns = {
            name: values(table.loc[:, name]) if name in table else none for name in ("epoch", *records.SUMS)
        }
        self._peaks = {name: numbers(table, name) for name in records.PEAKS}
        objective = numbers(table, metric)
        losses = np.where(np.isfinite(objective), -objective if mode == "max" else objective, np.inf)
        losses[~table["is_current"].to_numpy(dtype="bool")] = np.inf
        best = [begin + int(losses[begin:end].argmin()) for begin, end in spans]  # the first of equals
        self._best = [place if np.isfinite(losses[place]) else None for place in best]
        at_best = table.take(best)
        self._metrics = {name: values(at_best.loc[:, name]) for name in table if name.startswith("val_")}

    def times(self, trial: str) -> list[dict[str, Any]]:
        """Epoch and columns of time of each of its reports, in the order written; None is missing."""
        if trial not in self.trials:
            return []
        begin, end = self._spans[self.trials[trial]]
        cells = [column[begin:end] for column in self._columns.values()]
        return [dict(zip(self._columns, row, strict=True)) for row in zip(*cells, strict=True)]

    def summary(self, trial: str) -> dict[str, Any]:
        """What trials.csv would say of it beside its times if it ended now; what is missing is left out."""
        if trial not in self.trials:
            return {}
        place = self.trials[trial]
        begin, end = self._spans[place]
        best = self._best[place]
        found: dict[str, Any] = {}
        if best is not None:
            found |= {name: cells[place] for name, cells in self._metrics.items()}
            found["best_epoch"] = self._columns["epoch"][best]
        found["epochs"] = self._columns["epoch"][end - 1]  # the last is always current
        for name, peaks in self._peaks.items():
            known = peaks[begin:end][~np.isnan(peaks[begin:end])]
            found[name] = float(known.max()) if len(known) else None
        return {name: value for name, value in found.items() if value is not None}
