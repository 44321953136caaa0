"""The table of this project: trainings of all families in one space, whose epochs differ in cost a hundredfold.

Searches are replayed on it by :mod:`mmtune.study.simulate`: searcher, scheduler and sampler are a study's own, a
proposal takes the recorded configuration of its family that lies nearest and was not taken yet (if all were, the
nearest), and what counts is device-seconds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median

import numpy as np
from record_table import TABLE, read_rows

from mmtune import records
from mmtune.search.schedulers import SCHEDULERS
from mmtune.spec.search_spec import SearchSpec, load_spec
from mmtune.spec.sections import SchedulerSpec
from mmtune.study.simulate import Recording, simulate, with_setting

OWN = TABLE / "trainings.parquet"
LEAST = 100  # configurations: with fewer a search soon has them all
GRACE = 3  # of random+stop, as Ray Tune is used
SETTINGS = {  # method -> scheduler, sampler, grace; None is the default
    "random": ("none", "random", None),
    "random+stop": ("asha_stopping", "random", GRACE),
    "tpe+stop": ("asha_stopping", "tpe", 1),
    "promote+random": ("asha", "random", None),
    "mmtune": ("asha", "parzen", None),
}


@dataclass(frozen=True)
class OwnTable:
    """What was recorded, and between which values regret lies."""

    name: str
    kind: str
    spec: SearchSpec
    recordings: Sequence[Recording]
    training: float  # device-seconds of a whole training, the mean over families
    best: float
    usual: float  # the best value of the median configuration

    def searched_by(self, scheduler: str, sampler: str, grace: int | None, *, seed: int) -> SearchSpec:
        """The table's search with another schedule and sampler; grace None is the schedule's default."""
        spec = with_setting(self.spec, sampler=sampler, scheduler=scheduler, seed=seed)
        if grace is None:
            return spec
        options = SCHEDULERS[scheduler].options.model_validate({"grace_epochs": grace})
        return replace(spec, scheduler=SchedulerSpec(name=scheduler, options=options))

    def found(self, method: str, seed: int, *, workers: int, trainings: float) -> list[tuple[float, float]]:
        """Of a search: (whole trainings' device-seconds spent, regret of the best so far) after each epoch."""
        spec = self.searched_by(*SETTINGS[method], seed=seed)
        search = simulate(spec, self.recordings, workers=workers, seconds=trainings * self.training, trials=None)
        scale = self.best - self.usual
        return [(spent / self.training, (self.best - value) / scale) for spent, value in search.found]


def own_table(path: Path = OWN, *, others: Sequence[str] = ()) -> OwnTable | None:
    """What is recorded so far, but for what failed before its first epoch; None if it is too little.

    ``others`` are metrics and costs that its recordings shall have by epoch besides.
    """
    spec = load_spec(TABLE / "space.yaml", overrides=["budget={device_hours: 1}"])  # of time, as in each replay
    rows = [row for row in read_rows(path) if row["device_seconds"]]
    print(f"{path.parent.name}/{path.name}: {len(rows)} configurations")
    if len(rows) < LEAST:
        print(f"left out: it needs {LEAST}; python benchmarks/record_table.py goes on with it")
        return None
    recordings = [
        Recording(
            params=json.loads(row["params"]), values=tuple(row["val_accuracy"]),
            seconds=tuple(row["device_seconds"]), state=row["state"],
            others={name: tuple(row[name]) for name in others},
        )
        for row in rows
    ]  # fmt: skip
    whole: dict[str, list[float]] = {}
    for one in recordings:
        if one.state == records.COMPLETE:
            whole.setdefault(one.params["family"], []).append(sum(one.seconds))
    bests = [max(value for value in one.values if value is not None) for one in recordings]
    training = fmean(fmean(seconds) for seconds in whole.values())
    return OwnTable("own", "own", spec, recordings, training, max(bests), median(bests))


def compare_seconds(table: OwnTable, seeds: Sequence[int], *, trainings: float) -> str:
    """When mmtune has what random+stop ends with: the median over seeds, as a share of the budget; in words."""
    shares = []
    for seed in seeds:
        goal = table.found("random+stop", seed, workers=1, trainings=trainings)[-1][1]
        found = table.found("mmtune", seed, workers=1, trainings=trainings)
        shares.append(min((spent / trainings for spent, regret in found if regret <= goal + 1e-9), default=np.inf))
    return (
        f"own: mmtune has the best of random+stop after {np.median(shares):.2f} of its device-seconds; "
        f"never in {sum(map(np.isinf, shares))} of {len(shares)} searches"
    )
