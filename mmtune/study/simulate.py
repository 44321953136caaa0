"""What another schedule or sampler would have found when: a study's own decisions, replayed on recorded trainings.

Searcher, scheduler and sampler are those of a real study. Only training is replaced: a proposal takes the recorded
trial of its family that lies nearest to it and was not taken yet (if all were, the nearest), and an epoch is that
trial's report, which takes the device-seconds that it took. No disk and no clock is read, so the same settings and seed
give the same search.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import numpy as np
from ray.tune.schedulers import TrialScheduler

from mmtune import records
from mmtune.records import open_study
from mmtune.search.journal import Journal
from mmtune.search.members import points
from mmtune.search.samplers import SAMPLERS, sampler_problem
from mmtune.search.schedulers import SCHEDULERS, make_scheduler
from mmtune.search.searcher import StudySearcher
from mmtune.search.trials import TrialRecord, Trials
from mmtune.slots.messages import TrialJob
from mmtune.space.domains import Categorical
from mmtune.space.drawing import place
from mmtune.space.optuna_names import to_optuna
from mmtune.spec.sampler import SamplerSpec
from mmtune.spec.search_spec import SearchSpec, load_spec
from mmtune.spec.sections import Budget, SchedulerSpec, mode_of
from mmtune.study.box import Box
from mmtune.study.learn import with_lessons
from mmtune.study.recordings import Recording, recordings_of
from trainables.messages import unknown

_SHARES = (0.1, 0.25, 0.5, 1.0)  # of the budget
_OWN_END = (records.COMPLETE, records.FAILED, records.INFEASIBLE)  # states of trials that no search cut


@dataclass
class Simulated:
    """One search that was replayed."""

    found: list[tuple[float, float]] = field(default_factory=list)
    """(device-seconds spent, best value so far) after each epoch."""
    points: list[tuple[float, str, tuple[float, ...]]] = field(default_factory=list)
    """(device-seconds spent, trial, its objective and the recorded others; smaller is better) after each epoch."""
    num_begun: int = 0
    """Configurations that trained."""
    num_whole: int = 0
    """Of them, those that trained to their end."""

    def best_at(self, seconds: float) -> float | None:
        """The best value once so much was spent; None before the first epoch."""
        values = [value for spent, value in self.found if spent <= seconds]
        return values[-1] if values else None

    def front_at(self, seconds: float) -> np.ndarray:
        """The trials' objectives and others once so much was spent, as (trials, axes), smaller is better."""
        by_trial = {trial: point for spent, trial, point in self.points if spent <= seconds}
        return np.array(list(by_trial.values()))


def with_setting(spec: SearchSpec, *, sampler: str, scheduler: str, seed: int) -> SearchSpec:
    """The spec with another sampler and schedule; options that they share with the spec's own stay.

    Raises:
        ValueError: unknown names, or a sampler that needs a finite space in one that is not.
    """
    for name, known in ((sampler, SAMPLERS), (scheduler, SCHEDULERS)):
        if name not in known:
            raise ValueError(unknown(name, known))
    if problem := sampler_problem(SAMPLERS[sampler], spec.space.domains, learns=bool(spec.lessons)):
        raise ValueError(problem)
    own = dict(spec.sampler.options) if sampler == spec.sampler.name else {}
    theirs = spec.scheduler.options.model_dump(exclude_none=True)  # what one leaves to its rules another may not
    kind = SCHEDULERS[scheduler].options
    return replace(
        spec,
        sampler=SamplerSpec(name=sampler, seed=seed, options=SAMPLERS[sampler].options(**own)),
        scheduler=SchedulerSpec(
            name=scheduler, options=kind(**{key: theirs[key] for key in kind.model_fields if key in theirs})
        ),
    )


def simulate(
    spec: SearchSpec, recordings: Sequence[Recording], *, workers: int, seconds: float | None, trials: int | None
) -> Simulated:
    """One search over what was recorded.

    A curve that ended before the last epoch without being COMPLETE was cut by the search that recorded it: its last
    value stays, and an epoch costs the mean of those that it had.

    Args:
        spec: space, sampler and its seed, schedule; of its budget only by what it is, trials or time, which the
            schedule asks (:attr:`mmtune.spec.search_spec.SearchSpec.rules`).
        recordings: each is taken once; again only where its family has no other.
        workers: trials at the same time, each of one worker.
        seconds: the budget in device-seconds; None is no limit.
        trials: the budget in configurations; None is no limit, where there is one of seconds.
    """
    budget = Budget(trials=trials, device_hours=None if seconds is None else seconds / 3600)
    return _Replay(spec, recordings, workers=workers, budget=budget).run()


