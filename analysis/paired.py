"""Two models on the same samples: how sure is the difference.

N samples, R resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trainables.metrics import metric_mode, metric_value
from trainables.task import Task

_MOST_CELLS = 2e8  # of resampled outputs, after which metrics that are no mean over samples are resampled less often


@dataclass(frozen=True)
class Outputs:
    """What a model said of N samples, in the order of all models that it is compared with.

    Attributes:
        labels: as :func:`trainables.metrics.compute_metrics` takes them.
        logits: likewise.
    """

    labels: np.ndarray
    logits: np.ndarray


@dataclass(frozen=True)
class Difference:
    """How much better one model is than another; negative: worse, whichever way the metric is better.

    ``low`` and ``high`` are the ends of a 95 % interval.
    """

    gain: float
    low: float
    high: float


def is_right(outputs: Outputs, task: Task) -> np.ndarray | None:
    """(N,) bool: the right class, of a multi-label task all of them; None of a regression."""
    if task.kind == "regression":
        return None
    if task.kind == "multilabel":
        return ((outputs.logits > 0) == (outputs.labels > 0.5)).all(axis=1)
    return outputs.logits.argmax(axis=1) == outputs.labels


def paired_difference(
    one: Outputs, other: Outputs, *, metric: str, task: Task, resamples: int = 2000, seed: int = 0
) -> Difference:
    """How much better ``one`` is than ``other``, with the percentile interval of a paired bootstrap.

    The same samples are drawn with replacement for both (Efron and Tibshirani 1993, chapter 13; Koehn 2004).

    Args:
        one: a model.
        other: another, on the same samples.
        metric: by its name without prefix.
        task: of both.
        resamples: R; fewer where a metric that is no mean over samples would take too long.
        seed: of the draws.
    """
    sign = 1.0 if metric_mode(metric) == "max" else -1.0
    ours, theirs = (metric_value(metric, part.logits, part.labels, task) for part in (one, other))
    rng, number = np.random.default_rng(seed), len(one.labels)
    if metric == "accuracy":
        steps = np.asarray(is_right(one, task), float) - np.asarray(is_right(other, task), float)
        drawn = np.array([steps[rng.integers(0, number, number)].mean() for _ in range(resamples)])
    else:
        times = int(min(resamples, max(200, _MOST_CELLS / one.logits.size)))
        drawn = np.empty(times)
        for at in range(times):
            rows = rng.integers(0, number, number)
            values = [metric_value(metric, part.logits[rows], part.labels[rows], task) for part in (one, other)]
            drawn[at] = sign * (values[0] - values[1])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Difference(sign * (ours - theirs), float(low), float(high))


def mcnemar(one_right: np.ndarray, other_right: np.ndarray) -> float:
    """The exact two-sided p-value of McNemar's test: of the samples that one model alone gets right as many fall to
    either, if they are equally good (McNemar 1947; the binomial of the discordant pairs).

    Args:
        one_right: (N,) bool.
        other_right: (N,) bool.
    """
    from scipy.stats import binomtest

    first, second = int((one_right & ~other_right).sum()), int((~one_right & other_right).sum())
    return 1.0 if first + second == 0 else float(binomtest(first, first + second).pvalue)


def samples_needed(difference: Difference, num_samples: int) -> int | None:
    """With how many samples in all the interval would leave 0 out, if the gain stays; None if there is no gain.

    Its half-width falls with the root of the number.
    """
    half = (difference.high - difference.low) / 2
    if difference.gain == 0:
        return None
    return math.ceil(num_samples * max(1.0, (half / abs(difference.gain)) ** 2))
