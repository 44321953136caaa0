"""The sections of a search file beside space and sampler: objectives, scheduler, budget, resources."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from mmtune.records import COSTS
from mmtune.search.schedulers import SCHEDULERS, AshaOptions, RungOptions
from mmtune.spec.confirm import Confirm
from mmtune.spec.document import Document
from mmtune.spec.domains import CategoricalDomain
from mmtune.spec.sampler import SamplerSpec
from mmtune.spec.validation import Model, read_model
from mmtune.trackers.kinds import TRACKERS
from trainables.config import Section
from trainables.messages import describe, show, unknown
from trainables.metrics import metric_mode, objective_names


class Objective(Section):
    """What is optimised; the best epoch of a trial goes by the first."""

    metric: str
    """A validation metric; but for the first also a cost. `mmtune list metrics`."""
    mode: Literal["max", "min"] = Field(default_factory=lambda data: mode_of(data["metric"]))
    """Always the metric's own direction, so it may be left out."""

    @field_validator("metric")
    @classmethod
    def _is_known(cls, value: str) -> str:
        known = (*objective_names(), *COSTS)
        if value not in known:
            raise ValueError(unknown(value, known))
        return value

    @field_validator("mode", mode="before")
    @classmethod
    def _is_the_metrics_own(cls, value: Any, info: ValidationInfo) -> Any:
        metric = info.data.get("metric")
        if metric is not None and value != (own := mode_of(metric)):
            better = "larger" if own == "max" else "smaller"
            raise ValueError(f"{show(value)} is wrong: '{metric}' is better when {better}, write {own}")
        return value


class SchedulerSpec(Section):
    """How far each trial trains; the other keys are the scheduler's own."""

    name: str = "asha"
    """`mmtune list schedulers`."""
    options: Section = AshaOptions()
    """See SCHEDULERS; in a file they stand beside name."""


class Budget(Section):
    """What ends the study, whichever comes first; at least one is given."""

    trials: int | None = Field(default=None, ge=1)
    """Trials of the study; null is no limit."""
    epochs: int | None = Field(default=None, ge=1)
    """Epochs of all trials together, each counted once; null is no limit."""
    device_hours: float | None = Field(default=None, gt=0)
    """Hours x devices (a worker is gpus_per_worker GPUs, or one CPU device) of trials and caches; null is no limit."""
    wall_hours: float | None = Field(default=None, gt=0)
    """Hours from start to end; null is no limit."""

    @property
    def is_of_work(self) -> bool:
        """Whether epochs or time may end the study, so that what a trial takes counts."""
        return any(limit is not None for limit in (self.epochs, self.device_hours, self.wall_hours))


