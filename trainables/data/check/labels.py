"""Labels: how many of which, the best constant, what texts and equal inputs say about them. N rows, C classes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from trainables.data.check.duplicates import codes_of
from trainables.data.check.result import LISTED, ClassSize, Contradiction, TargetCheck
from trainables.data.check.rows import Look
from trainables.data.reading.table import SPLITS, Table, Target

_BATCH = 1024  # rows made dense together
_MOST_CLASSES = 100  # of a multi-label target that columns are compared with, the most frequent
_WORD = re.compile(r"[^\W_]+")
_SMALL_WORDS = {"a", "an", "and", "for", "in", "no", "not", "of", "on", "or", "other", "the", "to", "with"}


class Labels:
    """The labels of the chosen rows; of a multi-label target only what is not zero, however many classes there are.

    Attributes:
        used: (N,) bool, rows with a label.
        values: (N,) class index or number; of a multi-label target empty.
        columns: (E,) multi-label, the classes of all rows one after the other; ``weights`` are their values.
        offsets: (N + 1,) where the columns of each row begin and end.
    """

    def __init__(self, look: Look, target: Target) -> None:
        self.look, self.kind, self.names = look, target.task.kind, target.task.classes
        self.used = target.is_labelled[look.rows]
        self.values = np.empty(0)
        if self.kind != "multilabel":
            self.values = target.labels[look.rows]
            return
        counts, columns, weights = [], [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        for start in range(0, len(look.rows), _BATCH):
            dense = target.labels[look.rows[start : start + _BATCH]] * self.used[start : start + _BATCH, None]
            rows, found = np.nonzero(dense)
            counts.append(np.bincount(rows, minlength=len(dense)))
            columns.append(found)
            weights.append(dense[rows, found])
        self.columns, self.weights = np.concatenate(columns), np.concatenate(weights)
        self.offsets = np.concatenate([[0], *counts]).cumsum()

    @property
    def num_classes(self) -> np.ndarray:
        """(N,) multi-label, classes of each row."""
        return np.diff(self.offsets)

    def of(self, at: int) -> np.ndarray:
        """The classes of a row."""
        if self.kind == "multilabel":
            return self.columns[self.offsets[at] : self.offsets[at + 1]]
        return self.values[at : at + 1]

    def key(self, at: int) -> bytes:
        """Equal for rows with equal labels."""
        if self.kind != "multilabel":
            return self.values[at].tobytes()
        return self.of(at).tobytes() + self.weights[self.offsets[at] : self.offsets[at + 1]].tobytes()

    def text(self, at: int) -> str:
        """As a person reads it."""
        if self.kind == "regression":
            return f"{float(self.values[at]):.12g}"
        return ", ".join(self.names[index] for index in self.of(at)) or "none"

    def counts(self) -> np.ndarray:
        """(C, 3) rows that have each class."""
        split = self.look.split
        if self.kind == "multilabel":
            columns, split = self.columns, np.repeat(split, self.num_classes)
        else:
            columns, split = self.values[self.used], split[self.used]
        size = len(self.names) * len(SPLITS)
        return np.bincount(columns * len(SPLITS) + split, minlength=size).reshape(-1, len(SPLITS))

    def dense(self) -> np.ndarray:
        """(N, C) float64 of numbers, or of a multi-label target's most frequent classes."""
        if self.kind != "multilabel":
            return self.values.astype(np.float64)[:, None]
        kept = np.argsort(-self.counts().sum(axis=1), kind="stable")[:_MOST_CLASSES]
        place = np.full(len(self.names), -1)
        place[kept] = np.arange(len(kept))
        found = np.zeros((len(self.used), len(kept)))
        row, column = np.repeat(np.arange(len(self.used)), self.num_classes), place[self.columns]
        is_kept = column >= 0
        found[row[is_kept], column[is_kept]] = self.weights[is_kept]
        return found


def check_target(look: Look, labels: Labels, texts: np.ndarray | None, pixels: np.ndarray | None) -> TargetCheck:
    """Everything about one target.

    Args:
        texts: (N,) codes of equal texts, -1 where there is none; None: the dataset has no text.
        pixels: the same of images.
    """
    facts = _regression_facts(look, labels) if labels.kind == "regression" else _class_facts(look, labels)
    facts |= _contradictions(look, labels, texts, pixels)
    return TargetCheck(kind=labels.kind, labelled=look.count(labels.used), **facts)


