"""The sections of a search file beside the space: objectives, sampler, scheduler, budget, resources.

Each is a frozen dataclass, and below them a function reads each from a document, which collects what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from mmtune.records import COSTS, METRICS
from mmtune.space.domains import Domain, Number
from mmtune.spec.document import Document
from trainables.messages import describe, show, unknown

SAMPLER_OPTIONS: dict[str, dict[str, type]] = {  # Optuna's words
    "tpe": {
        "n_startup_trials": int,
        "n_ei_candidates": int,
        "multivariate": bool,
        "group": bool,
        "constant_liar": bool,
    },
    "random": {},
    "qmc": {"qmc_type": str, "scramble": bool},
    "nsga2": {"population_size": int, "mutation_prob": float, "crossover_prob": float, "swapping_prob": float},
    "gp": {"n_startup_trials": int, "deterministic_objective": bool},
    "brute_force": {},
}
SAMPLER_NAMES = tuple(SAMPLER_OPTIONS)
SCHEDULER_NAMES = ("asha", "none")


@dataclass(frozen=True)
class Objective:
    metric: str  # in records.METRICS, or, but for the first, in records.COSTS
    mode: str  # max or min, always the metric's own


@dataclass(frozen=True)
class SamplerSpec:
    name: str = "tpe"
    seed: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)  # see SAMPLER_OPTIONS


@dataclass(frozen=True)
class SchedulerSpec:
    name: str = "asha"
    grace_epochs: int = 1  # no trial is stopped earlier
    reduction_factor: int = 3  # one of so many trials goes on from a rung
    brackets: int = 1


@dataclass(frozen=True)
class Budget:
    """What ends the study, whichever comes first; None is no limit."""

    trials: int | None = None
    device_hours: float | None = None  # wall hours x workers, over all trials
    wall_hours: float | None = None


@dataclass(frozen=True)
class Resources:
    workers: int = 1  # ranks of one trial
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0  # 0 to 1; a rank drives one device
    concurrent_trials: int | Literal["auto"] = "auto"
    isolation: str = "slot"  # slot: workers serve trial after trial; process: fresh workers for each
    max_trial_retries: int = 2


def read_objectives(document: Document) -> tuple[Objective, ...]:
    """``objectives:``, a list of metrics; without it val_accuracy."""
    default = (Objective("val_accuracy", "max"),)
    entries = document.entries("objectives", example="{metric: val_accuracy, mode: max}")
    if entries is None:
        return default
    if not entries:
        document.bad(("objectives",), "is empty; give at least one {metric: ..., mode: ...}")
    both, objectives = {**METRICS, **COSTS}, []
    for i, entry in enumerate(entries):
        path = ("objectives", i)
        if not isinstance(entry, dict):
            document.bad(path, f"is {describe(entry)}; write {{metric: val_accuracy, mode: max}}")
            continue
        document.known_keys(path, entry, ("metric", "mode"))
        metric, mode = entry.get("metric"), entry.get("mode")
        if metric is None:
            if not document.has_problem(path):
                document.bad(path, f"has no metric. Known: {', '.join(both)}")
            continue
        if not document.is_text(metric, (*path, "metric")):
            continue
        if metric not in both:
            document.bad((*path, "metric"), unknown(metric, both))
            continue
        if i == 0 and metric not in METRICS:
            allowed = ", ".join(METRICS)
            document.bad((*path, "metric"), f"'{metric}' is a cost; the first objective is one of {allowed}")
        if any(metric == other.metric for other in objectives):
            document.bad((*path, "metric"), f"'{metric}' is there already")
        own = both[metric][0]
        if "mode" in entry and mode != own:
            given = f"'{metric}' is better when {'larger' if own == 'max' else 'smaller'}"
            document.bad((*path, "mode"), f"{show(mode)} is wrong: {given}, write {own}")
        objectives.append(Objective(metric, own))
    return tuple(objectives) or default


def read_sampler(document: Document, domains: Mapping[str, Sequence[Domain]]) -> SamplerSpec:
    """``sampler:``; ``domains`` is what it will search."""
    section = document.section("sampler")
    name = document.choice("sampler", section, "name", SAMPLER_NAMES, "tpe")
    options = SAMPLER_OPTIONS.get(name, {})
    if name in SAMPLER_OPTIONS:
        document.known_keys(("sampler",), section, ("name", "seed", *options))
    seed = document.whole("sampler", section, "seed", 1, at_least=0)
    given = {key: value for key, value in section.items() if key in options}
    for key, value in given.items():
        path, kind = ("sampler", key), options[key]
        if kind is bool:
            document.flag(value, path)
        elif kind is str:
            document.is_text(value, path)
        elif document.is_number(value, path, is_int=kind is int) and value < 0:
            document.bad(path, f"{show(value)} must be at least 0")
    if name == "brute_force":
        endless = [key for key, alternatives in domains.items() if any(map(_is_endless, alternatives))]
        if endless:
            without = ", ".join(endless)
            document.bad(("sampler", "name"), f"'brute_force' needs a step in each float; without one: {without}")
    return SamplerSpec(name, seed, given)


def read_scheduler(document: Document, *, epochs: int) -> SchedulerSpec:
    """``scheduler:``; ``epochs`` is the most that a trial trains."""
    section = document.section("scheduler")
    name = document.choice("scheduler", section, "name", SCHEDULER_NAMES, "asha")
    options = ("grace_epochs", "reduction_factor", "brackets")
    document.known_keys(("scheduler",), section, ("name", *options))
    if name == "none":
        for key in options:
            if key in section:
                whole = "or replace it all: --set 'scheduler={name: none}'"
                document.bad(("scheduler", key), f"has no effect with name: none; take it out ({whole})")
    default = SchedulerSpec()
    grace = document.whole("scheduler", section, "grace_epochs", default.grace_epochs, at_least=1)
    factor = document.whole("scheduler", section, "reduction_factor", default.reduction_factor, at_least=2)
    brackets = document.whole("scheduler", section, "brackets", default.brackets, at_least=1)
    if name == "asha" and not document.has_problem(("fixed", "epochs")) and grace > epochs:
        document.bad(("scheduler", "grace_epochs"), f"{grace} is above the epochs of a trial ({epochs})")
    return SchedulerSpec(name, grace, factor, brackets)


def read_budget(document: Document) -> Budget:
    """``budget:``, at least one limit."""
    section = document.section("budget")
    document.known_keys(("budget",), section, ("trials", "device_hours", "wall_hours"))
    if all(value is None for value in section.values()) and not document.has_problem(("budget",)):
        place = ... if "budget" in document.data else None
        document.bad(("budget",), "is missing: give trials, device_hours or wall_hours", place=place)
    trials = document.whole("budget", section, "trials", None, at_least=1)
    hours: dict[str, float | None] = {}
    for key in ("device_hours", "wall_hours"):
        hours[key] = value = section.get(key)
        if value is not None and document.is_number(value, ("budget", key)):
            hours[key] = float(value)
            if value <= 0:
                document.bad(("budget", key), f"{show(value)} must be above 0")
    return Budget(trials, **hours)


def read_resources(document: Document) -> Resources:
    """``resources:`` of one trial, and how many run at the same time."""
    section, default = document.section("resources"), Resources()
    document.known_keys(("resources",), section, [item.name for item in fields(Resources)])
    shares = {}
    for key, highest in (("cpus_per_worker", 1e6), ("gpus_per_worker", 1)):
        value = section.get(key)
        shares[key] = getattr(default, key)
        if value is not None and document.is_number(value, ("resources", key)):
            shares[key] = float(value)
            why = "; a worker drives one device, give more workers" if key == "gpus_per_worker" else ""
            if not 0 <= value <= highest:
                document.bad(("resources", key), f"{show(value)} is not in 0 to {highest:g}{why}")
            elif 0 < value < 1e-4:
                document.bad(("resources", key), f"{show(value)} is below 0.0001, Ray's smallest share")
    if not any(shares.values()):
        document.bad(("resources", "cpus_per_worker"), "is 0; a worker without a GPU needs a share of a CPU")
    concurrent: Any = section.get("concurrent_trials", "auto")
    if concurrent != "auto" and not isinstance(concurrent, int | float):
        document.bad(("resources", "concurrent_trials"), f"{describe(concurrent)} is neither auto nor a whole number")
    elif concurrent != "auto":
        document.whole("resources", section, "concurrent_trials", "auto", at_least=1)
    return Resources(
        workers=document.whole("resources", section, "workers", default.workers, at_least=1),
        **shares,
        concurrent_trials=concurrent if isinstance(concurrent, int) else "auto",
        isolation=document.choice("resources", section, "isolation", ("slot", "process"), default.isolation),
        max_trial_retries=document.whole(
            "resources", section, "max_trial_retries", default.max_trial_retries, at_least=0
        ),
    )


def _is_endless(domain: Domain) -> bool:
    return isinstance(domain, Number) and not domain.is_int and domain.step is None
