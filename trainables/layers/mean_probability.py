"""The mean of several heads' probabilities, as logits (docs/methods.md#late-fusion).

Letters: M heads, B samples, C classes.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def mean_probability(logits_MBC: Tensor, log_weight: Tensor | float, *, is_multiclass: bool) -> Tensor:
    """Logits (B, C) whose probabilities are the weighted mean of the heads' probabilities.

    Args:
        logits_MBC: of each head.
        log_weight: logarithms of weights that sum to 1, (M, 1, 1), or of one weight for all.
        is_multiclass: softmax over the classes, else each class by itself.
    """
    if is_multiclass:
        return (log_weight + logits_MBC.log_softmax(dim=2)).logsumexp(dim=0)
    log_p = (log_weight + F.logsigmoid(logits_MBC)).logsumexp(dim=0)
    log_not_p = (log_weight + F.logsigmoid(-logits_MBC)).logsumexp(dim=0)
    return log_p - log_not_p
