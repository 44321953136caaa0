"""Numbers, categories and graph: what is missing, constant or unseen, and what gives the label away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trainables.data.check.duplicates import codes_of
from trainables.data.check.labels import Labels
from trainables.data.check.result import CategoricalColumn, GraphCheck, NumericColumn, Prediction
from trainables.data.check.rows import Look
from trainables.data.reading.table import SPLITS, Neighbours


def check_numeric(look: Look, targets: Mapping[str, Labels]) -> dict[str, NumericColumn]:
    if look.table.numeric is None:
        return {}
    found = {}
    for at, name in enumerate(look.table.numeric_names):
        values = look.table.numeric[look.rows, at].astype(np.float64)
        known = np.isfinite(values)
        found[name] = NumericColumn(
            missing_share=float((~known).mean()),
            is_constant=bool(known.any() and np.ptp(values[known]) == 0),
            correlation={key: _correlation(values, known, labels) for key, labels in targets.items()},
        )
    return found


def _correlation(values: np.ndarray, known: np.ndarray, labels: Labels) -> float | None:
    used = known & labels.used
    x = values[used]
    if len(x) < 3 or np.ptp(x) == 0:
        return None
    x = (x - x.mean()) / np.abs(x - x.mean()).max()  # squares of large numbers would overflow
    if labels.kind == "multiclass":  # correlation ratio: of the variance, what is between classes
        y = labels.values[used]
        counts, sums = np.bincount(y), np.bincount(y, weights=x)
        between = (sums[counts > 0] ** 2 / counts[counts > 0]).sum()
        return float(min(1.0, between / (x**2).sum()) ** 0.5)
    y = labels.dense()[used]
    y = y - y.mean(axis=0)
    spread = ((x**2).sum() * (y**2).sum(axis=0)) ** 0.5
    if not (spread > 0).any():
        return None
    return float(min(1.0, np.abs((x @ y)[spread > 0] / spread[spread > 0]).max()))


def check_categorical(look: Look, values: Sequence[str | None], targets: Mapping[str, Labels]) -> CategoricalColumn:
    codes = codes_of(values)
    known, is_train = codes >= 0, look.split == 0
    in_train = np.zeros(codes.max(initial=-1) + 1, bool)
    in_train[codes[known & is_train]] = True
    is_unseen = known.copy()
    is_unseen[known] = ~in_train[codes[known]]
    shares = look.means(is_unseen, known)
    return CategoricalColumn(
        values=len(in_train),
        train_values=int(in_train.sum()),
        missing_share=float((~known).mean()),
        unseen_share={name: shares[name] for name in ("val", "test")},
        alone={name: _alone(codes, look, labels) for name, labels in targets.items()},
    )


def _alone(codes: np.ndarray, look: Look, labels: Labels) -> Prediction | None:
    """What the column alone predicts; a missing value is a value, one unseen in training gets the baseline."""
    train, held = (np.flatnonzero(labels.used & part) for part in (look.split == 0, look.split > 0))
    if not len(train) or not len(held):
        return None
    value, size = codes + 1, int(codes.max(initial=-1)) + 2
    if labels.kind == "multiclass":
        num, y = len(labels.names), labels.values.astype(np.int64)
        prior = np.bincount(y[train], minlength=num)
        pairs, counts = np.unique(value[train] * num + y[train], return_counts=True)
        order = np.lexsort((prior[pairs % num], counts, pairs // num))  # the last of each value is its majority
        majority = np.full(size, prior.argmax())
        majority[pairs[order] // num] = pairs[order] % num
        score, baseline = (float((y[held] == guess).mean()) for guess in (majority[value[held]], prior.argmax()))
        gain = (score - baseline) / (1 - baseline) if baseline < 1 else 0.0
        return Prediction("accuracy", score, baseline, gain)
    y = labels.dense()
    counts = np.bincount(value[train], minlength=size)
    means = np.stack([np.bincount(value[train], weights=column, minlength=size) for column in y[train].T], axis=1)
    means = np.where(counts[:, None] > 0, means / counts.clip(min=1)[:, None], y[train].mean(axis=0))
    left, total = ((y[held] - guess) ** 2 for guess in (means[value[held]], y[train].mean(axis=0)))
    if total.sum() == 0:
        return None
    score = float(1 - left.sum() / total.sum())
    return Prediction("explained variance", score, 0.0, score)


def check_graph(look: Look, graph: Neighbours) -> GraphCheck:
    degrees = np.diff(graph.offsets)[look.rows]
    edges = [graph.nodes[graph.offsets[row] : graph.offsets[row + 1]] for row in look.rows]
    nodes = np.concatenate([np.empty(0, np.int64), *edges])
    split = np.repeat(look.split, degrees)
    is_seen = np.zeros(graph.num_nodes, bool)
    is_seen[nodes[split == 0]] = True
    parts = {name: nodes[split == at] for at, name in enumerate(SPLITS) if at}
    return GraphCheck(
        nodes=graph.num_nodes,
        linked_nodes=len(np.unique(nodes)),
        edges=len(nodes),
        isolated=look.count(degrees == 0),
        unseen_share={name: float(1 - is_seen[part].mean()) if len(part) else None for name, part in parts.items()},
    )
