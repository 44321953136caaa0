"""Rows that are copies of others: exactly (equal codes), or nearly (texts by word shingles, pictures by dHash).

No step compares all pairs. Near texts are found by prefix filtering (Chaudhuri et al. 2006; Bayardo et al. 2007),
which unlike MinHash misses none; near hashes by bands (pigeonhole). N rows, U different values, P pairs.
"""

from __future__ import annotations

import itertools
import re
from array import array
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from trainables.data.reading.table import SPLITS

_WORD = re.compile(r"\w+")
_MOST_TEXTS, _MOST_HASHES = 100, 2000  # compared with one under one key; more share it only in degenerate data
_MOST_CANDIDATES = 1 << 20  # pairs compared together
_ONES = np.array([value.bit_count() for value in range(1 << 16)], np.uint8)
_BANDS = (0, 13, 26, 39, 52, 64)  # where the five bands of a hash begin and end


@dataclass(frozen=True)
class NearPairs:
    """Which of U values are near each other.

    Attributes:
        pairs: (P, 2) positions i < j, each pair once, sorted.
        num_skipped: values that were not compared with all others under one key, as too many share it: there may be
            more pairs.
    """

    pairs: np.ndarray
    num_skipped: int = 0


@dataclass(frozen=True)
class Copies:
    """In which splits the rows have copies, themselves apart; columns are train, val, test.

    Attributes:
        exact: (N, 3) bool.
        near: (N, 3) bool, only where the row has no exact copy in that split.
    """

    exact: np.ndarray
    near: np.ndarray


def codes_of(values: Iterable[Hashable | None]) -> np.ndarray:
    """(N,) int64: equal values have equal codes, numbered as they come; None is -1."""
    known: dict[Hashable, int] = {}
    return np.array([-1 if value is None else known.setdefault(value, len(known)) for value in values], np.int64)


def find_copies(split: np.ndarray, exact: np.ndarray, near: np.ndarray, pairs: np.ndarray) -> Copies:
    """Copies of each row by split.

    Args:
        split: (N,) index into SPLITS.
        exact: (N,) codes of what must be equal; -1 has no copies.
        near: (N,) codes of what near pairs are about; rows that are equal here are near, too.
        pairs: (P, 2) different ``near`` codes that are near each other.
    """
    is_exact = _others(split, exact, _by_split(split, exact)) > 0
    counts = _by_split(split, near)
    reach = counts.copy()
    np.add.at(reach, pairs[:, 0], counts[pairs[:, 1]])
    np.add.at(reach, pairs[:, 1], counts[pairs[:, 0]])
    is_near = _others(split, near, reach) > 0
    return Copies(exact=is_exact, near=is_near & ~is_exact)


