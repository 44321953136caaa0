"""Table: a dataset as its format reader gives it, before any tokenizer or image size is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainables.batch import Task

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Target:
    """One set of labels over the rows of a Table."""

    task: Task
    labels: np.ndarray  # (N,) int64 class index, (N, C) float32 multi-hot, or (N,) float32
    is_labelled: np.ndarray  # (N,) bool: rows that take part


@dataclass(frozen=True)
class Table:
    ids: list[str]
    split: np.ndarray  # (N,) 'train' | 'val' | 'test'
    texts: list[str]
    images: list[bytes]  # encoded image files (PNG, JPEG)
    targets: dict[str, Target]  # the first is the default
