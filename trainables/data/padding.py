"""Rows of different lengths as one tensor, padded to the longest among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def pad_rows(
    rows: Sequence[Any], *, fill: int = 0, shape: tuple[int, ...] = (), dtype: Any = np.int64
) -> tuple[Tensor, Tensor]:
    """The rows, padded on the right, and a mask of 1 on what was there and 0 on padding.

    Args:
        rows: B lists or arrays, L entries at most; all empty, they become of length 1.
        fill: what padding holds.
        shape: of one entry.
        dtype: of the values.

    Returns:
        (B, L, *shape), and (B, L) int64.
    """
    longest = max([1, *(len(row) for row in rows)])
    values = np.full((len(rows), longest, *shape), fill, dtype)
    mask = np.zeros((len(rows), longest), np.int64)
    for at, row in enumerate(rows):
        values[at, : len(row)] = row
        mask[at, : len(row)] = 1
    return torch.from_numpy(values), torch.from_numpy(mask)
