"""How many rows go through the model at a time: fewer where the device is too full for those that were asked for.

A step's loss is a mean over its batch however that is cut, so a trial that does not fit is cut into smaller forwards
before it is given up: half as many rows, and half again, down to one; where nothing is trained as well. What it came to
stays in its checkpoint, so that it goes on as it was.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

from trainables.config import TrialConfig
from trainables.errors import OutOfMemoryError
from trainables.memory import release
from trainables.parts import runs_in_parts
from trainables.ranks import Ranks
from trainables.state import State

T = TypeVar("T")


def until_it_fits(begin: Callable[[], State], go: Callable[[State, bool], T], *, ranks: Ranks) -> T:
    """What ``go`` gives, with forwards halved as often as it takes.

    Several ranks have one attempt: perhaps one alone is out of memory, and the others wait for it.

    Args:
        begin: makes the state, from its last checkpoint.
        go: trains it; told whether an attempt was before it.
        ranks: this process's place.

    Raises:
        OutOfMemoryError: the device is full, with one row at a time as well, or where rows cannot be cut.
    """
    halvings, clock = 0, None
    while True:
        state = None
        try:
            state = begin()
            halve(state, halvings)
            state.clock = clock or state.clock
            return go(state, halvings > 0)
        except torch.cuda.OutOfMemoryError as error:
            if ranks.world > 1:
                raise  # the group cannot be trusted any more
            what, fewer = str(error).splitlines()[0], None if state is None else _next_halvings(state)
            if state is None or fewer is None:
                release(ranks.device)
                raise OutOfMemoryError(f"out of memory on {ranks.device}: {what}") from None
            rows, clock = state.forward_rows, state.clock
        halvings, state = fewer, None  # out of the handler, whose error holds the model
        release(ranks.device)
        warnings.warn(f"out of memory with {rows} rows at a time ({what}); it goes on with half as many", stacklevel=2)


def halve(state: State, halvings: int) -> None:
    """Has ``state`` cut its batches in half so many times, or more often if it does already.

    Raises:
        ValueError: micro-batches would cut what a BatchNorm has to see whole.
    """
    if halvings > state.halvings:
        state.halvings = halvings
        state.is_in_parts = runs_in_parts(state.model, _cut(state.config, state.forward_rows), num_rows=state.share)


def _next_halvings(state: State) -> int | None:
    """How often to halve where ``state`` did not fit; None if nothing smaller is left, or rows cannot be cut."""
    if state.forward_rows == 1 and state.eval_rows == 1:
        return None
    try:
        runs_in_parts(state.model, _cut(state.config, -(-state.forward_rows // 2)), num_rows=state.share)
    except ValueError:
        return None
    return state.halvings + 1


def _cut(config: TrialConfig, rows: int) -> TrialConfig:
    return config.model_copy(update={"micro_batch_size": rows})
