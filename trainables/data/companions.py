"""Companions: training rows without a label that join the labelled ones of a batch (docs/methods.md#unlabelled).

Each labelled row brings the same number of them, so that whatever a batch is cut into has them in proportion and means
over its rows still add up. An epoch takes the next ones of a sequence that has every unlabelled row once a turn, turn
after turn in another order: a function of seed and epoch alone, so resuming needs no state.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from trainables.config import TrialConfig
from trainables.data.data import Data
from trainables.data.reading.table import Table, Target
from trainables.families import unlabelled_terms
from trainables.seeds import derive_seed


def wants_unlabelled(config: TrialConfig) -> bool:
    """Whether something in the loss of ``config`` needs no label: the consistency loss, or a family's own terms."""
    if getattr(config.model, "same_class_negatives", 1.0) > 1:
        return False  # what has no label shares none
    if config.uda.mode == "aug" or config.unlabelled_ratio == 0:  # aug is more labelled data, and nothing else
        return False
    return config.uda.mode in ("fixed", "dynamic") or bool(unlabelled_terms(config.family))


def unlabelled_rows(config: TrialConfig, table: Table, target: Target) -> np.ndarray:
    """The training rows without a label that ``config`` trains on; none where nothing wants them."""
    if not wants_unlabelled(config):
        return np.zeros(0, np.int64)
    return np.flatnonzero((table.split == "train") & ~target.is_labelled)


def companions(data: Data, rows: np.ndarray, *, ratio: int, seed: int, epoch: int) -> np.ndarray:
    """The unlabelled rows that join labelled training rows in an epoch: ``ratio`` for each, none if there are none.

    Args:
        data: whose rows.
        rows: labelled ones.
        ratio: unlabelled rows a labelled one.
        seed: the trial's.
        epoch: 1-based.
    """
    if len(data.unlabelled) == 0:
        return rows[:0]
    train, total = data.rows["train"], len(data.unlabelled)
    first = (epoch - 1) * len(train) * ratio
    places = first + np.searchsorted(train, rows)[:, None] * ratio + np.arange(ratio)
    turns, at = np.divmod(places.ravel(), total)
    found = np.empty(len(at), np.int64)
    for turn in np.unique(turns):
        is_of_turn = turns == turn
        found[is_of_turn] = data.unlabelled[_order(total, seed, int(turn))[at[is_of_turn]]]
    return found


@lru_cache(maxsize=8)  # an epoch is of few turns, and each batch asks
def _order(total: int, seed: int, turn: int) -> np.ndarray:
    return np.random.default_rng(derive_seed(seed, "unlabelled", turn)).permutation(total)
