"""Samplers: a row of ``SAMPLERS`` each, from which ``check``, lists and the schema take what a sampler is.

A fresh sampler is made for every trial, seeded from (study seed, trial number); what it has learnt lies in
the Optuna storage. A study's next proposal is therefore a function of its folder, and resuming needs no
pickled sampler.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from mmtune.search.lessons import Lesson
from mmtune.search.rungs import Member
from mmtune.space.domains import Domain, Number
from mmtune.space.space import Space
from trainables.config import Section
from trainables.seeds import derive_seed

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


@dataclass(frozen=True)
class Question:
    """What a proposal depends on, beside the journal that Optuna's samplers read."""

    seed: int
    """Of this trial's proposal."""
    study_seed: int
    space: Space = field(default_factory=lambda: Space({}))
    members: Sequence[Member] = ()
    """The study's trials so far."""
    rungs: Sequence[int] = (1,)
    """Of the schedule; the last is a whole trial."""
    by_cost: bool = False
    """Whether device time is what the budget ends by."""
    lessons: Sequence[Lesson] = ()
    """Trials of other studies."""


class ParzenOptions(Section):
    """Options of ``parzen``."""

    random_share: float = Field(default=0.34, ge=0, le=1)
    """Of proposals that are drawn at random, whatever is known."""
    even_share: float = Field(default=0.25, gt=0, le=1)
    """Of the budget, what searched families share evenly; the rest goes where the best third is best."""


class TpeOptions(Section):
    """Options of ``tpe``."""

    n_startup_trials: int = Field(default=8, ge=0)
    """The first so many trials are random."""
    n_ei_candidates: int = Field(default=24, ge=1)
    """Points that are drawn from the good trials' density, of which the best is proposed."""
    multivariate: bool = True
    """Whether parameters are modelled together."""
    group: bool | None = None
    """Whether parameters that exist together are modelled apart from others; null: as multivariate."""
    constant_liar: bool = True
    """Whether running trials count as bad, so that others are proposed elsewhere."""

    @model_validator(mode="after")
    def _groups_are_multivariate(self) -> TpeOptions:
        if self.group and not self.multivariate:
            raise ValueError("group: needs multivariate: true")
        return self


class QmcOptions(Section):
    """Options of ``qmc``."""

    qmc_type: Literal["sobol", "halton"] = "sobol"
    """The sequence."""
    scramble: bool = True
    """Whether it is scrambled by the study's seed."""


class Nsga2Options(Section):
    """Options of ``nsga2``."""

    population_size: int = Field(default=50, ge=2)
    """Trials of a generation."""
    mutation_prob: float | None = Field(default=None, ge=0, le=1)
    """Of each parameter of a child to be drawn anew; null: 1 / parameters."""
    crossover_prob: float = Field(default=0.9, ge=0, le=1)
    """Of a child to have two parents."""
    swapping_prob: float = Field(default=0.5, ge=0, le=1)
    """Of each parameter of such a child to be the second parent's."""


class GpOptions(Section):
    """Options of ``gp``."""

    n_startup_trials: int = Field(default=10, ge=0)
    """The first so many trials are random."""
    deterministic_objective: bool = False
    """Whether the same parameters always give the same value."""


@dataclass(frozen=True)
class SamplerKind:
    """A row of ``SAMPLERS``."""

    name: str
    about: str
    options: type[Section]
    """What ``sampler:`` takes beside name and seed; Optuna's samplers in Optuna's words."""
    make: Callable[[Question, Any], BaseSampler]
    """From what is known and the options; imports Optuna."""
    is_finite: bool = False
    """Whether it needs a space with an end: a step in each float."""
    takes_prior: bool = False
    """Whether it follows the ``prior`` of a parameter, and other studies (``learn_from``)."""


def _parzen(ask: Question, options: ParzenOptions) -> BaseSampler:
    from mmtune.search.given import Given
    from mmtune.search.parzen import propose
    from mmtune.space.optuna_names import to_optuna

    def params() -> dict[str, Any]:
        rng = random.Random(ask.seed)
        known = {"members": ask.members, "rungs": ask.rungs, "by_cost": ask.by_cost, "lessons": ask.lessons}
        return to_optuna(ask.space, propose(ask.space, rng=rng, **known, **dict(options)))

    return Given(params, seed=ask.seed)