class Resources(Section):
    """What one trial takes, and how many run at the same time."""

    workers: int = Field(default=1, ge=1)
    """Ranks of one trial."""
    cpus_per_worker: float = Field(default=1.0, ge=0, le=1e6)
    """CPUs, or a share of one, of each rank."""
    gpus_per_worker: float = Field(default=0.0, ge=0, le=1)
    """A rank drives one device or a share of one; 0 trains on CPUs."""
    concurrent_trials: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Trials at the same time; auto: as many as fit."""
    isolation: Literal["slot", "process"] = "slot"
    """slot: workers serve trial after trial; process: fresh workers for each."""
    max_trial_retries: int = Field(default=2, ge=0)
    """A trial whose workers were lost goes on from its last checkpoint so many times."""
    frozen_seconds: float = Field(default=300.0, ge=0, le=1e6)
    """A worker that has not answered for so long is killed, and its trial goes on from its checkpoint; 0 never is."""
    checkpoint_every_seconds: float | None = Field(default=None, ge=0, le=1e6)
    """Seconds between checkpoints inside an epoch, and one when SIGTERM or Ctrl-C ends the study or SIGTERM a worker.

    For machines that are taken back, such as spot nodes: at most so much is lost, and nothing where a signal comes 10 s
    ahead. null: a trial goes on from its last finished epoch.
    """
    max_equal_failures: int = Field(default=3, ge=0)
    """The same error in so many trials in a row stops the study; 0 never does. Divergence and full memory aside."""

    @property
    def threads(self) -> int:
        """CPU threads of a worker."""
        return max(1, int(self.cpus_per_worker))

    @property
    def devices(self) -> float:
        """That a trial holds: GPUs or shares of them; on CPUs a worker is one device, however many it has."""
        return self.workers * (self.gpus_per_worker or 1.0)

    @field_validator("gpus_per_worker", mode="before")
    @classmethod
    def _is_one_device(cls, value: Any) -> Any:
        if isinstance(value, int | float) and value > 1:
            raise ValueError(f"{show(value)} is not in 0 to 1; a worker drives one device, give more workers")
        return value

    @field_validator("cpus_per_worker", "gpus_per_worker")
    @classmethod
    def _is_no_crumb(cls, value: float) -> float:
        if 0 < value < 1e-4:
            raise ValueError(f"{show(value)} is below 0.0001, Ray's smallest share")
        return value

    @field_validator("concurrent_trials", mode="before")
    @classmethod
    def _is_auto_or_a_number(cls, value: Any) -> Any:
        if value != "auto" and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{describe(value)} is neither auto nor a whole number")
        return value

    @model_validator(mode="after")
    def _has_a_share_of_something(self) -> Resources:
        if not self.cpus_per_worker and not self.gpus_per_worker:
            raise ValueError("cpus_per_worker: is 0; a worker without a GPU needs a share of a CPU")
        return self


class KeepTop(Section):
    """The weights of so many trials stay."""

    top: int = Field(ge=1)
    """The best so many by the first objective; equals share a place."""


Keep = Literal["best", "all"] | KeepTop


STUDY_NAME = "[a-z0-9][a-z0-9._-]{0,99}"  # a folder's name has 255 characters, files beside it have longer ones
NOT_FIXED = {
    "family": "belongs at the top level",
    "dataset": "belongs at the top level",
    "objective": "is the metric of the first of objectives",
    "data_dir": "comes from --data",
    "device": "follows resources.gpus_per_worker",
    "workers": "is resources.workers",
    "threads": "follows resources.cpus_per_worker",
    "checkpoint_every_seconds": "is resources.checkpoint_every_seconds",
}
NOT_SEARCHED = {
    "family": "belongs at the top level: family: {type: categorical, choices: [...]}",
    "dataset": "cannot be searched, scores on different data do not compare; give it at the top level",
    "target": "cannot be searched, scores on different labels do not compare; put it under fixed",
    "positive_class": "cannot be searched, F1 of different classes does not compare; put it under fixed",
    "epochs": "cannot be searched, it is the fidelity that the scheduler compares trials at; put it under fixed",
    "objective": "cannot be searched, it is what the search is for; see objectives",
    "seed": "cannot be searched, that would select luck; put it under fixed, and train the best again on other seeds: "
    "mmtune confirm STUDY",
    "data_dir": "comes from --data",
    "device": "follows resources.gpus_per_worker",
    "workers": "is resources.workers",
    "threads": "follows resources.cpus_per_worker",
    "checkpoint_every_seconds": "is resources.checkpoint_every_seconds",
}


class SearchFile(Section):
    """The keys of a search file; each section is read and checked on its own."""

    study: str | None = Field(default=None, pattern=f"^{STUDY_NAME}$")
    """Name of the study and its folder; null: the file's name."""
    family: str | CategoricalDomain
    """The model, or several as a categorical: {type: categorical, choices: [text, image]}. `mmtune list families`."""
    dataset: str
    """The data. `mmtune list datasets`."""
    objectives: list[Objective] | None = None
    """What is optimised; null: what the task is tuned by. Several: rungs rank by fronts, epochs by the first.

    val_accuracy where a sample has one class, val_ap_micro where it has any number, val_rmse for numbers.
    """
    constraints: dict[str, str] | None = None
    """What a trial may cost at most, such as {peak_memory_gib: <= 12, inference_ms_per_sample: <= 20}.

    A trial that goes beyond ends at its next report as INFEASIBLE: it cannot be best, and the sampler keeps away.
    Costs are those of `mmtune list metrics`.
    """
    fixed: dict[str, Any] | None = None
    """Settings that all trials have, flat: {epochs: 12, optim.schedule: cosine}; what is left out has its default."""
    space: dict[str, Any] | None = None
    """Settings that are searched, each with its domain, or with several that exclude each other by `when`."""
    try_first: list[dict[str, Any]] | None = None
    """Trials to begin with, in this order: values of searched settings; the sampler proposes what they leave out."""
    sampler: SamplerSpec | None = None
    """What proposes trials; null: parzen."""
    scheduler: SchedulerSpec | None = None
    """How far each trial trains; null: asha."""
    budget: Budget
    """What ends the study, whichever comes first; at least one limit is given."""
    resources: Resources | None = None
    """What one trial takes, and how many run at the same time; null: one worker on one CPU."""
    keep: Keep | None = None
    """Whose weights (best.safetensors) stay when trials are over: best, {top: 5} or all; null: best.

    best: the best trial of each family, and with several objectives the Pareto front. Of all others the config stays,
    which trains to the same digits again. What a trial needs to go on (last.safetensors) stays until it is over.
    """
    confirm: Confirm | None = None
    """What follows the search: the best again on fresh seeds, each tested once; null: nothing."""
    trackers: list[str] | None = None
    """Where trials are sent while they run: [mlflow, wandb]; null: nowhere. `mmtune list trackers`."""
    finalists: dict[str, dict[str, Any]] | None = None
    """In place of space: configurations by name, each trained whole on every one of seeds and tested once at its end.

    What `mmtune confirm` writes: {a: {optim.lr: 1.0e-3}, b: {optim.lr: 5.0e-4}}; their family as well where it differs.
    """
    seeds: list[int] | None = None
    """Of the finalists."""


