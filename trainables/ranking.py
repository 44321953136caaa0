"""Columns of scores in order: average precision and the area under the ROC curve of each, in numpy.

Average precision is scikit-learn's: a step function, ties grouped (docs/methods.md#ap_macro). The ROC area counts
the pairs in the right order, ties half.

Sizes: N samples, C classes.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Ranking:
    """Columns of scores in falling order, and the group of equal scores that each place belongs to.

    Args:
        scores: (N, C), only their order counts.
        is_positive: (N, C) bool.
    """

    def __init__(self, scores: Array, is_positive: Array) -> None:
        num_rows, num_columns = scores.shape
        order = np.argsort(-scores, axis=0)
        ranked = np.take_along_axis(scores, order, axis=0)
        self.is_positive = np.take_along_axis(is_positive, order, axis=0)
        place = np.arange(num_rows)[:, None]
        is_step = ranked[1:] != ranked[:-1]
        edge = np.ones((1, num_columns), dtype=bool)
        last_place = np.where(np.concatenate([is_step, edge]), place, num_rows)
        self.group_end = np.minimum.accumulate(last_place[::-1], axis=0)[::-1]  # place of the group's last
        first_place = np.where(np.concatenate([edge, is_step]), place, 0)
        self.group_start = np.maximum.accumulate(first_place, axis=0)
        self.num_rows = num_rows
        self.num_positives = self.is_positive.sum(axis=0)

    @cached_property
    def average_precision(self) -> Array:
        """(C,): the area under the precision-recall steps of each column, ties grouped; 0 without positives."""
        true_positives = np.take_along_axis(self.is_positive.cumsum(axis=0), self.group_end, axis=0)
        precision = true_positives / (self.group_end + 1)
        return (precision * self.is_positive).sum(axis=0) / np.maximum(self.num_positives, 1)

    @cached_property
    def roc_areas(self) -> Array:
        """(C,): the area under the ROC curve of each column, ties counting half; nan in a column with one kind only."""
        mean_place = (self.group_start + self.group_end) / 2  # 0 is best; Mann-Whitney with midranks
        num_negatives = self.num_rows - self.num_positives
        places = (mean_place * self.is_positive).sum(axis=0)
        num_wrong_pairs = places - self.num_positives * (self.num_positives - 1) / 2
        num_pairs = self.num_positives * num_negatives
        areas = 1 - num_wrong_pairs / np.maximum(num_pairs, 1)
        return np.where(num_pairs > 0, areas, np.nan)
