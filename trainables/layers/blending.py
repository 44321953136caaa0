"""Gradient blending (Wang et al. 2020): a loss for the joint head and for one on each modality, weighted by how much
each generalises for how much it overfits (docs/methods.md#blend).

Letters: K heads, the joint one first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

_LEAST_GAP = 1e-3  # nats; a gap that stood still would have all the weight
_SHARED = 0.1  # of the weight is spread evenly: a head without any would learn nothing, and never show that it can

Blend = Literal["none", "equal", "ogr"]


class Blending(nn.Module):
    """The weights of the heads' losses; they sum to 1.

    Args:
        modalities: of the heads besides the joint one.
        epochs: between two estimates; None keeps the weights equal.
    """

    weights_K: Tensor
    before_2K: Tensor
    passed: Tensor

    def __init__(self, modalities: Sequence[str], *, epochs: int | None) -> None:
        super().__init__()
        self.modalities, self.epochs = tuple(modalities), epochs
        num_heads = 1 + len(self.modalities)
        self.register_buffer("weights_K", torch.full((num_heads,), 1 / num_heads))
        self.register_buffer("before_2K", torch.zeros(2, num_heads, dtype=torch.float64))  # training, validation
        self.register_buffer("passed", torch.tensor(-1))  # epochs since then; -1: there is no then

    def named(self) -> dict[str, float]:
        """The weights by what is reported of them."""
        names = [f"weight_loss_{name}" for name in ("joint", *self.modalities)]
        return dict(zip(names, self.weights_K.tolist(), strict=True))

    def of_heads(self, heads: dict[str, Tensor]) -> dict[str, Any]:
        """What a ModelOutput says of the losses: of the joint head's, and of ``heads``, logits (B, C) by modality."""
        joint, *others = self.weights_K
        weights = dict(zip(self.modalities, others, strict=True))
        return {"supervised_weight": joint, "heads": heads, "head_weights": weights}

    def end_epoch(self, row: Mapping[str, float]) -> None:
        """Takes in the losses of an epoch's row, and estimates the weights anew where it is time."""
        if self.epochs is None:
            return
        columns = ["supervised", *(f"supervised_{name}" for name in self.modalities)]
        losses = [[row[f"{split}_{column}"] for column in columns] for split in ("train", "val")]
        now_2K = torch.tensor(losses, dtype=torch.float64, device=self.before_2K.device)
        self.passed += 1
        if 0 < int(self.passed) < self.epochs:
            return
        if int(self.passed) > 0:
            self.weights_K.copy_(blended(self.before_2K, now_2K, self.weights_K.double()))
        self.before_2K.copy_(now_2K)
        self.passed.zero_()


def blended(before_2K: Tensor, now_2K: Tensor, weights_K: Tensor) -> Tensor:
    """w_k proportional to G_k / O_k^2, a tenth of it spread evenly.

    Args:
        before_2K: training and validation losses of the heads at the start of a stretch of epochs.
        now_2K: at its end. G_k is by how much the validation loss fell, at least 0, O_k by how much the gap to the
            training loss grew.
        weights_K: so far, which stay where no head generalises.

    Returns:
        (K,), summing to 1.
    """
    gain_K = (before_2K[1] - now_2K[1]).clamp(min=0)
    overfit_K = ((now_2K[1] - now_2K[0]) - (before_2K[1] - before_2K[0])).abs().clamp(min=_LEAST_GAP)
    raw_K = gain_K / overfit_K.square()
    if raw_K.sum() == 0:
        return weights_K
    return (1 - _SHARED) * raw_K / raw_K.sum() + _SHARED / len(raw_K)
