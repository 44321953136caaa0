"""What a study's folder will take: from the models that its trials will have, and from what stays of them.

The models are those of the trials that the sampler proposes while it knows no result: the rows of ``try_first``, then
what its seed gives, by which the default sampler also draws the family later.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from mmtune.search.promotion import Rules
from mmtune.search.samplers import make_sampler
from mmtune.search.schedulers import SCHEDULERS
from mmtune.space.optuna_names import suggest, to_optuna
from mmtune.spec.search_spec import SearchSpec
from mmtune.spec.sections import KeepTop

if TYPE_CHECKING:
    from trainables.config import TrialConfig
    from trainables.model import ModelSize

_DRAWS, _MODELS = 64, 32  # trials that are proposed, different models that are built, at most
_TRIAL, _EPOCH = 80_000, 5_000  # bytes of logs: Tune's snapshot, journal and config of a trial; rows and events
_LABEL = 40  # bytes of a row of predictions.parquet beside its logits


@dataclass(frozen=True)
class Disk:
    """Bytes of a study's folder."""

    running: int
    """Just before its end, when most trials are paused and have all they need to go on."""
    over: int
    """When it is over."""


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
        return _model_of(config) in self._known

    def of(self, config: TrialConfig) -> ModelSize:
        """The size of a config's model.

        Raises:
            ValueError: it cannot be built.
        """
        from trainables.model import model_size

        key = _model_of(config)
        if key not in self._known:
            self._known[key] = model_size(config, workers=self._workers)
        return self._known[key]


def predict_disk(spec: SearchSpec, data_dir: str | None, *, slots: int, sizes: ModelSizes) -> Disk:
    """What the folder of ``spec`` will take with ``slots`` trials at the same time; of one trial without such a budget.

    Raises:
        ValueError: a model that cannot be built.
    """
    num = spec.budget.trials or 1
    drawn = list(_sizes(spec, data_dir, count=min(num, _DRAWS), sizes=sizes))
    best, last = fmean(size.best_bytes for _, size in drawn), fmean(size.last_bytes for _, size in drawn)
    rules = _rules(spec)
    families = {family for family, _ in drawn}
    whole = max(len(families), num // rules.eta ** (len(rules.rungs) - 1))  # of the trials, trained to the last epoch
    waiting = max(num - whole, 0) if len(rules.rungs) > 1 else 0
    other, kept = _others(spec, data_dir, num), _kept(spec, drawn, num)
    running = min(waiting + slots, num) * (best + last) + last  # one is being written beside the one that it replaces
    return Disk(running=round(other + kept + running), over=round(other + kept))


def _kept(spec: SearchSpec, drawn: list[tuple[str, ModelSize]], num: int) -> float:
    """Bytes of the weights that stay in the end."""
    mean = fmean(size.best_bytes for _, size in drawn)
    if isinstance(spec.keep, KeepTop):
        return min(spec.keep.top, num) * mean
    if spec.keep == "all":
        return num * mean
    families: dict[str, list[int]] = {}
    for family, size in drawn:
        families.setdefault(family, []).append(size.best_bytes)
    front = _front_size(num, len(spec.objectives))
    return sum(map(fmean, families.values())) + max(0.0, front - len(families)) * mean


def _front_size(num: int, axes: int) -> float:
    """How many of ``num`` trials no other beats, on average, where nothing ties the axes (Bentley et al. 1978)."""
    return min(num, math.log(num) ** (axes - 1) / math.factorial(axes - 1)) if num > 1 else 1.0


def _others(spec: SearchSpec, data_dir: str | None, num: int) -> float:
    """Bytes of predictions and logs."""
    from trainables.data.open import labelled_rows
    from trainables.data.reading.dataset import DatasetRef, load_target

    target = load_target(DatasetRef(spec.dataset, data_dir), spec.fixed.get("target"))
    config = next(_configs(spec, data_dir, count=1))
    rows = len(labelled_rows(config, target)["val"])
    return num * (rows * (4 * target.task.num_outputs + _LABEL) + _TRIAL + _EPOCH * spec.epochs)


def _sizes(spec: SearchSpec, data_dir: str | None, *, count: int, sizes: ModelSizes) -> Iterator[tuple[str, ModelSize]]:
    """Family and size of the first trials; those whose models would be too many to build are left out."""
    for config in _configs(spec, data_dir, count=count):
        if config in sizes or len(sizes) < _MODELS:
            yield config.family, sizes.of(config)


def _model_of(config: TrialConfig) -> str:
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
    for number in range(count):
        proposer = make_sampler(
            sampler.name,
            study_seed=sampler.seed,
            number=number,
            options=sampler.options,
            space=spec.space,
            members=[],
            rungs=_rules(spec).rungs,
        )
        yield spec.trial_config(suggest(spec.space, journal.ask(proposer)), data_dir)


def _rules(spec: SearchSpec) -> Rules:
    return SCHEDULERS[spec.scheduler.name].rules(spec.scheduler.options, spec.epochs)