def mode_of(name: str) -> Literal["max", "min"]:
    """Which way a metric or a cost is better."""
    return COSTS[name].mode if name in COSTS else metric_mode(name)


def read_objectives(document: Document) -> tuple[Objective, ...]:
    """``objectives:``, a list of metrics; without it val_accuracy, until the data says what kind of task it is."""
    default = (Objective(metric="val_accuracy"),)
    entries = document.entries("objectives", example="{metric: val_accuracy, mode: max}")
    if entries is None:
        return default
    if not entries:
        document.bad(("objectives",), "is empty; give at least one {metric: ..., mode: ...}")
    objectives: list[Objective] = []
    for i, entry in enumerate(entries):
        path = ("objectives", i)
        if not isinstance(entry, dict):
            document.bad(path, f"is {describe(entry)}; write {{metric: val_accuracy, mode: max}}")
            continue
        document.known_keys(path, entry, list(Objective.model_fields))
        metric = entry.get("metric")
        if metric is None:
            if not document.has_problem(path):
                document.bad(path, f"has no metric. Known: {', '.join((*objective_names(), *COSTS))}")
            continue
        if i == 0 and isinstance(metric, str) and metric in COSTS:
            allowed = ", ".join(objective_names())
            document.bad((*path, "metric"), f"'{metric}' is a cost; the first objective is one of {allowed}")
        if any(metric == other.metric for other in objectives):
            document.bad((*path, "metric"), f"'{metric}' is there already")
        objective = read_model(document, path, entry, Objective)
        objectives += [] if objective is None else [objective]
    return tuple(objectives) or default


def read_trackers(document: Document) -> tuple[str, ...]:
    """``trackers:``, a list of names."""
    entries = document.entries("trackers", example="mlflow") or []
    for i, name in enumerate(entries):
        if not isinstance(name, str) or name not in TRACKERS:
            document.bad(("trackers", i), unknown(str(name), tuple(TRACKERS)))
        elif name in entries[:i]:
            document.bad(("trackers", i), f"'{name}' is there already")
    return tuple(name for name in TRACKERS if name in entries)


def read_scheduler(document: Document, *, epochs: int) -> SchedulerSpec:
    """``scheduler:``; ``epochs`` is the most that a trial trains."""
    given = document.section("scheduler", has_name=True)
    spec = read_model(document, ("scheduler",), given, SchedulerSpec) or SchedulerSpec()
    kind = SCHEDULERS.get(spec.name)
    if kind is None:
        document.bad(("scheduler", "name"), unknown(spec.name, SCHEDULERS))
        return SchedulerSpec()
    own = ("name", *kind.options.model_fields)
    others = {key for other in SCHEDULERS.values() for key in other.options.model_fields} - {*own}
    document.known_keys(("scheduler",), {key: value for key, value in given.items() if key not in others}, own)
    for key in [key for key in given if key in others]:
        whole = f"or replace it all: --set 'scheduler={{name: {kind.name}}}'"
        document.bad(("scheduler", key), f"has no effect with name: {kind.name}; take it out ({whole})")
    options = read_model(document, ("scheduler",), given, kind.options) or kind.options()
    if isinstance(options, RungOptions) and not document.has_problem(("fixed", "epochs")):
        grace = options.grace_epochs
        if grace > epochs and "grace_epochs" in given:  # by default a shorter trial is one rung
            document.bad(("scheduler", "grace_epochs"), f"{grace} is above the epochs of a trial ({epochs})")
    return spec.model_copy(update={"options": options})


def read_budget(document: Document) -> Budget:
    """``budget:``, at least one limit."""
    budget = _read(document, "budget", Budget)
    if all(limit is None for limit in vars(budget).values()) and not document.has_problem(("budget",)):
        place = ... if "budget" in document.data else None
        document.bad(("budget",), "is missing: give trials, epochs, device_hours or wall_hours", place=place)
    return budget


def read_resources(document: Document) -> Resources:
    """``resources:`` of one trial, and how many run at the same time."""
    return _read(document, "resources", Resources)


def read_keep(document: Document) -> Keep:
    """``keep:``, a word or a number of trials."""
    given = document.data.get("keep")
    if given is None:
        return "best"
    if isinstance(given, dict):
        document.known_keys(("keep",), given, list(KeepTop.model_fields))
        return read_model(document, ("keep",), given, KeepTop) or "best"
    if given in ("best", "all"):
        return given
    is_word = isinstance(given, str)
    known = ("best", "all", "{top: 5}")
    document.bad(("keep",), unknown(given, known) if is_word else f"is {describe(given)}; write {', '.join(known)}")
    return "best"


def _read(document: Document, name: str, model: type[Model]) -> Model:
    section = document.section(name)
    document.known_keys((name,), section, list(model.model_fields))
    return read_model(document, (name,), section, model) or model()
