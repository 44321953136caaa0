"""What a study's folder will take: from the models that its trials will have, and from what stays of them.

The models are those of the trials that the sampler proposes while it knows no result: the rows of ``try_first``, then
what its seed gives, families as often one as the other. How many of them are paused at once is seen by playing the
search, with the schedule's own decisions on random scores.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from mmtune import records
from mmtune.search.promotion import Go, View, next_job
from mmtune.search.rungs import Member
from mmtune.search.samplers import make_sampler
from mmtune.search.stranded import stranded
from mmtune.space.optuna_names import suggest, to_optuna
from mmtune.spec.search_spec import SearchSpec
from mmtune.spec.sections import Keep, KeepTop
from mmtune.study.keeping import Standing, places

if TYPE_CHECKING:
    from trainables.config import TrialConfig
    from trainables.model import ModelSize

DRAWS, _MODELS = 64, 32  # trials that are proposed, different models that are built for them, at most
_SEARCHES = 5  # that are played
_TRIAL, _EPOCH = 80_000, 5_000  # bytes of logs: Tune's snapshot, journal and config of a trial; rows and events
_LABEL = 40  # bytes of a row of predictions.parquet beside its logits


@dataclass(frozen=True)
class Disk:
    """Bytes of a study's folder."""

    running: int
    """Just before its end, when most trials are paused and have all they need to go on."""
    over: int
    """When it is over."""


class Drawn(NamedTuple):
    """One of the first trials."""

    config: TrialConfig
    size: ModelSize


@dataclass(frozen=True)
class Game:
    """A search that was played."""

    most_bytes: int
    """Of checkpoints that there were at once."""
    epochs: Sequence[int]
    """That each trial trained."""
    jobs: Sequence[int]
    """How often each was taken up."""


class ModelSizes:
    """Sizes of the models of a search; each is built once, on no device.

    Args:
        workers: of a trial.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._known: dict[str, ModelSize] = {}

    def __len__(self) -> int:
        """How many were built."""
        return len(self._known)

    def __contains__(self, config: TrialConfig) -> bool:
        return model_of(config) in self._known

    def of(self, config: TrialConfig) -> ModelSize:
        """The size of a config's model.

        Raises:
            ValueError: it cannot be built.
        """
        from trainables.model import model_size

        key = model_of(config)
        if key not in self._known:
            self._known[key] = model_size(config, workers=self._workers)
        return self._known[key]


def predict_disk(spec: SearchSpec, data_dir: str | None, *, slots: int, sizes: ModelSizes) -> Disk:
    """What the folder of ``spec`` will take with ``slots`` trials at the same time; of one trial without such a budget.

    Raises:
        ValueError: a model that cannot be built.
    """
    drawn = first_trials(spec, data_dir, count=spec.budget.trials or 1, sizes=sizes)
    return disk_of(spec, data_dir, drawn, play(spec, drawn, slots=slots), num=spec.budget.trials or 1)


def disk_of(
    spec: SearchSpec, data_dir: str | None, drawn: Sequence[Drawn], games: Sequence[Game], *, num: float
) -> Disk:
    """What the folder takes with ``num`` trials like those that were drawn, of searches that were played."""
    other, kept = _others(spec, data_dir, num), _kept(spec, drawn, num)
    most = fmean(game.most_bytes for game in games)
    return Disk(running=round(other + most * num / len(drawn)), over=round(other + kept))


def first_trials(spec: SearchSpec, data_dir: str | None, *, count: int, sizes: ModelSizes) -> list[Drawn]:
    """The first ``count`` trials, or fewer where they are many; those with models too many to build are left out,
    but for the first.

    Raises:
        ValueError: a model that cannot be built.
    """
    drawn: list[Drawn] = []
    built = len(sizes)
    for config in _configs(spec, data_dir, count=min(count, DRAWS)):
        if not drawn or config in sizes or len(sizes) - built < _MODELS:
            drawn.append(Drawn(config, sizes.of(config)))
    return drawn


def play(spec: SearchSpec, drawn: Sequence[Drawn], *, slots: int) -> list[Game]:
    """Some searches of these trials whose scores are random."""
    return [_play(spec, drawn, slots=slots, seed=seed) for seed in range(_SEARCHES)]


def _play(spec: SearchSpec, drawn: Sequence[Drawn], *, slots: int, seed: int) -> Game:
    rng, rules = random.Random(seed), spec.rules
    has_ranks_that_stay = spec.budget.trials is not None and len(spec.objectives) == 1
    members: dict[int, Member] = {}
    live: list[int] = []
    jobs = [0] * len(drawn)
    gone: set[int] = set()
    most = 0

    def view() -> View:
        room = len(drawn) - len(members)
        return View(members=list(members.values()), live=set(live), room=room, next_number=len(members))

    while True:
        job = next_job(view(), rules) if len(live) < slots else "wait"
        if isinstance(job, Go):
            number = len(members) if job.number is None else job.number
            jobs[number] += 1
            member = members.get(number) or Member(number, drawn[number].config.family, records.RUNNING, job.until)
            members[number] = replace(member, state=records.RUNNING, until=job.until)
            live.append(number)
            continue
        if not live:
            return Game(most, [members[number].epoch if number in members else 0 for number in range(len(drawn))], jobs)
        number = live.pop(0)
        member = members[number]
        bests = [*member.bests]
        while len(bests) < member.until:
            bests.append(bests[-1] * rng.uniform(0.9, 1.0) if bests else rng.random())
        state = records.COMPLETE if member.until == rules.rungs[-1] else records.PAUSED
        writing = drawn[number].size.last_bytes  # beside the one that it replaces
        if spec.resources.checkpoint_every_seconds is not None:
            writing += sum(drawn[one].size.last_bytes for one in [number, *live])
        most = max(most, writing + sum(_held(spec.keep, members, gone, drawn)))
        members[number] = replace(member, state=state, bests=tuple(bests))
        if state == records.PAUSED and has_ranks_that_stay:
            gone.update(stranded(view(), rules, number))


def _held(keep: Keep, members: Mapping[int, Member], gone: Collection[int], drawn: Sequence[Drawn]) -> Iterator[int]:
    """Bytes of each trial's checkpoints, by the rules of :mod:`mmtune.study.keeping`."""
    is_over = {number: member for number, member in members.items() if member.state == records.COMPLETE}
    standings = {number: Standing(str(number), m.family, (m.bests[-1],)) for number, m in is_over.items()}
    kept = places([*standings.values()], keep)
    for number, member in members.items():
        size = drawn[number].size
        if number in is_over:
            yield size.best_bytes if str(number) in kept else 0
        elif number not in gone:
            yield size.best_bytes + size.last_bytes
        else:
            own = Standing(str(number), member.family, (member.bests[-1],))
            yield size.best_bytes if str(number) in places([*standings.values(), own], keep) else 0


