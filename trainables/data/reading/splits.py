"""Splits where a dataset has none: by the hash of ids, so that neither row order nor a run changes them.

Groups (poses of a product, versions of a text) stay together; strata (classes) are spread evenly.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from hashlib import blake2b

import numpy as np


def hash_split(
    ids: Sequence[str],
    *,
    strata: Sequence[str | None] | None = None,
    groups: Sequence[Hashable] | None = None,
    val: float = 0.1,
    test: float = 0.1,
) -> np.ndarray:
    """(N,) 'train' | 'val' | 'test'; see :func:`held_out`. Of two groups one is val: nothing trains without it."""
    split = np.full(len(ids), "train", "<U5")
    is_test = held_out(ids, share=test, strata=strata, groups=groups, name="test")
    if len({*(ids if groups is None else groups)}) < 3:
        is_test[:] = False
    split[is_test] = "test"
    rest: list[int] = np.flatnonzero(~is_test).tolist()
    is_val = held_out(
        [ids[row] for row in rest],
        share=val / (1 - test),
        strata=None if strata is None else [strata[row] for row in rest],
        groups=None if groups is None else [groups[row] for row in rest],
        name="val",
    )
    split[np.array(rest, int)[is_val]] = "val"
    return split


def with_validation(
    split: np.ndarray,
    ids: Sequence[str],
    *,
    strata: Sequence[str | None] | None = None,
    groups: Sequence[Hashable] | None = None,
    val: float = 0.1,
) -> tuple[np.ndarray, str | None]:
    """The split with training rows held out for validation where no row is in it, and a note that says so.

    Args:
        split: (N,) 'train' | 'val' | 'test'.
        val: share of the training rows.
    """
    train: list[int] = np.flatnonzero(split == "train").tolist()
    if (split == "val").any() or len(train) < 2:
        return split, None
    is_val = held_out(
        [ids[row] for row in train],
        share=val,
        strata=None if strata is None else [strata[row] for row in train],
        groups=None if groups is None else [groups[row] for row in train],
    )
    split = split.copy()
    split[np.array(train)[is_val]] = "val"
    return split, (
        f"no row is in val: {int(is_val.sum()):,} of {len(train):,} training rows are held out for it, by the hash of "
        f"their {'ids' if groups is None else 'groups'}, the same with every seed"
    )


def held_out(
    ids: Sequence[str],
    *,
    share: float | None = None,
    count: int | None = None,
    strata: Sequence[str | None] | None = None,
    groups: Sequence[Hashable] | None = None,
    name: str = "val",
) -> np.ndarray:
    """(N,) bool: rows to hold out, ``share`` of the groups or ``count`` of them, at least one of several.

    Groups are put in order by stratum, then by hash, and then taken at even steps: each stratum gives its
    share, up to one group. A group belongs to the smallest stratum among its rows.

    Args:
        ids: N different ids.
        strata: what to spread evenly.
        groups: what must stay together; None makes each row a group.
        name: goes into the hash, so that two calls hold out different rows.
    """
    keys: Sequence[Hashable] = ids if groups is None else groups
    number: dict[Hashable, int] = {}
    group = np.fromiter((number.setdefault(key, len(number)) for key in keys), np.int64, len(keys))
    total = len(number)
    if count is None:
        assert share is not None
        count = max(round(share * total), int(total > 1))
    count = min(count, total - 1) if total > 1 else 0
    hashes = np.fromiter((_hash(name, key) for key in number), np.uint64, total)
    order = np.argsort(hashes, kind="stable")
    if strata is not None:
        names = sorted({value for value in strata if value is not None})
        code: dict[str | None, int] = {name: at for at, name in enumerate(names, 1)} | {None: 0}
        codes = np.fromiter((code[value] for value in strata), np.int64, len(strata))
        smallest = np.full(total, np.iinfo(np.int64).max)
        np.minimum.at(smallest, group, codes)
        order = np.lexsort((hashes, smallest))
    place = np.arange(total) if total else np.zeros(0, np.int64)
    is_taken = np.zeros(total, bool)
    is_taken[order] = (place + 1) * count // max(total, 1) > place * count // max(total, 1)
    return is_taken[group]


def _hash(name: str, key: Hashable) -> int:
    return int.from_bytes(blake2b(f"{name}\0{key}".encode(), digest_size=8).digest(), "big")
