"""BatchNorm whose statistics are those of the clean rows alone, while UDA's copies go through with them
(docs/methods.md#uda).

Batches are the clean rows and then as many copies. Statistics over both mix two distributions, of which evaluation
sees the clean one; here the copies are normalised by the running statistics, as in evaluation, and move nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.config import UdaConfig
from trainables.layers.batch_norm import BatchNorm, trained_batch_norms


def splits_statistics(uda: UdaConfig) -> bool:
    """Whether copies behind the clean rows are to be kept out of the statistics."""
    return uda.mode in ("fixed", "dynamic") and uda.bn_eval_for_aug


def moving_norms(model: nn.Module) -> list[BatchNorm]:
    """The BatchNorms whose statistics move in training."""
    return [norm for _, norm in trained_batch_norms(model) if not norm.is_fixed]


def keep_statistics_clean(model: nn.Module) -> None:
    """In training, every BatchNorm whose statistics move treats the second half of its rows as in evaluation."""
    for norm in moving_norms(model):
        halves = _Halves()
        norm.register_forward_pre_hook(halves.take_clean)
        norm.register_forward_hook(halves.add_copies)


class _Halves:
    """Hooks around one BatchNorm: it sees the clean rows, and its output gets the copies' behind them."""

    def __init__(self) -> None:
        self.copies: Tensor | None = None

    def take_clean(self, norm: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if not norm.training:
            return None
        (both,) = given
        assert len(both) % 2 == 0, "as many copies as clean rows"
        clean, self.copies = both.chunk(2)
        return (clean,)

    def add_copies(self, norm: Any, given: tuple[Tensor, ...], clean: Tensor) -> Tensor | None:
        if self.copies is None:
            return None
        mean, var = norm.running_mean.clone(), norm.running_var.clone()  # backward needs them as they are now
        copies, self.copies = F.batch_norm(self.copies, mean, var, norm.weight, norm.bias, eps=norm.eps), None
        return torch.cat([clean, copies])
