"""Does a modality help: the best model with it against the best without, on the same samples, at equal budget.

The best trials are chosen by the validation metric among those that a group could afford: each group has as many
device-seconds as the group that took least, for the trials that fit in the order in which they started. N samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from analysis.best import best_trial, numbers, usable_trials
from analysis.confirm import FINALIST, finalists_of, tested_as
from analysis.paired import Difference, Outputs, is_right, mcnemar, paired_difference, samples_needed
from analysis.student import difference_interval
from analysis.studies import Paths, choose_objective, load_studies, study_folders
from mmtune import records
from trainables.messages import unknown
from trainables.metrics import metric_value
from trainables.modelfolder import FACTS, ModelFacts, read_facts
from trainables.task import Task

MODALITIES = ("text", "image", "numeric", "categorical", "graph", "metadata")
_METADATA = ("numeric", "categorical")
WITH, WITHOUT, ALONE = "with", "without", "alone"
ROLES = (WITHOUT, ALONE, WITH)
WORTH = 0.01  # of the metric: a smaller gain changes nothing


@dataclass(frozen=True)
class Candidate:
    """The best trial of a group.

    Attributes:
        role: 'without' the modality, with it 'alone', or 'with' it beside others.
        row: of :func:`analysis.studies.load_studies`.
        modalities: that it reads.
        task: what it predicts.
        outputs: on the samples that all candidates have.
        value: the metric on them.
        trials: of its group, of which so many were within the budget.
        spent: device-seconds of these.
    """

    role: str
    row: pd.Series
    modalities: tuple[str, ...]
    task: Task
    outputs: Outputs
    value: float
    trials: int
    spent: float

    @property
    def name(self) -> str:
        """'demo-openclipart/t0007'."""
        return f"{self.row['study']}/{self.row['trial']}"


@dataclass(frozen=True)
class OverSeeds:
    """What the same two configurations have on the test split, on several seeds.

    Attributes:
        gain: of the mean with the modality over the mean without, with Welch's interval.
        seeds: of the configuration with it, and of the one without.
        needed: seeds of each after which the interval would leave 0 out; None where there is no gain.
    """

    gain: Difference
    seeds: tuple[int, int]
    needed: int | None


@dataclass(frozen=True)
class Comparison:
    """What a modality brings.

    Attributes:
        modality: which.
        metric: by its name without prefix.
        split: of the samples.
        ids: N, that all candidates have.
        candidates: by role; 'alone' where there is one.
        gain: of 'with' over 'without'.
        over_alone: of 'with' over 'alone'.
        p_value: of McNemar's test between 'with' and 'without'; None of a regression.
        needed: samples after which the interval of the gain would leave 0 out; None where there is no gain.
        budget: device-seconds that each group had; None: all of its own.
        worth: the smallest gain that matters.
        over_seeds: of a study that confirms finalists.
        interaction: of the model with the modality, its metric less that of its additive projection (EMAP).
    """

    modality: str
    metric: str
    split: str
    ids: list[str]
    candidates: dict[str, Candidate]
    gain: Difference
    over_alone: Difference | None
    p_value: float | None
    needed: int | None
    budget: float | None
    worth: float = WORTH
    over_seeds: OverSeeds | None = None
    interaction: Difference | None = None

    @property
    def decisive(self) -> Difference:
        """The gain that an answer goes by: over seeds where there are several, else over samples."""
        return self.gain if self.over_seeds is None else self.over_seeds.gain


def compare(
    paths: Paths,
    *,
    modality: str = "image",
    metric: str | None = None,
    split: str = "val",
    is_equal_budget: bool = True,
    worth: float = WORTH,
) -> Comparison:
    """Compares the best trial that reads a modality beside others with the best that does not read it.

    Of a study that confirms finalists (`mmtune confirm`) the best finalists by their mean on validation, over their
    seeds and on the test split; samples are then those of each one's best trial.

    Args:
        paths: one study or several on the same data.
        modality: of 'text', 'image', 'numeric', 'categorical', 'graph', and 'metadata': numbers and categories,
            whatever way a model reads them.
        metric: 'val_accuracy', ...; None takes the studies' first objective.
        split: 'val', whose predictions every trial has, or another that `mmtune test` has written.
        is_equal_budget: whether each group may only have what the cheapest took; else all its trials count.
        worth: the smallest gain of the metric that matters.

    Raises:
        ValueError: an unknown modality or metric, groups without a usable trial, or predictions that are not there.
    """
    if modality not in MODALITIES:
        raise ValueError(f"--modality: {unknown(modality, MODALITIES)}")
    metric, mode = choose_objective(paths, metric)
    table, folders = load_studies(paths), study_folders(paths)
    facts = _facts(table, folders)
    reads = [_reads(facts[at], modality) if at in facts else () for at in _places(table)]
    roles = [_role(read, modality) if read else "" for read in reads]
    groups = {role: table.loc[[own == role for own in roles]] for role in ROLES}
    for role in (WITHOUT, WITH):
        if usable_trials(groups[role], metric).empty:
            raise ValueError(_lacks(role, modality, reads))
    over_seeds = None
    if len(finalists_of(table)) == len(table):
        is_equal_budget, groups = False, {role: _best_finalist(group, metric, mode) for role, group in groups.items()}
        over_seeds = _over_seeds(groups[WITH], groups[WITHOUT], metric, mode)
    wanted = [role for role in ROLES if not usable_trials(groups[role], metric).empty]
    spent = {role: float(numbers(groups[role], "device_seconds").sum()) for role in wanted}
    budget = min(spent[role] for role in (WITHOUT, WITH)) if is_equal_budget else None
    afforded = {role: _afforded(groups[role], metric, budget) for role in wanted}
    rows = {role: best_trial(afforded[role], metric, mode) for role in wanted}
    places = {role: (str(row.at["study"]), str(row.at["trial"])) for role, row in rows.items()}
    tables = {role: predictions(folders[study].trial(trial), split) for role, (study, trial) in places.items()}
    ids = _common_ids(tables)
    name = metric.removeprefix("val_")
    candidates = {}
    for role, row in rows.items():
        known = facts[places[role]]
        outputs = outputs_of(tables[role], ids, known)
        candidates[role] = Candidate(
            role, row, _reads(known, modality), known.task, outputs,
            metric_value(name, outputs.logits, outputs.labels, known.task) if name != "loss" else math.nan,
            len(afforded[role]), float(numbers(afforded[role], "device_seconds").sum()),
        )  # fmt: skip
    found = _compared(candidates, ids, modality=modality, metric=name, split=split, budget=budget, worth=worth)
    return replace(found, over_seeds=over_seeds)


def _compared(
    candidates: dict[str, Candidate],
    ids: list[str],
    *,
    modality: str,
    metric: str,
    split: str,
    budget: float | None,
    worth: float,
) -> Comparison:
    whole, without, alone = candidates[WITH], candidates[WITHOUT], candidates.get(ALONE)
    task = whole.task
    if metric == "loss":
        raise ValueError("--metric: a loss says too little of single samples; compare by another metric")
    if not all(np.array_equal(one.outputs.labels, whole.outputs.labels) for one in candidates.values()):
        raise ValueError("the trials have other labels for the same samples; their targets differ")
    gain = paired_difference(whole.outputs, without.outputs, metric=metric, task=task)
    right = [is_right(one.outputs, task) for one in (whole, without)]
    return Comparison(
        modality=modality,
        metric=metric,
        split=split,
        ids=ids,
        candidates=candidates,
        gain=gain,
        over_alone=None if alone is None else paired_difference(whole.outputs, alone.outputs, metric=metric, task=task),
        p_value=None if right[0] is None or right[1] is None else mcnemar(right[0], right[1]),
        needed=samples_needed(gain, len(ids)),
        budget=budget,
        worth=worth,
    )


# --- groups -----------------------------------------------------------------------------------------
def _places(table: pd.DataFrame) -> list[tuple[str, str]]:
    return [*zip(table["study"].astype(str), table["trial"].astype(str), strict=True)]


def _facts(table: pd.DataFrame, folders: Mapping[str, records.StudyFolder]) -> dict[tuple[str, str], ModelFacts]:
    """Of each trial that left a model, by study and trial."""
    paths = {(study, trial): folders[study].trial(trial) for study, trial in _places(table)}
    return {place: read_facts(path) for place, path in paths.items() if (path / FACTS).is_file()}


def _reads(facts: ModelFacts, modality: str) -> tuple[str, ...]:
    """What a model reads; where metadata are asked for, these in place of numbers and categories, in the text too."""
    if modality != "metadata":
        return facts.modalities
    others = tuple(name for name in facts.modalities if name not in _METADATA)
    in_text = facts.columns.text_numbers or facts.columns.text_categories
    return (*others, "metadata") if in_text or others != facts.modalities else others


def _role(reads: Sequence[str], modality: str) -> str:
    if modality not in reads:
        return WITHOUT
    return ALONE if len(reads) == 1 else WITH


def _lacks(role: str, modality: str, reads: Sequence[Sequence[str]]) -> str:
    wanted = {WITH: f"reads {modality} beside something else", WITHOUT: f"does without {modality}"}[role]
    known = sorted({"+".join(read) for read in reads if read})
    return (
        f"no finished trial {wanted}: there are {', '.join(known) or 'none with a model'}; "
        "give the study that has them too: mmtune compare STUDY STUDY"
    )


def _afforded(trials: pd.DataFrame, metric: str, budget: float | None) -> pd.DataFrame:
    """The trials that fit into the budget, in the order in which they started; at least the cheapest usable one."""
    if budget is None:
        return trials
    order = trials.assign(number=trials["trial"].map(records.trial_number)).sort_values(["started", "study", "number"])
    spent, inside = 0.0, []
    for at, seconds in zip(order.index, numbers(order, "device_seconds").fillna(0.0), strict=True):
        if spent + seconds <= budget:
            spent += seconds
            inside.append(at)
    if usable_trials(trials.loc[inside], metric).empty:
        usable = usable_trials(order, metric)
        inside.append(numbers(usable, "device_seconds").idxmin())
    return trials.loc[inside]


def _best_finalist(trials: pd.DataFrame, metric: str, mode: str) -> pd.DataFrame:
    """The trials of the finalist with the best mean on validation; all if there is none."""
    usable = usable_trials(trials, metric)
    if usable.empty:
        return trials
    values: dict[str, list[float]] = {}
    for finalist, value in zip(usable[FINALIST], numbers(usable, metric), strict=True):
        values.setdefault(str(finalist), []).append(float(value))
    sign = 1.0 if mode == "max" else -1.0
    best = max(values, key=lambda finalist: sign * fmean(values[finalist]))
    return trials.loc[trials[FINALIST] == best]


def _over_seeds(one: pd.DataFrame, other: pd.DataFrame, metric: str, mode: str) -> OverSeeds | None:
    """None before either has two tested trials."""
    sign = 1.0 if mode == "max" else -1.0
    ours, theirs = ([sign * value for value in numbers(part, tested_as(metric)).dropna()] for part in (one, other))
    fewest = min(len(ours), len(theirs))
    if fewest < 2:
        return None
    gain = Difference(fmean(ours) - fmean(theirs), *difference_interval(ours, theirs))
    return OverSeeds(gain, (len(ours), len(theirs)), samples_needed(gain, fewest))


# --- predictions ------------------------------------------------------------------------------------
def predictions(folder: Path, split: str) -> pd.DataFrame:
    """What a trial said of the samples of a split: id, label, logits and more.

    Raises:
        ValueError: it was not written.
    """
    path = (folder if split == "val" else folder / records.TESTS / split) / "predictions.parquet"
    if not path.is_file():
        trial = f"{folder.parent.parent}/{folder.name}"
        advice = "" if split == "val" else f"; write it: mmtune test {trial} --split {split}"
        raise ValueError(f"{path}: missing{advice}")
    return pd.read_parquet(path)


def _common_ids(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Those of the samples that all have, in the order of the first."""
    first, *others = tables.values()
    shared = set(first["id"]).intersection(*(set(table["id"]) for table in others))
    if not shared:
        raise ValueError("the trials have no sample in common; they are of other data")
    return [id for id in first["id"] if id in shared]


def outputs_of(table: pd.DataFrame, ids: list[str], facts: ModelFacts) -> Outputs:
    """Labels and logits of these samples."""
    rows = table.set_index("id").loc[ids]
    return Outputs(_labels(rows["label"].to_list(), facts.task), np.stack(rows["logits"].to_list()))


def _labels(values: list[Any], task: Task) -> np.ndarray:
    """As training writes them (numbers), or as `mmtune test` does (names of classes)."""
    if task.kind == "regression":
        return np.array(values, float)
    if task.kind == "multilabel":
        is_named = all(isinstance(name, str) for value in values for name in value)
        return np.array([[name in value for name in task.classes] if is_named else value for value in values], float)
    number = {name: at for at, name in enumerate(task.classes)}
    return np.array([number[value] if isinstance(value, str) else value for value in values])