def _kept(spec: SearchSpec, drawn: Sequence[Drawn], num: float) -> float:
    """Bytes of the weights that stay in the end."""
    mean = fmean(trial.size.best_bytes for trial in drawn)
    if isinstance(spec.keep, KeepTop):
        return min(spec.keep.top, num) * mean
    if spec.keep == "all":
        return num * mean
    families: dict[str, list[int]] = {}
    for trial in drawn:
        families.setdefault(trial.config.family, []).append(trial.size.best_bytes)
    front = _front_size(num, len(spec.objectives))
    return sum(map(fmean, families.values())) + max(0.0, front - len(families)) * mean


def _front_size(num: float, axes: int) -> float:
    """How many of ``num`` trials no other beats, on average, where nothing ties the axes (Bentley et al. 1978)."""
    return min(num, math.log(num) ** (axes - 1) / math.factorial(axes - 1)) if num > 1 else 1.0


def _others(spec: SearchSpec, data_dir: str | None, num: float) -> float:
    """Bytes of predictions and logs."""
    from trainables.data.open import labelled_rows
    from trainables.data.reading.dataset import DatasetRef, load_target

    config = next(_configs(spec, data_dir, count=1))
    target = load_target(DatasetRef.of(config), spec.fixed.get("target"))
    rows = len(labelled_rows(config, target)["val"])
    return num * (rows * (4 * target.task.num_outputs + _LABEL) + _TRIAL + _EPOCH * spec.epochs)


def model_of(config: TrialConfig) -> str:
    """What is alike where the models have one size and pass the same checks: all but fractions and what trains it."""
    values = config.to_dict()
    uda = {key: values["uda"][key] for key in ("mode", "bn_eval_for_aug")}
    values = {**values, "uda": uda, "optim": None, "loss": None}
    model = {key: value for key, value in values["model"].items() if not isinstance(value, float)}
    return repr({**values, "model": model})


def _configs(spec: SearchSpec, data_dir: str | None, *, count: int) -> Iterator[TrialConfig]:
    """The first trials as the sampler proposes them while no trial has a result."""
    from mmtune.search.journal import Journal

    journal = Journal(None, name=spec.study, objectives=[(item.metric, item.mode) for item in spec.objectives])
    for params in spec.try_first[:count]:
        journal.enqueue(to_optuna(spec.space, params))
    sampler = spec.sampler
    rules = spec.rules
    for number in range(count):
        proposer = make_sampler(
            sampler.name,
            study_seed=sampler.seed,
            number=number,
            options=sampler.options,
            space=spec.space,
            members=[],
            rungs=rules.rungs,
            by_cost=spec.budget.is_of_work,
            lessons=spec.lessons,
        )
        yield spec.trial_config(suggest(spec.space, journal.ask(proposer)), data_dir)
