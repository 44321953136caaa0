"""A trained model on labelled rows: those it was chosen with, or those of other data with the same columns.

Rows of its own data come from the cache, in the batches of training's evaluation, so that their metrics come back to
the last digit. Rows of other data are read as new: they fill no cache, and their classes are found by name.
Sizes: N rows, C classes of the model.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainables.answering import answers_of, rows_at_once
from trainables.config import UdaConfig
from trainables.data.cache.identity import dataset_fingerprint
from trainables.data.data import Data
from trainables.data.newtable import NewTable
from trainables.data.open import open_data
from trainables.data.order import eval_batches
from trainables.data.reading.dataset import DatasetRef, load_table, load_target
from trainables.data.reading.table import SPLITS, Target
from trainables.encoders.weights import encoder_places
from trainables.errors import NonFiniteError
from trainables.evaluate import collect
from trainables.losses import supervised_loss
from trainables.messages import unknown
from trainables.metrics import classes_left_out, compute_metrics
from trainables.progress import Row
from trainables.ranks import Ranks
from trainables.task import Task
from trainables.trained import Change, Trained

ALL = "all"
_NO_COPIES = UdaConfig()  # pyright: ignore[reportCallIssue] (does not see Field's defaults)


@dataclass(frozen=True)
class Answers:
    """What a model said of labelled rows.

    Attributes:
        ids: N.
        labels: (N,) class numbers, (N, C) in [0, 1], or (N,) numbers; classes as the model has them.
        logits: (N, C); of a regression (N, 1) in the unit of its labels.
        loss: mean supervised loss a sample, without weights and label smoothing.
        metrics: each of the task's by its name.
        left_out: of those that are means over classes, how many classes they leave out.
        reported: what the family tells of these rows, e.g. active_units.
    """

    ids: list[str]
    labels: np.ndarray
    logits: np.ndarray
    loss: float
    metrics: dict[str, float]
    left_out: dict[str, int]
    reported: Row

    def row(self) -> Row:
        """Everything by name, in the order of reports."""
        left_out = {f"{name}_left_out": number for name, number in self.left_out.items()}
        return {"loss": self.loss, **self.metrics, **self.reported, **left_out}


@dataclass(frozen=True)
class Labelled:
    """Labelled rows for a model.

    Attributes:
        dataset: where they are from.
        data: where it is the model's own data, what its trial opened.
        rows: (N,), ascending.
        labels: of every row of the dataset, by the model's classes.
        notes: what a user should know of them, a line each.
    """

    dataset: DatasetRef
    data: Data | None
    rows: np.ndarray
    labels: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether the model was trained on this data."""
        return self.data is not None


def labelled(trained: Trained, *, split: str, dataset: str | None = None, data_dir: str | None = None) -> Labelled:
    """The labelled rows of a split of the model's own data, or of other data.

    Args:
        trained: the model.
        split: 'train', 'val', 'test' or 'all'.
        dataset: its format; None is that of the training data.
        data_dir: its folder; None is that of the training data, where ``dataset`` is.

    Raises:
        ValueError: unreadable data, labels of another kind, or no row with a label in the split.
    """
    if split not in (*SPLITS, ALL):
        raise ValueError(f"split {unknown(split, (*SPLITS, ALL))}")
    config = trained.config
    ref = (
        DatasetRef.of(config)
        if dataset is None and data_dir is None
        else DatasetRef(dataset or config.dataset, data_dir, needs_pictures=not trained.facts.reads_regions)
    )
    table, own = load_table(ref), trained.facts.fingerprint
    if ref.name == config.dataset and dataset_fingerprint(ref) == own:
        plain: dict[str, Any] = {}
        if config.uda.copies != "fresh":
            plain["uda"] = _NO_COPIES  # on which no feature depends
        if trained.region_file is not None:
            plain["model"] = config.model.model_copy(update={"region_file": trained.region_file})
        with encoder_places(trained.places):
            data = open_data(config.model_copy(update={"data_dir": ref.data_dir, **plain}))
        target, task = load_target(ref, trained.facts.target), trained.task
        if data.task != task:
            raise ValueError(f"{ref.check_command}: its classes are no longer those that the model knows")
        labels, notes, is_labelled = data.labels, (), target.is_labelled
    else:
        data = None
        labels, is_labelled, notes = _by_name(trained.task, _target(trained, ref), ref)
    is_in = np.ones(len(table.ids), bool) if split == ALL else table.split == split
    rows = np.flatnonzero(is_in & is_labelled)
    if len(rows) == 0:
        counts = ", ".join(f"{name} {int((is_labelled & (table.split == name)).sum())}" for name in SPLITS)
        raise ValueError(f"dataset {ref.name}: no row with a label that the model knows in split {split} ({counts})")
    return Labelled(ref, data, rows, labels, notes)


