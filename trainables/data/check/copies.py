"""Copies of texts and images within and across splits, and where they are."""

from __future__ import annotations

import numpy as np

from trainables.data.check.duplicates import (
    Copies,
    NearPairs,
    codes_of,
    find_copies,
    near_hashes,
    near_texts,
    normalised,
)
from trainables.data.check.images import ImageScan
from trainables.data.check.result import LISTED, Copy, CopyCheck, Splits
from trainables.data.check.rows import Look
from trainables.data.reading.table import SPLITS


def check_copies(
    look: Look, scan: ImageScan | None, texts: np.ndarray | None, pixels: np.ndarray | None
) -> dict[str, CopyCheck]:
    found = {}
    if texts is not None:
        different = list(dict.fromkeys(filter(None, map(normalised, look.texts))))
        found["text"] = _copies(look, texts, texts, near_texts(different))
    if scan is not None and pixels is not None:
        files = codes_of([one.file_hash for one in scan.pictures])
        found["image file"] = _copies(look, files[scan.picture])
        hashes = [one.hashes if one.hashes != (0, 0) else None for one in scan.pictures]
        near = np.array(list(dict.fromkeys(filter(None, hashes))), np.uint64).reshape(-1, 2)
        found["image"] = _copies(look, pixels, codes_of(hashes)[scan.picture], near_hashes(near))
    if texts is not None and pixels is not None:
        both = [(a, b) if b >= 0 else None for a, b in zip(texts.tolist(), pixels.tolist(), strict=True)]
        found["text and image"] = _copies(look, codes_of(both))
    return found


def _copies(look: Look, exact: np.ndarray, near: np.ndarray | None = None, pairs: NearPairs | None = None) -> CopyCheck:
    if near is None or pairs is None:
        near, pairs = np.full(len(exact), -1, np.int64), None
    edges = np.empty((0, 2), np.int64) if pairs is None else pairs.pairs
    copies = find_copies(look.split, exact, near, edges)
    earlier = np.arange(len(SPLITS)) < look.split[:, None]
    is_exact, is_near = ((one & earlier).any(axis=1) for one in (copies.exact, copies.near))
    return CopyCheck(
        exact=_matrix(look, copies.exact),
        near=None if pairs is None else _matrix(look, copies.near),
        exact_across=int(is_exact.sum()),
        near_across=int((is_near & ~is_exact).sum()),
        skipped=0 if pairs is None else pairs.num_skipped,
        examples=_copy_examples(look, copies, exact, near, edges),
    )


def _matrix(look: Look, has_copy: np.ndarray) -> dict[str, Splits]:
    counts = [look.count(has_copy[:, at]) for at in range(len(SPLITS))]
    return {row: {column: counts[at][row] for at, column in enumerate(SPLITS)} for row in SPLITS}


def _copy_examples(look: Look, copies: Copies, exact: np.ndarray, near: np.ndarray, edges: np.ndarray) -> list[Copy]:
    """The first rows of each pair of splits, a later split's copy of an earlier one's row first."""
    partners = {True: _Partners(exact, edges[:0]), False: _Partners(near, edges)}
    found = []
    for is_exact, has_copy in ((True, copies.exact), (False, copies.near)):
        for split, other in ((2, 0), (1, 0), (2, 1), (0, 0), (1, 1), (2, 2)):
            listed = 0
            for at in np.flatnonzero(has_copy[:, other] & (look.split == split)):
                candidates = partners[is_exact].of(int(at))
                candidates = candidates[(look.split[candidates] == other) & (candidates != at)]
                if not is_exact:
                    candidates = candidates[(exact[candidates] != exact[at]) | (exact[candidates] < 0)]
                first = int(candidates.min())
                if split == other and first > at:
                    continue  # said of the other row
                refs = look.ref(int(at)), look.ref(first)
                found.append(Copy(*refs, is_exact, look.excerpt(int(at)), look.excerpt(first)))
                listed += 1
                if listed == LISTED:
                    break
    return found


class _Partners:
    """Rows with the code of a row, or a neighbouring one."""

    def __init__(self, codes: np.ndarray, edges: np.ndarray) -> None:
        self.codes = codes
        self.order = np.argsort(codes, kind="stable")
        self.sorted = codes[self.order]
        both = np.concatenate([edges, edges[:, ::-1]])
        self.edges = both[np.argsort(both[:, 0], kind="stable")]

    def of(self, at: int) -> np.ndarray:
        code = self.codes[at]
        first, last = np.searchsorted(self.edges[:, 0], [code, code + 1])
        rows = []
        for near in [code, *self.edges[first:last, 1]]:
            start, end = np.searchsorted(self.sorted, [near, near + 1])
            rows.append(self.order[start:end])
        return np.concatenate(rows)
