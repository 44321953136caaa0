"""Fronts of searches that were replayed, measured: the share of the hypervolume of all that was recorded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmtune.search.members import points
from mmtune.search.trials import TrialRecord
from mmtune.study.recordings import Recording
from trainables.dominance import hypervolume, non_dominated


class Box:
    """Around every recorded trial's last epoch: from the best to the worst value of each objective.

    Args:
        recordings: those without a value of an objective count for nothing.
        objectives: metric and mode of each.
    """

    def __init__(self, recordings: Sequence[Recording], objectives: Sequence[tuple[str, str]]) -> None:
        ends = []
        for recording in recordings:
            record = TrialRecord(recording.trial)
            for seconds in recording.seconds:
                recording.report(record, objectives[0][0], seconds)
            ends.append(points(record, objectives)[-1])
        found = np.array(ends).reshape(-1, len(objectives))
        known = found[np.isfinite(found).all(axis=1)]
        self._low = known.min(axis=0, initial=np.inf)
        self._width = known.max(axis=0, initial=-np.inf) - self._low
        self._whole = self._volume(known)

    def share_of(self, front: np.ndarray) -> float | None:
        """Of a search's trials, as (trials, objectives): 1 if it has the whole front; None without trials, or a box."""
        return self._volume(front) / self._whole if len(front) and self._whole else None

    def _volume(self, front: np.ndarray) -> float:
        if not (self._width > 0).all():
            return 0.0
        scaled = (front[np.isfinite(front).all(axis=1)] - self._low) / self._width
        return hypervolume(scaled[non_dominated(scaled)], [1.0] * len(self._width)) if len(scaled) else 0.0
