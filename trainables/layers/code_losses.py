"""Reconstruction of what is no vector of features: categories, neighbours and words, as classification
(docs/methods.md#reconstruction).

Letters: B samples, K columns of categories, S values of all columns together, E items (neighbours, or tokens of a text)
out of V (nodes of the graph, or the vocabulary).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def category_loss(logits_BS: Tensor, codes_BK: Tensor, sizes: Sequence[int]) -> Tensor:
    """Cross-entropy of each column over the logarithm of its number of values, mean over the columns that are known.

    Args:
        logits_BS: a value's logit for each column, column after column.
        codes_BK: from 1; 0 is a value that is missing or unknown, which is not reconstructed.
        sizes: how many values each column has; they sum to S.

    Returns:
        (B,), about 1 for a guess; 0 where no column is known.
    """
    losses = []
    for logits_BC, codes_B in zip(logits_BS.float().split(list(sizes), dim=1), codes_BK.unbind(dim=1), strict=True):
        loss_B = F.cross_entropy(logits_BC, codes_B - 1, ignore_index=-1, reduction="none")
        losses.append(loss_B / math.log(max(2, logits_BC.shape[1])))
    num_known_B = (codes_BK > 0).sum(dim=1).clamp(min=1)
    return torch.stack(losses, dim=1).sum(dim=1) / num_known_B


def multinomial_loss(logits_BV: Tensor, items_BE: Tensor) -> Tensor:
    """Minus the log probability of an item under a softmax over all, over log V; mean over the items, as of the
    multinomial of Liang et al. 2018 (https://arxiv.org/abs/1802.05814), eq. 2.

    Args:
        logits_BV: of each item.
        items_BE: items from 1, as often as they occur, among zeros.

    Returns:
        (B,), about 1 for a guess; 0 where there is no item.
    """
    log_p_BV = logits_BV.float().log_softmax(dim=1)
    is_there_BE = items_BE > 0
    found_BE = log_p_BV.gather(1, (items_BE - 1).clamp(min=0)) * is_there_BE
    return -found_BE.sum(dim=1) / is_there_BE.sum(dim=1).clamp(min=1) / math.log(max(2, logits_BV.shape[1]))


def bernoulli_loss(logits_BV: Tensor, items_BE: Tensor) -> Tensor:
    """Binary cross-entropy of each of the V items being there or not, summed, over log V times how many are there.

    Args:
        logits_BV: of each item.
        items_BE: items from 1, among zeros; how often one occurs does not count.

    Returns:
        (B,), about 1 for one who says 1/V of each; 0 where there is no item.
    """
    size = logits_BV.shape[1]
    is_there_BV = logits_BV.new_zeros(len(logits_BV), size + 1, dtype=torch.float32).scatter(1, items_BE, 1.0)[:, 1:]
    loss_B = F.binary_cross_entropy_with_logits(logits_BV.float(), is_there_BV, reduction="none").sum(dim=1)
    number_B = is_there_BV.sum(dim=1)
    return torch.where(number_B > 0, loss_B, 0.0) / number_B.clamp(min=1) / math.log(max(2, size))
