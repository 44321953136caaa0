"""The model as training calls it: DDP over the ranks, compiled or not, and what of it is frozen in an epoch.

DDP never synchronises what did not train when it wrapped: freeze first, wrap then, and wrap again whenever a part
freezes or thaws (:mod:`trainables.freezing`).
"""

from __future__ import annotations

import gc
from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.parallel import DistributedDataParallel

from trainables import freezing
from trainables.parts import InParts
from trainables.state import State


def wrap(state: State) -> None:
    """Makes ``state.wrapped``; evaluation uses the bare model, whose lengths and batches vary more."""
    wrapped, config = state.model, state.config
    if state.is_in_parts:
        views = 2 if config.uda.mode in ("fixed", "dynamic") else 1
        each = 1 + (config.unlabelled_ratio if len(state.data.unlabelled) else 0)
        wrapped = InParts(wrapped, size=views * each * state.forward_rows)
    if state.ranks.world > 1:
        ids = [state.ranks.device.index] if state.ranks.device.type == "cuda" else None
        wrapped = DistributedDataParallel(wrapped, device_ids=ids)
    state.wrapped = torch.compile(wrapped, dynamic=True) if config.compile else wrapped  # pyright: ignore


def begin_epoch(state: State, epoch: int) -> None:
    """Training mode, with what the family freezes in this epoch."""
    if freezing.begin_epoch(state.model, epoch):
        state.wrapped = state.model
        gc.collect()  # the old DDP takes its hooks off the parameters when it goes
        wrap(state)
    state.wrapped.train()


def synchronised(state: State, *, is_last: bool) -> AbstractContextManager[object]:
    """Around a forward and backward: ranks add up their gradients in the last micro-batch of a step alone."""
    wrapped = state.wrapped
    return nullcontext() if is_last or state.ranks.world == 1 else wrapped.no_sync()  # pyright: ignore
