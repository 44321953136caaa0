"""How well a model ranks the candidates of each query (a user's films): recall, NDCG and the reciprocal rank in numpy
(docs/methods.md#recall_at_k).

Sizes: N candidates of all queries, Q queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from trainables.ranking import Array

SEPARATOR = "/"  # in an id: what is before the first one names the query


def queries_of(ids: Sequence[str]) -> Array:
    """(N,): which query each sample is a candidate of, by number."""
    return np.unique([id.partition(SEPARATOR)[0] for id in ids], return_inverse=True)[1]


class TopLists:
    """The candidates of each query in falling order of their scores; of equal scores the positives come last.

    Args:
        scores: (N,).
        is_positive: (N,) bool.
        queries: (N,) a number a query; those without a positive are left out.
    """

    def __init__(self, scores: Array, is_positive: Array, queries: Array) -> None:
        order = np.lexsort((is_positive, -scores, queries))
        ranked, found = queries[order], is_positive[order]
        starts = np.concatenate([[True], ranked[1:] != ranked[:-1]])
        first = np.maximum.accumulate(np.where(starts, np.arange(len(ranked)), 0))
        places = np.arange(len(ranked)) - first + 1
        self._places, owners = places[found], ranked[found]
        _, self._owner, self._num_positives = np.unique(owners, return_inverse=True, return_counts=True)

    @cached_property
    def _num_queries(self) -> int:
        return len(self._num_positives)

    def recall(self, k: int) -> float:
        """The share of a query's positives among its first ``k``; mean over the queries, 0 if there are none."""
        return self._mean(self._summed(self._places <= k) / self._num_positives)

    def ndcg(self, k: int) -> float:
        """The sum of 1 / log2(1 + place) of the positives among the first ``k`` over the largest that it can be."""
        gains = np.where(self._places <= k, 1 / np.log2(1 + self._places), 0.0)
        ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(1 + np.arange(1, k + 1)))])
        return self._mean(self._summed(gains) / ideal[np.minimum(self._num_positives, k)])

    def reciprocal_rank(self) -> float:
        """1 / the place of a query's first positive; mean over the queries."""
        best = np.zeros(self._num_queries)
        np.maximum.at(best, self._owner, 1 / self._places)
        return self._mean(best)

    def _summed(self, values: Array) -> Array:
        return np.bincount(self._owner, weights=values, minlength=self._num_queries)

    def _mean(self, values_Q: Array) -> float:
        return float(values_Q.mean()) if len(values_Q) else 0.0
