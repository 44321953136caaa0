"""SearchSpec: one search file, typed and frozen. ``load_spec`` collects everything wrong in it and raises once.

1. The YAML is read with the line of every key; anchors, tags and duplicate keys are refused.
2. Overrides (``key=value``) change that tree, and take the place of the line in messages.
3. Each section is checked on its own, each key against the field of ``TrialConfig`` that it sets.
4. The space as a whole, ``try_first``, and one TrialConfig for each corner of the space.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmtune.search.lessons import Lesson
from mmtune.search.rungs import Rules
from mmtune.search.samplers import SAMPLERS
from mmtune.search.schedulers import SCHEDULERS, RungOptions
from mmtune.space.corners import corners
from mmtune.space.domains import Categorical, Number
from mmtune.space.problems import unreachable
from mmtune.space.space import Space
from mmtune.spec.configkeys import ConfigKeys, config_problems, flat_fields, known_names
from mmtune.spec.confirm import Confirm, confirming_name, read_confirm
from mmtune.spec.constraints import read_constraints
from mmtune.spec.document import Document, read_source
from mmtune.spec.domains import read_domain
from mmtune.spec.finalists import FINALIST, FinalistsSection
from mmtune.spec.overrides import apply_override
from mmtune.spec.sampler import SamplerSpec, read_sampler
from mmtune.spec.searchfile import OF_CONFIGS, SEARCH_KEYS, final_text, is_config
from mmtune.spec.sections import (
    NOT_FIXED,
    STUDY_NAME,
    Budget,
    Keep,
    Objective,
    Resources,
    SchedulerSpec,
    read_budget,
    read_keep,
    read_objectives,
    read_resources,
    read_scheduler,
    read_trackers,
)
from mmtune.spec.space_section import SpaceSection
from mmtune.spec.validation import with_floats
from trainables.config import TrialConfig
from trainables.messages import show, unknown
from trainables.metrics import objective_names
from trainables.task import Task

_UNKNOWN = Space({})  # one that could not be read
_UDA_GRACE = 4  # docs/methods.md#grace
_ENOUGH = 200  # problems, after which settings are not tried together any more: that takes time


@dataclass(frozen=True)
class SearchSpec:
    """One study: what is searched, by what, for how long. Made by :func:`load_spec`."""

    study: str
    family: str | None  # None when searched
    families: tuple[str, ...]
    dataset: str
    objectives: tuple[Objective, ...]
    fixed: Mapping[str, Any]
    space: Space
    try_first: tuple[Mapping[str, Any], ...]
    sampler: SamplerSpec
    scheduler: SchedulerSpec
    budget: Budget
    resources: Resources
    constraints: Mapping[str, float] = field(default_factory=dict)  # cost -> the most that a trial may have of it
    keep: Keep = "best"  # whose weights stay
    confirm: Confirm | None = None  # what follows the search
    trackers: tuple[str, ...] = ()  # where trials are sent while they run
    finalists: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # settings by name, in place of a search
    has_own_objectives: bool = True  # False: the file names none, so that they follow the task
    warnings: tuple[str, ...] = ()
    lessons: tuple[Lesson, ...] = field(default=(), compare=False, repr=False)  # what sampler.learn_from taught
    source: str = field(default="", compare=False)  # where it was read
    text: str = field(default="", compare=False, repr=False)  # what to_yaml gives

    @property
    def epochs(self) -> int:
        """Epochs of the longest trial that is not stopped."""
        usual = _epochs(self.fixed)
        return max((row.get("epochs", usual) for row in self.finalists.values()), default=usual)

    @property
    def rules(self) -> Rules:
        """The rungs that its trials climb."""
        counts_trials = self.budget.trials is not None
        return SCHEDULERS[self.scheduler.name].rules(self.scheduler.options, self.epochs, counts_trials)

    def corners(self, limit: int = 1000) -> Iterator[Mapping[str, Any]]:
        """Params that show all that trials can be: ends of ranges, each choice; of finalists each on one seed.

        Args:
            limit: of combinations, see :func:`mmtune.space.corners.corners`.
        """
        if self.finalists:
            yield from self.try_first[: len(self.finalists)]
        else:
            yield from corners(self.space, limit)

    def config_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that makes the TrialConfig of ``params``, flat: fixed values, what stands outside, resources."""
        common = {"family": self.family, "dataset": self.dataset, "objective": self.objectives[0].metric}
        wanted = self.resources
        common |= {"device": "gpu" if wanted.gpus_per_worker else "cpu"}
        common |= {"workers": wanted.workers, "threads": wanted.threads}
        common |= {"checkpoint_every_seconds": wanted.checkpoint_every_seconds}
        own = self.finalists.get(params.get(FINALIST, ""), {})
        merged = {**common, **self.fixed, **own, **{key: value for key, value in params.items() if key != FINALIST}}
        return with_floats(merged, flat_fields(merged["family"]))

    def trial_config(self, params: Mapping[str, Any], data_dir: str | Path | None = None) -> TrialConfig:
        """The TrialConfig of ``params``.

        Args:
            data_dir: where the dataset lies; None for embedded ones.

        Raises:
            ValueError: the params are not valid together.
        """
        merged = self.config_params(params)
        if data_dir is not None:
            merged["data_dir"] = str(data_dir)
        return TrialConfig.from_params(merged)

    def of_task(self, task: Task) -> SearchSpec:
        """The spec with what a task is tuned by as its objective, unless the file names its own."""
        if self.has_own_objectives:
            return self
        return replace(self, objectives=(Objective(metric=objective_names(task)[0]),))

    def to_yaml(self) -> str:
        """The search file, overrides applied: loads as an equal spec under any file name.

        Without overrides this is the original text to the byte, plus a line ``study:`` if it had none.
        """
        return self.text


