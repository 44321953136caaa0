"""Rehearsals: what the first trial of its kind loads into a process, libraries and weights that are kept, is loaded
ahead of it. It is no memory of that trial's, and the same trial would not take it a second time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow
import torch
from torch import nn

from trainables.config import TrialConfig
from trainables.data.data import Data
from trainables.families import family_inputs
from trainables.optim import build_optimizer
from trainables.state import State

_TRAINS = 30_000_000  # parameters at most of what trains a step: beside more, its kernels are nothing

_done: set[tuple[Any, ...]] = set()


def rehearse(
    config: TrialConfig,
    data: Data,
    *,
    build: Callable[[TrialConfig, Data], State],
    train: Callable[[State], object] | None,
) -> None:
    """Builds the model once, unless this process has had such a trial, and trains it on one batch if it is small.

    Args:
        config: of a trial that is about to be built.
        data: its data.
        build: what makes a state of both.
        train: a short epoch; None where ranks would have to go through it together.
    """
    uda, encoders = config.uda, tuple((one.encoder, one.is_locked) for one in family_inputs(config).values())
    kind = (config.family, encoders, config.cache_features, uda.mode, uda.copies)
    if kind in _done:
        return
    _done.add(kind)
    _load_training(config)
    size = config.micro_batch_size or config.batch_size
    with contextlib.suppress(Exception):  # the trial itself will say so
        state = build(config, replace(data, rows={name: rows[:size] for name, rows in data.rows.items()}))
        if train is not None and sum(parameter.numel() for parameter in state.model.parameters()) <= _TRAINS:
            train(state)


def _load_training(config: TrialConfig) -> None:
    """What torch imports when something trains for the first time, and pyarrow when it writes: pandas, where it is."""
    pyarrow.array(np.zeros(1))
    model = nn.Sequential(nn.Linear(512, 512), nn.LayerNorm(512), nn.GELU(), nn.Dropout(), nn.Linear(512, 4))
    optimizer = build_optimizer(model, config.optim)
    model(torch.zeros(32, 512)).sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
