"""Micro-batches of a model whose rows see each other: what runs in parts, and what sees the whole batch of a step.

A BatchNorm's statistics are those of the whole batch (:mod:`trainables.layers.batch_norm`), so rows must not be cut
into forwards before it. A family whose norms come late says so: ``encode`` is what treats each row alone, ``decide``
what comes behind, ``joint_modules`` the modules that only ``decide`` calls. Then ``encode`` runs over a micro-batch at
a time, in backward once more, and no more than one micro-batch's activations are ever kept: the exact gradient for a
third more time. Norms inside an encoder cannot be had in this way, and are refused (docs/methods.md#batch-norm).
A loss that compares rows with each other wants the same; such a model says ``compares_rows``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from trainables.batch import Batch, ModelOutput
from trainables.config import TrialConfig
from trainables.layers.batch_norm import BatchNorm, share_batch_norms, trained_batch_norms


class InParts(nn.Module):
    """A model whose ``encode`` runs over ``size`` rows at a time, and whose ``decide`` over all."""

    def __init__(self, model: Any, *, size: int) -> None:
        super().__init__()
        self.model, self.size = model, size
        self.recompute: Callable[..., Any] = partial(checkpoint, use_reentrant=False)

    def forward(self, batch: Batch) -> ModelOutput:
        """What the model gives for the whole batch."""
        cuts = [batch.slice(at, min(at + self.size, batch.size)) for at in range(0, batch.size, self.size)]
        parts = [self.recompute(self.model.encode, cut) for cut in cuts]
        return self.model.decide({name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def set_batch_norms(model: nn.Module, config: TrialConfig) -> None:
    """Every BatchNorm as ``config.batch_norm`` has it.

    Raises:
        ValueError: 'running' where no encoder that trains has one.
    """
    share_batch_norms(model)
    if config.batch_norm == "running":
        inside = _inside(model)
        if not inside:
            raise ValueError(f"batch_norm: no encoder that trains in this '{config.family}' has a BatchNorm")
        for norm in inside.values():
            norm.is_fixed = True


def runs_in_parts(model: nn.Module, config: TrialConfig, *, num_rows: int) -> bool:
    """Whether a rank's ``num_rows`` rows of a step go through the model as one batch, cut inside of it alone.

    Raises:
        ValueError: micro-batches would cut what a BatchNorm has to see whole.
    """
    size = config.micro_batch_size
    meets = getattr(model, "compares_rows", False) or any(not norm.is_fixed for _, norm in trained_batch_norms(model))
    if size is None or num_rows <= size or not meets:
        return False
    for name, norm in _inside(model).items():
        if not norm.is_fixed:
            raise ValueError(
                f"micro_batch_size: {name} in this '{config.family}' is a BatchNorm over the whole batch, {num_rows} "
                f"rows a worker, which micro-batches of {size} would cut. Exact are batch_norm: running, a locked "
                f"encoder, more workers, and micro_batch_size: null"
            )
    return True


def _inside(model: nn.Module) -> dict[str, BatchNorm]:
    """The norms that train and that come before the rows of a batch may meet."""
    joint = {id(module) for part in getattr(model, "joint_modules", ()) for module in part.modules()}
    return {name: norm for name, norm in trained_batch_norms(model) if id(norm) not in joint}