def _regression_facts(look: Look, labels: Labels) -> dict[str, Any]:
    values, used = labels.values.astype(np.float64), labels.used
    parts = {name: values[used & (look.split == at)] for at, name in enumerate(SPLITS)}
    moments = {
        name: {"mean": float(p.mean()), "deviation": float(p.std()), "min": float(p.min()), "max": float(p.max())}
        for name, p in parts.items()
        if len(p)
    }
    guess = moments["train"]["mean"] if "train" in moments else None
    rmse = {
        name: float(((p - guess) ** 2).mean() ** 0.5) if guess is not None and len(p) else None
        for name, p in parts.items()
    }
    return {"moments": moments, "baseline_metric": "rmse", "baseline": rmse}


def _class_facts(look: Look, labels: Labels) -> dict[str, Any]:
    counts, names, used = labels.counts(), labels.names, labels.used
    in_train = counts[:, 0]
    labelled = look.count(used)
    facts: dict[str, Any] = {
        "classes": {
            name: dict(zip(SPLITS, row, strict=True)) for name, row in zip(names, counts.tolist(), strict=True)
        },
        "missing": {
            split: [name for name, num in zip(names, counts[:, at], strict=True) if not num]
            for at, split in enumerate(SPLITS)
            if labelled[split]
        },
        "smallest": ClassSize(names[in_train.argmin()], int(in_train.min())),
        "largest": ClassSize(names[in_train.argmax()], int(in_train.max())),
    }
    if labels.kind == "multiclass":
        facts |= {"baseline_metric": "accuracy", "baseline": look.means(labels.values == in_train.argmax(), used)}
    else:
        num = labels.num_classes
        facts |= {"baseline_metric": "ap_micro", "baseline": look.means(num / len(names), used)}
        facts |= {"cardinality": look.means(num, used), "empty": look.count(used & (num == 0))}
    if look.texts:
        own = [_words(name) - _SMALL_WORDS for name in names]
        named = 0
        for at in np.flatnonzero(used):
            words = _words(look.texts[at])
            named += any(own[index] and own[index] <= words for index in labels.of(int(at)))
        facts |= {"named": named, "named_share": named / max(1, int(used.sum()))}
    return facts


def _words(text: str) -> set[str]:
    """Words without case and without a plural s."""
    words = _WORD.findall(text.casefold())
    return {word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words}


def _contradictions(look: Look, labels: Labels, texts: np.ndarray | None, pixels: np.ndarray | None) -> dict[str, Any]:
    """A row without text and image takes no part, nor one with an image that cannot be read."""
    there = [part for part in (texts, pixels) if part is not None]
    if not there:
        return {}
    keys = np.stack(there, axis=1)
    used = labels.used & (keys >= 0).any(axis=1) & (True if pixels is None else pixels >= 0)
    inputs = codes_of([tuple(key) if row else None for key, row in zip(keys.tolist(), used, strict=True)])
    num = np.bincount(inputs[used])
    shared = np.flatnonzero(used)
    shared = shared[num[inputs[shared]] > 1]
    label = codes_of([labels.key(int(at)) for at in shared])
    groups = _contradicting(inputs[shared], label)
    listed = [shared[_different_first(group, label)] for group in groups[:LISTED]]
    facts: dict[str, Any] = {
        "num_contradictions": len(groups),
        "contradicting_rows": sum(map(len, groups)),
        "contradictions": [
            Contradiction(
                num_rows=len(group),
                rows=[look.ref(int(at)) for at in group[:10]],
                labels=[labels.text(int(at)) for at in group[:10]],
                text=look.excerpt(int(group[0])),
            )
            for group in listed
        ],
    }
    table = look.table
    if table.numeric is not None or table.categorical or table.graphs:
        rows = np.concatenate([np.empty(0, np.int64), *groups])
        whole = codes_of([(inputs[shared[at]], _columns_of(table, int(look.rows[shared[at]]))) for at in rows])
        facts["contradicting_in_all"] = sum(map(len, _contradicting(whole, label[rows])))
    return facts


def _contradicting(inputs: np.ndarray, label: np.ndarray) -> list[np.ndarray]:
    """Places by input, of inputs that have several labels."""
    if not len(inputs):
        return []
    order = np.lexsort((label, inputs))
    groups = np.split(order, np.flatnonzero(np.diff(inputs[order])) + 1)
    return [np.sort(group) for group in groups if label[group[0]] != label[group[-1]]]


def _different_first(group: np.ndarray, label: np.ndarray) -> np.ndarray:
    """One place of each label, then the others."""
    _, first = np.unique(label[group], return_index=True)
    rest = np.delete(np.arange(len(group)), first)
    return group[np.concatenate([np.sort(first), rest])]


def _columns_of(table: Table, row: int) -> tuple[Any, ...]:
    numbers = None if table.numeric is None else table.numeric[row].tobytes()
    nodes = [graph.nodes[graph.offsets[row] : graph.offsets[row + 1]].tobytes() for graph in table.graphs.values()]
    return numbers, *nodes, *(values[row] for values in table.categorical.values())