def _by_split(split: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(codes, 3) rows with each code in each split."""
    used = codes >= 0
    size = int(codes.max(initial=-1)) + 1
    return np.bincount(codes[used] * len(SPLITS) + split[used], minlength=size * len(SPLITS)).reshape(size, len(SPLITS))


def _others(split: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(N, 3) ``counts`` of each row's code, the row itself not counted."""
    found = np.zeros((len(codes), len(SPLITS)), np.int64)
    used = np.flatnonzero(codes >= 0)
    found[used] = counts[codes[used]]
    found[used, split[used]] -= 1
    return found


# --- hashes of pictures -----------------------------------------------------------------------------
def near_hashes(hashes: np.ndarray) -> NearPairs:
    """Pairs of hashes that differ in two bits of 64 at most, in each column.

    Two bits spoil at most two of five bands, so near hashes agree in three at least: of each three, only hashes
    that are equal there are compared. Candidates come from the first column.

    Args:
        hashes: (U, H) uint64, rows all different.
    """
    first, found, skipped = hashes[:, 0], [np.empty(0, np.int64)], 0
    for kept in itertools.combinations(range(len(_BANDS) - 1), 3):
        keys = first & np.uint64(sum((1 << _BANDS[band + 1]) - (1 << _BANDS[band]) for band in kept))
        order = np.argsort(keys, kind="stable")
        pairs = _SameKey(keys[order], most=_MOST_HASHES)
        for left, right in pairs:
            i, j = order[left], order[right]
            for column in hashes.T:
                is_near = _bits(column[i] ^ column[j]) <= 2
                i, j = i[is_near], j[is_near]
            found.append(_packed(i, j, len(hashes)))
        skipped += pairs.num_skipped
    return NearPairs(_unpacked(np.unique(np.concatenate(found)), len(hashes)), skipped)


def _bits(values: np.ndarray) -> np.ndarray:
    """The number of ones in each of (P,) uint64."""
    return _ONES[values.view(np.uint16)].reshape(-1, 4).sum(axis=1)


# --- texts ------------------------------------------------------------------------------------------
def normalised(text: str) -> str:
    """What texts are compared by: case and white space do not count."""
    return " ".join(text.casefold().split())


def near_texts(texts: Sequence[str], least: float = 0.8) -> NearPairs:
    """Texts whose sets of three consecutive words have a Jaccard index of ``least`` or more.

    A text of one or two words is one shingle; punctuation does not count; a text without a word is near no other.

    Args:
        texts: U normalised, different texts.
        least: above 0, at most 1.
    """
    keys, offsets = _shingles(texts)
    sizes = np.diff(offsets)
    # Of two such sets, each in the same order, the first n - ceil(least * n) + 1 shingles have one in common.
    # The order is rarest first, so that few texts meet.
    prefix = np.where(sizes > 0, sizes - np.ceil(least * sizes - 1e-9).astype(np.int64) + 1, 0)
    text = np.repeat(np.arange(len(texts)), prefix)
    key = keys[_ranges(offsets[:-1], prefix)]
    chance = np.random.default_rng(0).permutation(len(text))  # whom a crowded text meets is not the file's order
    order = np.lexsort((chance, sizes[text], key))
    key, text = key[order], text[order]
    candidates, found, waiting = [], [np.empty(0, np.int64)], 0
    pairs = _SameKey(key, most=_MOST_TEXTS, sizes=sizes[text], most_ratio=1 / least + 1e-9)
    for left, right in pairs:
        candidates.append(_packed(text[left], text[right], len(texts)))
        waiting += len(left)
        if waiting > _MOST_CANDIDATES:
            found.append(_verified(np.unique(np.concatenate(candidates)), keys, offsets, least))
            candidates, waiting = [], 0
    if candidates:
        found.append(_verified(np.unique(np.concatenate(candidates)), keys, offsets, least))
    return NearPairs(_unpacked(np.unique(np.concatenate(found)), len(texts)), pairs.num_skipped)


def _shingles(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sorted keys of each text's different shingles, and where each text's keys begin: rare ones have small keys."""
    vocabulary: dict[str, int] = {}
    words, counts = array("Q"), np.zeros(len(texts), np.int64)
    for at, text in enumerate(texts):
        ids = [vocabulary.setdefault(word, len(vocabulary) + 1) for word in _WORD.findall(text)]
        if ids:
            ids += [0] * (3 - len(ids))
            words.extend(ids)
            counts[at] = len(ids) - 2
    flat = np.frombuffer(words, np.uint64) if words else np.empty(0, np.uint64)
    starts = np.cumsum(counts + 2 * (counts > 0)) - (counts + 2 * (counts > 0))
    first = _ranges(starts, counts)
    hashed = _mixed(_mixed(_mixed(flat[first]) + flat[first + 1]) + flat[first + 2])
    frequency = np.bincount((hashed & np.uint64(0xFFFFF)).astype(np.int64), minlength=1 << 20)
    common = np.minimum(frequency, 0xFFFF).astype(np.uint64)[(hashed & np.uint64(0xFFFFF)).astype(np.int64)]
    keys = (common << np.uint64(48)) | (hashed >> np.uint64(16))
    bounds = np.concatenate([[0], np.cumsum(counts)])
    sets = [np.unique(keys[bounds[at] : bounds[at + 1]]) for at in range(len(texts))]
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in sets], dtype=np.int64)]).astype(np.int64)
    return np.concatenate([np.empty(0, np.uint64), *sets]), offsets


def _mixed(values: np.ndarray) -> np.ndarray:
    """A bijection of (S,) uint64 that spreads neighbours (the finaliser of SplitMix64; Steele et al. 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _verified(packed: np.ndarray, keys: np.ndarray, offsets: np.ndarray, least: float) -> np.ndarray:
    """Those of the packed pairs whose Jaccard index is ``least`` or more."""
    pairs = _unpacked(packed, len(offsets) - 1)
    sizes = np.diff(offsets)[pairs]
    total = np.cumsum(sizes.sum(axis=1))
    kept = []
    for chunk in np.split(np.arange(len(pairs)), np.flatnonzero(np.diff(total // (4 * _MOST_CANDIDATES))) + 1):
        owner, found = np.arange(len(chunk), dtype=np.uint64), []
        for side in (0, 1):  # 24 bits of pair and 40 of shingle: sorted, a shingle of both is twice in a row
            at = _ranges(offsets[pairs[chunk, side]], sizes[chunk, side])
            pair = np.repeat(owner, sizes[chunk, side])
            found.append((pair << np.uint64(40)) | (keys[at] & np.uint64(0xFFFFFFFFFF)))
        both = np.sort(np.concatenate(found))
        twice = both[1:][both[1:] == both[:-1]] >> np.uint64(40)
        common = np.bincount(twice.astype(np.int64), minlength=len(chunk))
        union = sizes[chunk].sum(axis=1) - common
        kept.append(packed[chunk[common >= least * union - 1e-9]])
    return np.concatenate(kept)


# --- pairs ------------------------------------------------------------------------------------------
class _SameKey:
    """All pairs of places with the same key, in bites.

    Args:
        keys: (S,) sorted.
        most: right places of each left one.
        sizes: (S,) sorted within a key; a pair with a larger ratio than ``most_ratio`` is left out.
        most_ratio: see ``sizes``.
    """

    def __init__(
        self, keys: np.ndarray, *, most: int, sizes: np.ndarray | None = None, most_ratio: float = 1.0
    ) -> None:
        self.keys, self.most, self.sizes, self.most_ratio = keys, most, sizes, most_ratio
        self.num_skipped = 0  # known when all pairs were taken

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Left and right places."""
        keys, left = self.keys, np.arange(len(self.keys))
        for step in itertools.count(1):
            left = left[: np.searchsorted(left, len(keys) - step)]
            is_same = keys[left + step] == keys[left]
            if self.sizes is not None:
                is_same &= self.sizes[left + step] <= self.most_ratio * self.sizes[left]
            left = left[is_same]  # a place that is done stays done: keys and sizes are sorted
            if not len(left):
                return
            if step > self.most:
                self.num_skipped = len(left)
                return
            yield left, left + step


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """start, start + 1, ... of each range, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)


def _packed(i: np.ndarray, j: np.ndarray, size: int) -> np.ndarray:
    return np.minimum(i, j) * size + np.maximum(i, j)


def _unpacked(packed: np.ndarray, size: int) -> np.ndarray:
    return np.stack([packed // max(1, size), packed % max(1, size)], axis=1)
