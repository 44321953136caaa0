"""Retrieval between modalities that a model embeds in one space: text to picture, picture to text.

A candidate is a different text (picture, row of numbers) among the rows; positives of a query are all candidates that
some row pairs with it. A query's rank is that of its best positive: 1 + the candidates that are no positive and at
least as similar, so ties count against it. Q queries, K candidates, D features.
"""

from __future__ import annotations

import hashlib
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.inspect.subject import NotApplicable, Subject, draw_row, grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = ()
AT = (1, 5, 10)
_TIED = 1e-12  # nearer similarities are equal, as in trainables.layers.matching
SIMILARITIES = ("cosine", "euclidean")
_CLASSES = "compares pictures with prompts of the classes; it reads no text of a sample"
_FOUND = 5  # candidates that are shown


def inspect(subject: Subject) -> list[str]:
    """Writes retrieval.csv, ranks.csv and retrieval.png.

    Raises:
        NotApplicable: the model has no two modalities in one space.
    """
    names = shared_space(subject)
    places = {name: _different(subject, name) for name in names}
    rows, ranks, said = [], [], []
    for query, target in permutations(names, 2):
        firsts = {name: np.unique(places[name], return_index=True)[1] for name in (query, target)}
        is_positive = np.zeros((len(firsts[query]), len(firsts[target])), bool)
        is_positive[places[query], places[target]] = True
        for kind in SIMILARITIES:
            values = similarity(subject.features[query][firsts[query]], subject.features[target][firsts[target]], kind)
            rank_Q = best_ranks(values, is_positive)
            rows.append(
                {"query": query, "target": target, "similarity": kind, **retrieval_metrics(rank_Q, is_positive)}
            )
            ids = [subject.ids[at] for at in firsts[query]]
            ranks.append(
                pd.DataFrame({"query": query, "target": target, "similarity": kind, "id": ids, "rank": rank_Q})
            )
            if kind == "cosine":
                figure = _figure(subject, firsts[query], firsts[target], values, is_positive, f"{query} to {target}")
                subject.write_figure(f"retrieval-{query}-{target}", figure)
                last = rows[-1]
                said.append(
                    f"{query} to {target}, {last['candidates']} candidates, cosine: Recall@1 {last['recall_at_1']:.4f} "
                    f"(chance {last['chance_recall_at_1']:.4f}), MRR {last['mrr']:.4f}, "
                    f"median rank {last['median_rank']:g}"
                )
    subject.write_table("retrieval", pd.DataFrame(rows))
    subject.write_table("ranks", pd.concat(ranks))
    return said


def shared_space(subject: Subject) -> tuple[str, ...]:
    """The modalities whose features lie in one space.

    Raises:
        NotApplicable: there are no two; why.
    """
    config, reads = subject.trained.config, subject.trained.modalities
    if config.family == "clip" and config.model.mode == "zero_shot":
        raise NotApplicable(f"mode zero_shot {_CLASSES}")
    if len(reads) < 2:
        raise NotApplicable(f"the model reads {', '.join(reads)} alone")
    if config.family in ("mvae", "hybrid_vae"):
        if config.model.posterior == "concat":
            raise NotApplicable("posterior: concat has one encoder for all modalities, no posterior of each")
        return reads
    if config.family == "clip":
        return reads
    raise NotApplicable(
        f"family {config.family} embeds no two modalities in one space (clip and the VAEs do); "
        "its joint features are of pairs, and would find themselves"
    )


def similarity(query_QD: np.ndarray, target_KD: np.ndarray, kind: str) -> np.ndarray:
    """(Q, K): the cosine, or minus the Euclidean distance."""
    query, target = query_QD.astype(np.float64), target_KD.astype(np.float64)
    if kind == "cosine":
        lengths = [np.linalg.norm(part, axis=1, keepdims=True) for part in (query, target)]
        return (query / np.maximum(lengths[0], 1e-12)) @ (target / np.maximum(lengths[1], 1e-12)).T
    squares = (query**2).sum(axis=1)[:, None] + (target**2).sum(axis=1) - 2 * query @ target.T
    return -np.sqrt(np.maximum(squares, 0))


def best_ranks(similarity_QK: np.ndarray, is_positive_QK: np.ndarray) -> np.ndarray:
    """(Q,) ranks from 1 of each query's most similar positive; ties with what is no positive count against it."""
    best_Q1 = np.where(is_positive_QK, similarity_QK, -np.inf).max(axis=1, keepdims=True)
    return 1 + ((similarity_QK >= best_Q1 - _TIED) & ~is_positive_QK).sum(axis=1)


def retrieval_metrics(rank_Q: np.ndarray, is_positive_QK: np.ndarray) -> dict[str, float | int]:
    """Numbers of queries, candidates and positives a query, Recall@1, 5 and 10, MRR, median and mean rank, chance."""
    num_positive_Q = is_positive_QK.sum(axis=1)
    queries, candidates = is_positive_QK.shape
    recalls = {f"recall_at_{at}": float((rank_Q <= at).mean()) for at in AT}
    return {
        "queries": queries, "candidates": candidates, "positives": float(num_positive_Q.mean()), **recalls,
        "mrr": float((1 / rank_Q).mean()), "median_rank": float(np.median(rank_Q)), "mean_rank": float(rank_Q.mean()),
        "chance_recall_at_1": float(num_positive_Q.mean() / candidates),
    }  # fmt: skip


def _different(subject: Subject, modality: str) -> np.ndarray:
    """(N,) numbers from 0: rows with the same text (picture, values) have the same number."""
    keys = []
    for at, row in enumerate(subject.rows):
        if modality == "text":
            keys.append(subject.text(at))
        elif modality == "image":
            keys.append(hashlib.sha256(subject.table.images[row]).hexdigest())
        else:
            keys.append(subject.features[modality][at].tobytes())
    return np.unique(np.array(keys, object), return_inverse=True)[1].reshape(-1)


def _figure(
    subject: Subject, queries: np.ndarray, targets: np.ndarray, values: np.ndarray, is_positive: np.ndarray, title: str
) -> Figure:
    """A line a query: it, and the candidates most similar to it; a positive has a tick."""
    name, _, other = title.partition(" to ")
    shown = np.unique(np.linspace(0, len(queries) - 1, min(subject.num_shown, len(queries))).astype(int))
    figure, panels = grid(len(shown), 1 + _FOUND, title=f"{title}: the {_FOUND} most similar")
    for axes, at in zip(panels, shown, strict=True):
        draw_row(axes[0], subject, int(queries[at]), title="query", modality=name)
        for panel, found in zip(axes[1:], np.argsort(-values[at], kind="stable")[:_FOUND], strict=False):
            mark = "right, " if is_positive[at, found] else ""
            draw_row(panel, subject, int(targets[found]), title=f"{mark}{values[at, found]:.3f}", modality=other)
    return figure