def load_spec(
    search: str | Path | Mapping[str, Any], *, overrides: Sequence[str] = (), name: str | None = None
) -> SearchSpec:
    """The study that a search file describes.

    Args:
        search: a file; YAML itself if it is a string with a line break; or a dict of what the file would say.
        overrides: ``key=value`` each, the value in YAML: ``budget.trials=4``, ``fixed.optim.lr=0.001``,
            ``space.optim.lr.low=1.0e-4``; ``space.optim.lr=null`` takes a parameter out of the space.
        name: of the study, instead of ``study:`` or the file's name.

    Raises:
        SpecError: with everything that is wrong, in the order of the file.
        ValueError: a config of one trial in place of a search file.
    """
    source, content, stem = read_source(search)
    document = Document(source, content, expected=f"a search file is a mapping of {', '.join(SEARCH_KEYS[:3])}, ...")
    if is_config(document.data):
        file = "FILE" if stem is None else source
        raise ValueError(f"{source} is the config of one trial, not a search file; train it: mmtune train {file}")
    for override in overrides:
        apply_override(document, override)
    if name is not None:
        document.put(("study",), name, f"name '{name}'")
    return _Reader(document).spec(stem)


class _Reader:
    """Turns a document into a SearchSpec."""

    def __init__(self, document: Document) -> None:
        self.document, self.bad, self.data = document, document.bad, document.data
        self.known_families, self.known_datasets = known_names()

    def spec(self, stem: str | None) -> SearchSpec:
        """The spec; SpecError if anything is wrong."""
        document = self.document
        if not document.is_readable:
            raise document.error()
        document.known_keys((), self.data, SEARCH_KEYS, misplaced=OF_CONFIGS)
        study = self._study(stem)
        family_domain, families = self._families()
        keys = ConfigKeys(families, self.known_families)
        dataset = document.name("dataset", self.known_datasets)
        objectives = read_objectives(document)
        fixed = self._fixed(keys)
        budget = read_budget(document)
        is_searched = self.data.get("finalists") is None and self.data.get("seeds") is None
        what = self._searched if is_searched else self._finalists
        spec = SearchSpec(
            study=study,
            family=None if isinstance(self.data.get("family"), dict) else "".join(families[:1]),
            families=families,
            dataset=dataset,
            objectives=objectives,
            fixed=fixed,
            **what(keys, family_domain, fixed, budget, study),
            resources=read_resources(document),
            constraints=read_constraints(document),
            keep=read_keep(document),
            trackers=read_trackers(document),
            has_own_objectives=self.data.get("objectives") is not None,
            source=document.source,
        )
        if spec.confirm is not None and not re.fullmatch(STUDY_NAME, confirming_name(study)):
            self.bad(("study",), f"is too long beside confirm, whose study is called {confirming_name(study)}")
        is_family_known = families and not document.has_problem(("family",))
        if is_searched and spec.space is not _UNKNOWN and is_family_known and len(document.problems) < _ENOUGH:
            self._check_corners(spec)
        if document.problems:
            raise document.error()
        return replace(spec, warnings=tuple(_warnings(spec)), text=final_text(document, study))

    def _searched(
        self, keys: ConfigKeys, family: Categorical | None, fixed: Mapping[str, Any], budget: Budget, study: str
    ) -> dict[str, Any]:
        """The fields of a SearchSpec that say what is tried, where that is searched."""
        known = {"family": self.known_families, "dataset": self.known_datasets}
        section = SpaceSection(self.document, keys, family=family, fixed=fixed, known=known)
        space = section.read()
        return {
            "space": space or _UNKNOWN,
            "try_first": section.read_try_first(space, most=budget.trials),
            "sampler": read_sampler(self.document, section.domains, study=study),
            "scheduler": read_scheduler(self.document, epochs=_epochs(fixed)),
            "budget": budget,
            "confirm": read_confirm(self.document),
        }

    def _finalists(
        self, keys: ConfigKeys, family: Categorical | None, fixed: Mapping[str, Any], budget: Budget, study: str
    ) -> dict[str, Any]:
        """The same where it is given: each finalist on each seed, to its end."""
        finalists = FinalistsSection(self.document, keys, family=family, fixed=fixed).read()
        total, most = len(finalists.rows), budget.trials
        if most is not None and finalists.rows and most > total:
            self.bad(("budget", "trials"), f"{most} is above {total}, each finalist on each seed")
        return {
            "finalists": finalists.settings,
            "space": finalists.space,
            "try_first": tuple(finalists.rows[:most]),
            "sampler": SamplerSpec(name="brute_force", options=SAMPLERS["brute_force"].options()),
            "scheduler": SchedulerSpec(name="none", options=SCHEDULERS["none"].options()),
            "budget": budget.model_copy(update={"trials": total if most is None else most}),
        }

    def _study(self, stem: str | None) -> str:
        name, rule = self.data.get("study"), STUDY_NAME
        if name is None:
            name = stem
            if stem is None:
                self.bad((), "is missing", key="study", place=None)
            elif not re.fullmatch(rule, stem):
                self.bad((), f"is missing, and the file's name '{stem}' does not fit {rule}", key="study", place=None)
        elif self.document.is_text(name, ("study",)) and not re.fullmatch(rule, name):
            self.bad(
                ("study",),
                f"{show(name)} does not fit {rule}: lower-case letters, digits, and . _ - inside; at most 100",
            )
        return str(name)

    def _families(self) -> tuple[Categorical | None, tuple[str, ...]]:
        """The domain of a searched family, and the families named that there are."""
        value, known = self.data.get("family"), self.known_families
        if isinstance(value, list):
            self.bad(("family",), "is a list; to search it write {type: categorical, choices: [...]}")
            return None, ()
        if not isinstance(value, dict):
            name = self.document.name("family", known)
            return None, (name,) if name in known else ()
        domain = read_domain(self.document, ("family",), value, can_depend=False)
        if isinstance(domain, Number):
            self.bad(("family", "type"), "a searched family is categorical")
        if not isinstance(domain, Categorical):
            return None, ()
        if domain.prior is not None:
            self.bad(("family", "prior"), "has no effect: families take turns")
        for i, name in enumerate(domain.choices):
            path = ("family", "choices", i)
            if self.document.is_text(name, path) and name not in known:
                self.bad(path, unknown(name, known))
        return domain, tuple(name for name in domain.choices if name in known)

    def _fixed(self, keys: ConfigKeys) -> dict[str, Any]:
        fixed: dict[str, Any] = {}
        for key, value in self.document.section("fixed").items():
            path = ("fixed", key)
            if key in NOT_FIXED:
                self.bad(path, NOT_FIXED[key])
                continue
            problem = keys.key_problem(key, keys.families, is_fixed=True)
            if problem is not None:  # not fixed, then: nothing else shall be judged by it
                self.bad(path, problem)
                continue
            if isinstance(value, dict):
                problem = f"is a mapping; a value is expected for {key}"
            if problem is None:
                problem = keys.value_problem(key, value, keys.families, self.document.odd_words(path))
            if problem is not None:
                self.bad(path, problem)
            fixed[key] = keys.as_float(key, value)
        return fixed

    def _check_corners(self, spec: SearchSpec) -> None:
        """A TrialConfig for each corner of the space; the first thing wrong with each key is noted."""
        seen: set[str] = set()
        for corner in corners(spec.space):
            params = spec.config_params(corner)
            fields = flat_fields(params["family"])
            known = {key: value for key, value in params.items() if key in fields}  # keys are checked by now
            for key, message in config_problems(known, fields):
                if key in seen:
                    continue
                seen.add(key)
                paths = (("space", key), ("fixed", key), (key,))
                where = next((path for path in paths if path in self.document.places), None)
                if where is None:
                    self.bad(("fixed",) if "fixed" in self.data else (), message, key=key or "fixed")
                elif not self.document.has_problem(where):
                    self.bad(where, message)


def _epochs(fixed: Mapping[str, Any]) -> int:
    return fixed.get("epochs", TrialConfig.model_fields["epochs"].default)


def _warnings(spec: SearchSpec) -> Iterator[str]:
    for key, index in unreachable(spec.space):
        which = f", alternative {index + 1}," if len(spec.space.domains[key]) > 1 else ""
        yield f"space.{key}{which} never exists: nothing that is searched or fixed fulfils its `when`"
    modes: list[Any] = [spec.fixed.get("uda.mode")]
    for domain in spec.space.domains.get("uda.mode", ()):
        modes += domain.choices if isinstance(domain, Categorical) else []
    options = spec.scheduler.options
    grace = options.grace_epochs if isinstance(options, RungOptions) else spec.epochs
    if {"fixed", "dynamic"} & set(modes) and grace < min(_UDA_GRACE, spec.epochs):
        yield (
            f"scheduler.grace_epochs: {grace} lets ASHA judge UDA trials before their regulariser acts "
            f"(dynamic lambda moves from epoch 3 on); give at least {_UDA_GRACE}"
        )
