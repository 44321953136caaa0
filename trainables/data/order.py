"""Order: which rows make up each batch; length-bucketed, deterministic in (seed, epoch), sharded over ranks.

The order of an epoch is a function of (seed, epoch) alone and every rank computes all of it, so resuming
needs no sampler state and any number of ranks sees the same global batches. Rank r takes rows r, r + W,
r + 2W, ... of each; in evaluation no row is served twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from trainables.data.data import Data
from trainables.seeds import derive_seed

BUCKET = 32  # batches at most that are sorted by length together
_BUCKETS = 8  # at least so many an epoch: one bucket over it all would make the same batches every time


def global_batches(data: Data, *, batch_size: int, seed: int, epoch: int, is_doubled: bool = False) -> list[np.ndarray]:
    """Row numbers of every training batch of an epoch, the same on all ranks.

    The rows are spread evenly over ceil(rows / batch_size) batches, whose sizes differ by one at most: no
    small last batch (BatchNorm and every rank need rows), and none above ``batch_size``, which has to fit.

    Args:
        data: what to draw from.
        batch_size: rows a batch at most, over all ranks.
        seed: the trial's.
        epoch: 1-based.
        is_doubled: every training row comes a second time, as number row + N of all N rows: its augmented copy.
    """
    rng = np.random.default_rng(derive_seed(seed, "order", epoch))
    rows = data.rows["train"]
    rows = rng.permutation(np.concatenate([rows, rows + len(data.ids)]) if is_doubled else rows)
    count = math.ceil(len(rows) / batch_size)
    ends = len(rows) * np.arange(1, count + 1) // count
    if data.lengths is not None:
        size = max(1, min(BUCKET, count // _BUCKETS))
        for bucket in np.split(rows, ends[size - 1 :: size]):  # views: sorted in place
            bucket[:] = bucket[np.argsort(data.lengths[bucket % len(data.ids)], kind="stable")]
    batches = np.split(rows, ends[:-1])
    order = rng.permutation(count) if data.lengths is not None else range(count)
    return [batches[index] for index in order]


def some_rows(rows: np.ndarray, size: int | None) -> np.ndarray:
    """``size`` of the rows at random, ascending, the same for every seed; all of them if there are no more, or None."""
    return np.sort(np.random.default_rng(0).permutation(rows)[:size])  # files come sorted


def eval_batches(
    data: Data, rows: np.ndarray, *, batch_size: int, rank: int = 0, world: int = 1
) -> Iterator[np.ndarray]:
    """This rank's part of ``rows``, sorted by length, each row on exactly one rank."""
    if data.lengths is not None:
        rows = rows[np.argsort(data.lengths[rows], kind="stable")]
    rows = rows[rank::world]
    for at in range(0, len(rows), batch_size):
        yield rows[at : at + batch_size]