def answers(trained: Trained, given: Labelled, change: Change | None = None) -> Answers:
    """What the model says of the rows.

    Args:
        trained: the model.
        given: the rows.
        change: what is done to each batch, features included, before the model sees it.

    Raises:
        ValueError: rows that cannot be read, or that lack something that the model reads; a logit is nan or infinite.
    """
    with torch.inference_mode():
        said = _of_new_rows if given.data is None else _of_own_rows
        logits, reported = said(trained, given, change)
        labels, scale, task = given.labels[given.rows], trained.label_scale, trained.task
        learnt = labels if scale is None else scale.z_scores(labels)
        loss = supervised_loss(torch.from_numpy(logits), torch.from_numpy(learnt), task).item()
    logits, all_ids = logits if scale is None else scale.restored(logits), load_table(given.dataset).ids
    ids = [all_ids[row] for row in given.rows]
    metrics, left_out = compute_metrics(logits, labels, task, ids=ids), classes_left_out(logits, labels, task)
    return Answers(ids, labels, logits, loss, metrics, left_out, reported)


def _of_own_rows(trained: Trained, given: Labelled, change: Change | None) -> tuple[np.ndarray, Row]:
    """Logits (N, C) as they are learnt, and what the family tells of the rows."""
    data = given.data
    assert data is not None
    try:
        found = collect(
            lambda batch: trained.changed(batch, change),
            lambda part: data.batch(part, data.clean),
            list(eval_batches(data, given.rows, batch_size=trained.config.eval_batch_size)),
            ranks=Ranks(device=trained.device), what="tested", report=getattr(trained.model, "report", None),
        )  # fmt: skip
    except NonFiniteError as error:
        raise ValueError(f"dataset {given.dataset.name}: {error}") from None
    return found.logits, found.reported


def _of_new_rows(trained: Trained, given: Labelled, change: Change | None) -> tuple[np.ndarray, Row]:
    """:func:`_of_own_rows` of other data."""
    rows, parts = NewTable(trained.facts, trained.modalities, given.dataset), []
    rows.check()
    for answered in answers_of(trained, rows.tables_of(given.rows, rows_at_once(trained)), change):
        for id, error in zip(answered.ids, answered.errors, strict=True):
            if error is not None:
                raise ValueError(f"dataset {given.dataset.name}: row {id}: {error}")
        parts.append(answered)
    report = getattr(trained.model, "report", None)
    joint = [torch.from_numpy(part.features["joint"]) for part in parts if "joint" in part.features]
    reported = report(torch.cat(joint)) if report is not None and joint else {}
    return np.concatenate([part.logits for part in parts]), reported


def left_out(modality: str) -> Change:
    """Batches as if the samples never had the modality (docs/methods.md#missing-modalities)."""
    return lambda batch: batch.without(modality)


def blank(trained: Trained, modality: str) -> Change:
    """Batches with an empty text, a grey picture or no known value in the modality's place."""
    return lambda batch: trained.blank(batch, modality)


def _target(trained: Trained, ref: DatasetRef) -> Target:
    """The target of the same name, else the first of the same kind."""
    targets, task = load_table(ref).targets, trained.task
    if trained.facts.target in targets:
        found = targets[trained.facts.target]
    else:
        same = [target for target in targets.values() if target.task.kind == task.kind]
        if not same:
            known = ", ".join(f"{name} ({target.task.kind})" for name, target in targets.items())
            raise ValueError(f"dataset {ref.name}: no target '{trained.facts.target}' ({task.kind}); it has {known}")
        found = same[0]
    if found.task.kind != task.kind:
        raise ValueError(
            f"dataset {ref.name}: target '{trained.facts.target}' is {found.task.kind}, the model's is {task.kind}"
        )
    return found


def _by_name(task: Task, target: Target, ref: DatasetRef) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Labels by the model's classes, which rows have one that it knows, and notes."""
    if task.kind == "regression":
        return target.labels, target.is_labelled, ()
    theirs, notes = target.task.classes, []
    new = [name for name in theirs if name not in task.classes]
    if len(new) == len(theirs):
        few = ", ".join(task.classes[:5])
        raise ValueError(f"dataset {ref.name}: none of its classes is one of the model's ({few}, ...)")
    if task.kind == "multilabel":
        labels = np.zeros((len(target.labels), len(task.classes)), np.float32)
        for at, name in enumerate(task.classes):
            if name in theirs:
                labels[:, at] = target.labels[:, theirs.index(name)]
        if new:
            notes.append(f"classes that the model does not know are left out: {', '.join(new[:5])}")
        return labels, target.is_labelled, tuple(notes)
    to_ours = np.array([task.classes.index(name) if name in task.classes else -1 for name in theirs])
    labels = np.where(target.is_labelled, to_ours[np.where(target.is_labelled, target.labels, 0)], -1)
    counts = Counter(theirs[label] for label in target.labels[target.is_labelled & (labels < 0)])
    if counts:
        shown = ", ".join(f"{name} ({number})" for name, number in counts.most_common(5))
        notes.append(f"rows of classes that the model does not know are left out: {shown}")
    return labels, labels >= 0, tuple(notes)
