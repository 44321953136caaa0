"""What a user should know of a dataset before anything trains on it: rows left out, values read otherwise, heavy tails,
classes that are not where they are needed."""

from __future__ import annotations

import numpy as np

from trainables.data.reading.dataset import DatasetRef, load_table, load_target
from trainables.data.reading.scale import FARTHEST, far_values
from trainables.data.reading.sparse import SparseRows
from trainables.data.reading.table import Table, Target

_SHOWN = 5  # classes
_BATCH = 4096  # rows of a multi-label target made dense together


def dataset_notes(dataset: DatasetRef, target: str | None = None) -> list[str]:
    """A line each.

    Args:
        target: the labels to look at; None is the dataset's first.

    Raises:
        ValueError: files that cannot be read, an unknown target, or val and train with several classes each and
            none in common.
    """
    table, notes = load_table(dataset), []
    if table.problems:
        notes.append(
            f"rows left out or repaired: {len(table.problems)}, the first: {table.problems[0]} "
            f"(all: {dataset.check_command})"
        )
    name, labels = target or next(iter(table.targets)), load_target(dataset, target)
    notes += [*table.notes, *_class_notes(table.split, labels, name)]
    if dataset.data_dir is not None:  # nobody can change the numbers of an embedded dataset
        notes += [*_tail_notes(table), *_label_tail_notes(table.split, labels, name)]
    return [f"dataset {dataset.name}: {note}" for note in notes]


def _tail_notes(table: Table) -> list[str]:
    """Of numeric columns whose farthest values squeeze the others together, in a line."""
    if table.numeric is None:
        return []
    is_train, columns = table.split == "train", []
    for name, values in zip(table.numeric_names, table.numeric.T, strict=True):
        if (found := far_values(values, is_train)) is not None:
            columns.append(f"{name} ({found[0]:,}, the farthest at {found[1]:,.0f})")
    if not columns:
        return []
    more = f", and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
    return [
        f"numeric: {len(columns)} of {len(table.numeric_names)} columns have a heavy tail, where their logarithm may "
        f"serve better; values more than {FARTHEST:g} deviations from the mean are cut: "
        f"{', '.join(columns[:_SHOWN])}{more}"
    ]


def _label_tail_notes(split: np.ndarray, target: Target, name: str) -> list[str]:
    """Of a regression whose squared errors are mostly those of a few rows."""
    if target.task.kind != "regression":
        return []
    values = np.where(target.is_labelled, target.labels, np.nan)
    found = far_values(values, split == "train")
    if found is None:
        return []
    return [
        f"target {name}: labels have a heavy tail, {found[0]:,} lie more than {FARTHEST:g} deviations from the mean, "
        f"the farthest {found[1]:,.0f}: squared errors are mostly theirs; their logarithm may serve better"
    ]


def _class_notes(split: np.ndarray, target: Target, name: str) -> list[str]:
    """Of the classes that no row of train, or of val, has.

    Raises:
        ValueError: both have several and none in common.
    """
    if target.task.kind == "regression":
        return []
    has = {part: _classes_of(target, (split == part) & target.is_labelled) for part in ("train", "val")}
    if not has["train"].any() or not has["val"].any():
        return []  # said where the rows are counted
    names = target.task.classes
    if not (has["train"] & has["val"]).any() and min(found.sum() for found in has.values()) > 1:  # not a few rows' luck
        there = {part: _few([names[at] for at in np.flatnonzero(found)]) for part, found in has.items()}
        raise ValueError(
            f"target {name}: no class of val has a row in train, so nothing can be learnt: val has {there['val']}, "
            f"train has {there['train']}"
        )
    notes = []
    for part, found in has.items():
        left = [names[at] for at in np.flatnonzero(~found)]
        if left:
            notes.append(f"target {name}: {len(left):,} of {len(names):,} classes have no row in {part}: {_few(left)}")
    return notes


def _classes_of(target: Target, is_used: np.ndarray) -> np.ndarray:
    """(C,) bool."""
    found, rows = np.zeros(len(target.task.classes), bool), np.flatnonzero(is_used)
    if target.task.kind == "multiclass":
        found[target.labels[rows]] = True
        return found
    if isinstance(target.labels, SparseRows):
        return target.labels.used_columns(rows)
    for start in range(0, len(rows), _BATCH):
        found |= (target.labels[rows[start : start + _BATCH]] > 0).any(axis=0)
    return found


def _few(names: list[str]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