def read_study(path: str | Path) -> tuple[SearchSpec, list[Recording]]:
    """A study's search file and what it recorded.

    Raises:
        ValueError: not a study, or no trial has reported an epoch.
    """
    folder = open_study(path)
    spec = load_spec(folder.spec)
    return with_lessons(folder, spec), recordings_of(folder, spec)


def compare(
    spec: SearchSpec,
    recordings: Sequence[Recording],
    *,
    schedulers: Sequence[str] | None,
    samplers: Sequence[str] | None,
    workers: int,
    seconds: float,
    seeds: Sequence[int],
) -> tuple[list[str], list[list[str]], list[str]]:
    """Header, rows and remarks: of each setting the mean over the seeds of the best value at shares of the budget.

    With several objectives it is the hypervolume of the front, as a share of that of all that was recorded.

    Args:
        schedulers: names; None is all.
        samplers: names; None is the spec's own and random.
        workers: trials at the same time.
        seconds: the budget in device-seconds.
        seeds: of the samplers.

    Raises:
        ValueError: as :func:`with_setting`.
    """
    box = Box(recordings, [(one.metric, one.mode) for one in spec.objectives]) if spec.objectives[1:] else None
    metric = "front" if box else spec.objectives[0].metric
    pairs = list(product(schedulers or SCHEDULERS, samplers or dict.fromkeys([spec.sampler.name, "random"])))
    settings = {
        pair: [with_setting(spec, scheduler=pair[0], sampler=pair[1], seed=seed) for seed in seeds] for pair in pairs
    }
    header = ["scheduler", "sampler", *(f"{metric} at {share:.0%}" for share in _SHARES), "begun", "whole"]
    rows = []
    for (scheduler, sampler), specs in settings.items():
        found = [simulate(one, recordings, workers=workers, seconds=seconds, trials=len(recordings)) for one in specs]
        bests = [[_score(search, share * seconds, box) for search in found] for share in _SHARES]
        cells = [
            f"{fmean(known):.4f}" if len(known := [b for b in some if b is not None]) == len(some) else "-"
            for some in bests
        ]
        counts = (fmean(search.num_begun for search in found), fmean(search.num_whole for search in found))
        rows.append([scheduler, sampler, *cells, *(f"{count:.1f}" for count in counts)])
    return header, rows, _remarks(spec, recordings, workers=workers, seconds=seconds, num_seeds=len(seeds))


def _score(search: Simulated, seconds: float, box: Box | None) -> float | None:
    return search.best_at(seconds) if box is None else box.share_of(search.front_at(seconds))


def _remarks(
    spec: SearchSpec, recordings: Sequence[Recording], *, workers: int, seconds: float, num_seeds: int
) -> list[str]:
    total = math.fsum(second for recording in recordings for second in recording.seconds)
    values = [value for recording in recordings for value in recording.values if value is not None]
    best = max(values) if spec.objectives[0].mode == "max" else min(values)
    cut = sum(len(one.values) < spec.epochs and one.state not in _OWN_END for one in recordings)
    remarks = [
        f"{num_seeds} searches a setting, {workers} worker{'s' * (workers > 1)}, "
        f"{seconds:.1f} of the {total:.1f} device-seconds recorded; best of all {len(recordings)} trials: {best:.4f}"
    ]
    if cut:
        remarks.append(
            f"{cut} of {len(recordings)} curves were cut before epoch {spec.epochs}: there the last value stays, and "
            "who trains on gains nothing by it. A study with scheduler none has whole curves"
        )
    return remarks


class _Book:
    """A ledger without files."""

    def __init__(self, trials: Trials) -> None:
        self.trials = trials

    def start(self, trial: str, params: Mapping[str, Any], *, until: int | None = None) -> TrialRecord:
        return self.trials.start(trial, dict(params), until=until)

    def pause(self, trial: str) -> None:
        self.trials[trial].state = records.PAUSED

    def end(self, trial: str, state: str, **facts: Any) -> None:
        self.trials[trial].state = state

    def row(self, trial: TrialRecord) -> Mapping[str, Any]:
        """Nothing: nobody looks at the trials of a replay."""
        return {}


