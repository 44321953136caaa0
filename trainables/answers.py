"""A trained model on labelled rows: those it was chosen with, or those of other data with the same columns.

Rows of its own data come from the cache, in the batches of training's evaluation, so that their metrics come back to
the last digit. Rows of other data are read as new: they fill no cache, and their classes are found by name.
Sizes: N rows, C classes of the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from trainables.batch import Batch, ModelOutput
from trainables.config import UdaConfig
from trainables.data.cache.identity import dataset_fingerprint
from trainables.data.data import Data
from trainables.data.open import open_data
from trainables.data.order import eval_batches
from trainables.data.reading.dataset import DatasetRef, load_table, load_target
from trainables.data.reading.pictures import decode_image
from trainables.data.reading.table import SPLITS, Table, Target
from trainables.encoders.weights import encoder_places
from trainables.evaluate import collect
from trainables.losses import supervised_loss
from trainables.messages import from_known, unknown
from trainables.metrics import classes_left_out, compute_metrics
from trainables.progress import Row
from trainables.ranks import Ranks
from trainables.task import Task
from trainables.trained import Inputs, Trained

ALL = "all"
_NO_COPIES = UdaConfig()  # pyright: ignore[reportCallIssue] (does not see Field's defaults)

Change = Callable[[Batch], Batch]


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
        else DatasetRef(dataset or config.dataset, data_dir)
    )
    table, own = load_table(ref), trained.facts.fingerprint
    if ref.name == config.dataset and dataset_fingerprint(ref) == own:
        plain = {} if config.uda.copies == "fresh" else {"uda": _NO_COPIES}  # on which no feature depends
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
        ValueError: rows that cannot be read, or that lack something that the model reads.
        NonFiniteError: a logit is nan or infinite.
    """
    table, size, data = load_table(given.dataset), trained.config.eval_batch_size, given.data
    if data is None:
        parts = [given.rows[at : at + size] for at in range(0, len(given.rows), size)]
    else:
        parts = list(eval_batches(data, given.rows, batch_size=size))

    def load(part: np.ndarray) -> Batch:
        if data is not None:
            return data.batch(part, data.clean)
        return trained.batch(inputs_of(trained, table, part))

    def forward(batch: Batch) -> ModelOutput:
        batch = batch.to(trained.device)
        return trained.forward(batch if change is None else change(trained.with_features(batch)))

    with torch.inference_mode():
        logits, rows, reported = collect(
            forward, load, parts, ranks=Ranks(device=trained.device), what="tested",
            report=getattr(trained.model, "report", None),
        )  # fmt: skip
        labels, scale, task = given.labels[rows], trained.label_scale, trained.task
        learnt = labels if scale is None else scale.z_scores(labels)
        loss = supervised_loss(torch.from_numpy(logits), torch.from_numpy(learnt), task).item()
    logits = logits if scale is None else scale.restored(logits)
    metrics, left_out = compute_metrics(logits, labels, task), classes_left_out(logits, labels, task)
    return Answers([table.ids[row] for row in rows], labels, logits, loss, metrics, left_out, reported)


def inputs_of(trained: Trained, table: Table, rows: np.ndarray) -> Inputs:
    """Rows of a table as new data for a model.

    Raises:
        ValueError: a picture that cannot be decoded, or columns that the table does not have.
    """
    reads, facts, ids = trained.modalities, trained.facts, [table.ids[row] for row in rows]
    pixels = numeric = None
    if "graph" in reads:
        raise ValueError("the model reads a graph, whose nodes are those of the data that it was trained on, no others")
    if "image" in reads and table.images is not None:
        images, config = table.images, trained.config

        def decode(row: int) -> np.ndarray:
            where = f"row {table.ids[row]}"
            return decode_image(images[row], size=config.image_size, fit=config.image_fit, where=where)

        with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
            pixels = np.stack(list(pool.map(decode, rows.tolist())))
    if "numeric" in reads and table.numeric is not None:
        names = [scale.name for scale in facts.numeric]
        _check_columns(names, table.numeric_names, "numeric")
        numeric = table.numeric[rows][:, [table.numeric_names.index(name) for name in names]].astype(np.float64)
    if "categorical" in reads:
        _check_columns(facts.categorical, table.categorical, "categorical")
    return Inputs(
        ids=ids,
        texts=None if table.texts is None else [table.texts[row] for row in rows],
        pixels=pixels,
        numeric=numeric,
        categorical={
            name: [table.categorical[name][row] for row in rows] for name in facts.categorical if "categorical" in reads
        },
    )


def left_out(modality: str) -> Change:
    """Batches as if the samples never had the modality (docs/methods.md#missing-modalities)."""
    return lambda batch: batch.without(modality)


def blank(trained: Trained, modality: str) -> Change:
    """Batches with an empty text, a grey picture or no known value in the modality's place."""
    return lambda batch: trained.blank(batch, modality)


def _check_columns(wanted: Iterable[str], there: Collection[str], kind: str) -> None:
    for name in wanted:
        if name not in there:
            raise ValueError(f"{kind} column {name!r} is missing{from_known(name, [*there])}")


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