def _tpe(ask: Question, options: TpeOptions) -> BaseSampler:
    from optuna.samplers import TPESampler

    group = options.multivariate if options.group is None else options.group
    return TPESampler(seed=ask.seed, **{**dict(options), "group": group})


def _random(ask: Question, options: Section) -> BaseSampler:
    from optuna.samplers import RandomSampler

    from mmtune.search.belief import beliefs_of, drawer
    from mmtune.search.given import Given
    from mmtune.space.drawing import assign
    from mmtune.space.optuna_names import to_optuna

    if not beliefs_of(ask.space, ask.lessons):
        return RandomSampler(seed=ask.seed)

    def params() -> dict[str, Any]:
        rng = random.Random(ask.seed)
        pick = drawer(ask.space, members=ask.members, rungs=ask.rungs, rng=rng, lessons=ask.lessons)
        return to_optuna(ask.space, assign(ask.space, pick))

    return Given(params, seed=ask.seed)


def _qmc(ask: Question, options: QmcOptions) -> BaseSampler:
    from optuna.samplers import QMCSampler

    return QMCSampler(seed=ask.study_seed, **dict(options))  # one sequence: the same seed for all trials


def _nsga2(ask: Question, options: Nsga2Options) -> BaseSampler:
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=ask.seed, **dict(options))


def _gp(ask: Question, options: GpOptions) -> BaseSampler:
    from optuna.samplers import GPSampler

    return GPSampler(seed=ask.seed, **dict(options))


def _brute_force(ask: Question, options: Section) -> BaseSampler:
    from mmtune.search.exhaustive import Exhaustive

    return Exhaustive(seed=ask.seed)


_ROWS = (
    SamplerKind(
        "parzen",
        "a share at random, else near the best of the highest rungs; the default",
        ParzenOptions,
        _parzen,
        takes_prior=True,
    ),
    SamplerKind("tpe", "Optuna's tree-structured Parzen estimator, multivariate", TpeOptions, _tpe),
    SamplerKind(
        "random", "uniform over the space, or as a prior or other studies have it", Section, _random, takes_prior=True
    ),
    SamplerKind("qmc", "quasi-random (Sobol): covers the space more evenly than random", QmcOptions, _qmc),
    SamplerKind("nsga2", "evolutionary, for several objectives", Nsga2Options, _nsga2),
    SamplerKind("gp", "Gaussian process; few trials, few parameters", GpOptions, _gp),
    SamplerKind("brute_force", "every combination of a finite space", Section, _brute_force, is_finite=True),
)
SAMPLERS: dict[str, SamplerKind] = {row.name: row for row in _ROWS}


def make_sampler(name: str, *, options: Section, study_seed: int, number: int, **known: Any) -> BaseSampler:
    """The sampler that proposes trial ``number``.

    Args:
        name: a key of ``SAMPLERS``.
        options: its own.
        study_seed: of the sampler section.
        number: Optuna's number of the trial.
        known: the other fields of a :class:`Question`.
    """
    from optuna.exceptions import ExperimentalWarning

    seed = derive_seed(study_seed, "sampler", number) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return SAMPLERS[name].make(Question(seed, study_seed % 2**32, **known), options)


def sampler_problem(kind: SamplerKind, domains: Mapping[str, Sequence[Domain]], *, learns: bool = False) -> str | None:
    """Why a sampler cannot search these domains, or learn from other studies if it shall; None if it can."""
    endless = [key for key, alternatives in domains.items() if any(map(_is_endless, alternatives))]
    if kind.is_finite and endless:
        return f"'{kind.name}' needs a step in each float; without one: {', '.join(endless)}"
    believed = [key for key, some in domains.items() if any(domain.prior is not None for domain in some)]
    able = " or ".join(row.name for row in SAMPLERS.values() if row.takes_prior)
    if learns and not kind.takes_prior:
        return f"'{kind.name}' learns from no other study; give {able}, or take learn_from out"
    if believed and not kind.takes_prior:
        return f"'{kind.name}' takes no prior, which {', '.join(believed)} has; give {able}, or take it out"
    return None


def _is_endless(domain: Domain) -> bool:
    return isinstance(domain, Number) and not domain.is_int and domain.step is None