class _Replay:
    """What runs and what is known while a search is replayed."""

    def __init__(self, spec: SearchSpec, recordings: Sequence[Recording], *, workers: int, budget: Budget) -> None:
        objective, hours = spec.objectives[0], budget.device_hours
        self.spec, self.workers, self.spent = spec, workers, 0.0
        self.seconds = None if hours is None else 3600 * hours
        self.recordings, self.free, self.taken = recordings, {id(recording) for recording in recordings}, {}
        alternatives = spec.space.alternatives()
        self.choices = {f"{key}#{index}" for key, index, domain in alternatives if isinstance(domain, Categorical)}
        self.places = {id(recording): place(spec.space, recording.params) for recording in recordings}
        self.trials = Trials(metric=objective.metric, mode=objective.mode, max_epochs=spec.epochs)
        self.scheduler = make_scheduler(
            spec.scheduler.name, options=spec.scheduler.options, trials=self.trials, is_spent=self.is_spent
        )
        objectives = [(item.metric, item.mode) for item in spec.objectives]
        others = dict.fromkeys(name for recording in recordings for name in recording.others)
        self.axes = [objectives[0], *((name, mode_of(name)) for name in others)]
        journal = Journal(None, name=spec.study, objectives=objectives)
        for params in spec.try_first:
            journal.enqueue(to_optuna(spec.space, params))
        self.searcher = StudySearcher(
            spec=replace(spec, budget=budget),
            journal=journal,
            ledger=_Book(self.trials),
            job=lambda name, params: TrialJob(trial=name, config=params, folder="", known_epoch=0, is_tested=False),
            rules=spec.rules,
            is_spent=self.is_spent,
            seconds_left=lambda: None if self.seconds is None else self.seconds - self.spent,
            slots=lambda: len(recordings),
            on_end=lambda trial, ticket: None,
            on_fault=lambda trial, ticket, what: None,
        )
        self.search = Simulated()

    def is_spent(self) -> bool:
        return self.seconds is not None and self.spent >= self.seconds

    def run(self) -> Simulated:
        """The whole search."""
        ahead: list[tuple[float, int, str, str]] = []  # when an epoch ends; a count; Tune's id and the trial
        now, count = 0.0, 0
        while True:
            while len(ahead) < self.workers and isinstance(job := self.searcher.suggest(f"job{count}"), dict):
                name = job["trial"]
                if name not in self.taken:
                    self.taken[name] = self._nearest(job["job"]["config"])
                heapq.heappush(ahead, (now + self._cost(name), count, f"job{count}", name))
                count += 1
            if not ahead:
                self.search.num_begun = len(self.trials)
                self.search.num_whole = sum(trial.state == records.COMPLETE for trial in self.trials.values())
                return self.search
            now, _, job_id, name = heapq.heappop(ahead)
            if not self._epoch(job_id, name):
                heapq.heappush(ahead, (now + self._cost(name), count, job_id, name))
                count += 1

    def _nearest(self, params: Mapping[str, Any]) -> Recording:
        """Of this family's recordings, one that is free if there is one; no longer free then."""
        here, family = place(self.spec.space, params), params.get("family")
        own = [recording for recording in self.recordings if recording.params.get("family") == family]
        free = [recording for recording in own if id(recording) in self.free]

        def distance(recording: Recording) -> float:
            there = self.places[id(recording)]
            total = 0.0
            for name in {*here, *there}:
                is_in_both = name in here and name in there
                if not is_in_both or (name in self.choices and here[name] != there[name]):
                    total += 1.0
                elif name not in self.choices:
                    total += abs(here[name] - there[name])
            return total

        nearest = min(free or own or self.recordings, key=distance)
        self.free.discard(id(nearest))
        return nearest

    def _cost(self, name: str) -> float:
        """Device-seconds of the trial's next epoch."""
        seconds, epoch = self.taken[name].seconds, self.trials[name].epoch
        return seconds[epoch] if epoch < len(seconds) else math.fsum(seconds) / len(seconds)

    def _epoch(self, job_id: str, name: str) -> bool:
        """The trial's next report; whether it stops there."""
        recording, record = self.taken[name], self.trials[name]
        cost = self._cost(name)
        self.spent += cost
        recording.report(record, self.trials.metric, cost)
        value = record.rows[-1][self.trials.metric]
        result: dict[str, Any] = {"epoch": record.epoch, "value": math.nan if value is None else value}
        tune = SimpleNamespace(trial_id=job_id, config={"trial": name})
        decision = self.scheduler.on_trial_result(None, tune, result)  # pyright: ignore[reportArgumentType]
        self.searcher.on_trial_result(job_id, result)
        best = self.trials.best()
        if best is not None:
            row = self.trials.best_row(best) or {}
            self.search.found.append((self.spent, row[self.trials.metric]))
        if recording.others:
            self.search.points.append((self.spent, name, points(record, self.axes)[-1]))
        is_recorded_end = record.epoch == len(recording.values) and recording.state in _OWN_END
        is_over = is_recorded_end or record.epoch >= self.trials.max_epochs
        if is_over:
            state = recording.state if is_recorded_end else records.COMPLETE
            self.searcher.on_trial_complete(job_id, {"end/state": state})
        elif decision == TrialScheduler.STOP:
            self.searcher.on_trial_complete(job_id, result)
        return is_over or decision == TrialScheduler.STOP
