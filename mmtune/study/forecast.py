"""What a study will take: epochs by playing its search, time and memory by probes, what its budget buys.

Each family's cheapest and dearest corner is probed: a little of it is trained (:mod:`trainables.probe`) in a process of
its own, as a worker of the study would. In between a trial's seconds and memory follow its work: parameters, twice
those that train, times the rows that go through them. How many epochs a trial gets is seen by playing the search, as
for the disk (:mod:`mmtune.study.disk`). Without probes there are no hours, and memory is worked out
(:mod:`mmtune.study.memory`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mmtune.spec.search_spec import SearchSpec
from mmtune.study.disk import Drawn, Game, ModelSizes
from mmtune.study.memory import Memory

if TYPE_CHECKING:
    from trainables.config import TrialConfig
    from trainables.model import ModelSize

_PROBE_SECONDS = 10.0  # a corner trains at most
_STARTS = 5.0  # times as long as a worker's process starts: Ray, the actors of a slot, its worker, and their end


@dataclass(frozen=True)
class Probed:
    """A corner that was probed."""

    family: str
    work: float
    config: TrialConfig
    first_seconds: float
    setup_seconds: float
    once_seconds: float
    epoch_seconds: float
    peak_memory_gib: float


@dataclass(frozen=True)
class Forecast:
    """What a study will take; None is not known."""

    is_probed: bool
    peak_memory_gib: float
    """The dearest trial's, as ``peak_memory_gib``."""
    trials: float | None = None
    epochs: float | None = None
    disk_gib: float | None = None
    """Of its folder when it is over."""
    device_hours: float | None = None
    """Of trials, without caches."""
    wall_hours: float | None = None
    without_activations: tuple[str, ...] | None = None
    """Families whose activations could not be worked out, and why."""

    def to_json(self) -> dict[str, Any]:
        """As study.json has it."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def forecast(
    spec: SearchSpec, drawn: Sequence[Drawn], games: Sequence[Game], memory: Memory | None, *, slots: int,
    probed: Sequence[Probed] = (), start_seconds: float = 0.0,
) -> Forecast:  # fmt: skip
    """What the study of ``spec`` will take, its folder aside.

    Args:
        spec: the search.
        drawn: its first trials.
        games: searches that were played with them.
        memory: of its dearest trial; None: as the corners had it that were probed.
        slots: trials at the same time.
        probed: the corners of each family; none: no hours, and no trials where the budget is of hours alone.
        start_seconds: that a worker's process takes to start.
    """
    epochs = fmean(sum(game.epochs) for game in games)
    most, seconds = 0.0 if memory is None else memory.peak / 2**30, None
    if probed:
        costs = [_Costs(one, probed) for one in drawn]
        most = max(cost.peak_memory_gib for cost in costs)
        seconds = fmean(
            sum(cost.seconds(*part) for cost, *part in zip(costs, game.epochs, game.jobs, strict=True))
            for game in games
        )
    unknown = memory.unknown or None if memory is not None else None
    times = _times(spec, len(drawn), epochs, seconds, slots)
    if times is None:
        return Forecast(False, most, without_activations=unknown)
    hours = {}
    if seconds is not None:
        loading = slots * max(0.0, probed[0].first_seconds - probed[0].setup_seconds)  # of a slot's first trial
        held = seconds * times + loading
        wall = held / min(slots, max(1, len(drawn) * times)) + _STARTS * start_seconds
        hours = {"device_hours": held * spec.resources.devices / 3600, "wall_hours": wall / 3600}
    return Forecast(bool(probed), most, len(drawn) * times, epochs * times, **hours, without_activations=unknown)


def probe_corners(spec: SearchSpec, data_dir: str | None, sizes: ModelSizes) -> tuple[list[Probed], float]:
    """The cheapest and the dearest corner of each family, and seconds that a worker's process takes to start.

    Raises:
        ValueError: a corner that cannot be trained here, and why.
    """
    wanted = corner_ends(spec, data_dir, sizes)
    command = [sys.executable, "-m", "trainables.probe", str(_PROBE_SECONDS)]
    found: list[Probed] = []
    began = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        start_seconds = time.monotonic() - began
        for work, config in wanted:
            process.stdin.write(json.dumps(_alone(config, spec.resources.workers)) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline() or "{}")
            if "epoch_seconds" not in answer:
                process.kill()
                said = answer.get("error") or "the process was killed, perhaps for memory"
                raise ValueError(f"--probe: {config.family} at a corner of the space: {said}")
            found.append(Probed(config.family, work, config, **answer))
    return found, start_seconds


def corner_ends(spec: SearchSpec, data_dir: str | None, sizes: ModelSizes) -> list[tuple[float, TrialConfig]]:
    """Work and config of the corners of each family that have least and most work; one where all have as much."""
    ends: dict[str, dict[float, TrialConfig]] = {}
    for params in spec.corners(limit=24):
        config = spec.trial_config(params, data_dir)
        ends.setdefault(config.family, {}).setdefault(work_of(config, sizes), config)
    return [(work, some[work]) for some in ends.values() for work in dict.fromkeys((min(some), max(some)))]


def work_of(config: TrialConfig, sizes: ModelSizes) -> float:
    """Of an epoch, in no unit: parameters, those that train three times, times the rows that go through them."""
    return _work(config, sizes.of(config))


def _work(config: TrialConfig, size: ModelSize) -> float:
    return (size.num_parameters + 2.0 * size.num_trainable) * (1 if config.uda.mode == "none" else 2)


def _alone(config: TrialConfig, workers: int) -> Mapping[str, Any]:
    """The config of one worker's share."""
    share = {"workers": 1, "batch_size": -(-config.batch_size // workers)}
    return {**config.to_dict(), **(share if workers > 1 else {})}


class _Costs:
    """Of a trial, between those of its family's corners."""

    def __init__(self, drawn: Drawn, probed: Sequence[Probed]) -> None:
        own = [one for one in probed if one.family == drawn.config.family]
        low, high = min(own, key=lambda one: one.work), max(own, key=lambda one: one.work)
        work = _work(drawn.config, drawn.size)
        share = 0.0 if high.work == low.work else min(max((work - low.work) / (high.work - low.work), 0.0), 1.0)

        def between(name: str) -> float:
            return (1 - share) * getattr(low, name) + share * getattr(high, name)

        self._setup, self._once = between("setup_seconds"), between("once_seconds")
        self._epoch, self.peak_memory_gib = between("epoch_seconds"), between("peak_memory_gib")

    def seconds(self, epochs: int, jobs: int) -> float:
        """Of a trial that trains so many epochs and is taken up so often."""
        return (self._once if epochs else 0.0) + jobs * self._setup + epochs * self._epoch


def _times(spec: SearchSpec, num: int, epochs: float, seconds: float | None, slots: int) -> float | None:
    """How often a search of ``num`` trials, of so many epochs and seconds together, fits into the budget; None where
    only seconds would tell, and they are not known."""
    budget = spec.budget
    limits = [] if budget.trials is None else [budget.trials / num]
    if budget.epochs is not None:
        limits.append(budget.epochs / epochs)
    if seconds:
        if budget.device_hours is not None:
            limits.append(budget.device_hours * 3600 / (seconds * spec.resources.devices))
        if budget.wall_hours is not None:
            limits.append(budget.wall_hours * 3600 * slots / seconds)
    return min(limits, default=None)
