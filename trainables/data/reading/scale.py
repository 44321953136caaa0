"""Scale of numbers: a z-score is computed in float64, whatever it is stored as afterwards.

In float32 prices near 2^24 lose their cents, and Unix seconds that are 30 s apart become one number.

N rows, M columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FARTHEST = 10.0  # deviations from the mean, where inputs are cut: prices and sizes have long tails


@dataclass(frozen=True)
class LabelScale:
    """The labels of a regression as they are learnt: z-scores by the training rows."""

    mean: float
    std: float

    @classmethod
    def of(cls, train_labels: np.ndarray) -> LabelScale:
        """The scale that makes these labels (N,) zero on average, with a deviation of 1 unless they are all equal."""
        mean_M, std_M = moments(train_labels[:, None])
        return cls(float(mean_M[0]), float(std_M[0]))

    def z_scores(self, labels: np.ndarray) -> np.ndarray:
        """Labels (N,) as float32 z-scores."""
        return ((labels.astype(np.float64) - self.mean) / self.std).astype(np.float32)

    def restored(self, outputs: np.ndarray) -> np.ndarray:
        """A model's outputs, which are z-scores, in the labels' unit, as float64."""
        return outputs.astype(np.float64) * self.std + self.mean


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (M,) and deviation (M,) of columns (N, M) in float64, where finite; 1 where a column is constant.

    Squares of very large and very small numbers stay in range.
    """
    values = values.astype(np.float64)
    known = np.isfinite(values)
    largest = np.where(known, np.abs(values), 0).max(axis=0, initial=0)
    _, exponent = np.frexp(largest)
    scaled = np.ldexp(np.where(known, values, 0), -exponent)  # by a power of 2: no digit is lost
    count = known.sum(axis=0).clip(min=1)
    mean = scaled.sum(axis=0) / count
    deviation = np.sqrt(np.where(known, (scaled - mean) ** 2, 0).sum(axis=0) / count)
    low = np.where(known, values, np.inf).min(axis=0, initial=np.inf)
    high = np.where(known, values, -np.inf).max(axis=0, initial=-np.inf)
    is_constant = (high <= low) | (deviation == 0)
    mean = np.where(is_constant & known.any(axis=0), high, np.ldexp(mean, exponent))
    return mean, np.where(is_constant, 1.0, np.ldexp(deviation, exponent))


def far_values(values: np.ndarray, is_train: np.ndarray) -> tuple[int, float] | None:
    """Whether z-scores hide most of a column (N,): few values far from the others, which are squeezed together.

    Args:
        values: NaN where missing.
        is_train: (N,) bool, rows that mean and deviation come from.

    Returns:
        How many lie farther from the mean than ``FARTHEST`` deviations, and the largest distance. None if that is no
        heavy tail: at most two different values, or none so far and the middle 80 % span 0.3 deviations or more.
    """
    train = values[is_train & np.isfinite(values)]
    if len(train) < 3 or len(np.unique(train)) <= 2:
        return None
    mean, std = moments(train[:, None])
    distances = np.abs(values[np.isfinite(values)] - mean[0]) / std[0]
    low, high = np.quantile(train, 0.1, method="higher"), np.quantile(train, 0.9, method="lower")
    num_far, is_squeezed = int((distances > FARTHEST).sum()), low < high and high - low < 0.3 * std[0]
    return (num_far, float(distances.max())) if num_far or is_squeezed else None
