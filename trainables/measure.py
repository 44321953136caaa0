"""What a model costs: sizes, and the time that it takes to answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from trainables.clock import split
from trainables.data.requirements import Requirement, requirements
from trainables.data.views import View
from trainables.encoders.port import encode, load_encoder
from trainables.progress import Row
from trainables.state import State

_BATCH = 32
_WARM_UP, _LEAST, _MOST, _SECONDS = 2, 3, 30, 0.3  # passes that do not count, passes that do, and how long at most

_encoders: dict[tuple[Any, ...], list[float]] = {}  # what forwards of locked encoders took: every trial's are alike


def times_spent(state: State) -> Row:
    """The columns of time since the last report, or since the trial was taken up, by the slowest rank's clock."""
    clocks, world = state.ranks.gather(state.clock.read()), state.ranks.world
    slowest = {name: max(clock[name] for clock in clocks) for name in clocks[0]}
    wall = slowest.pop("wall_seconds")
    return split(wall, devices=world, parts={name: seconds * world for name, seconds in slowest.items()})


def size_facts(state: State) -> Row:
    """num_parameters, encoders with cached features included, and num_trainable."""
    cached = [state.data.clean.text_features, state.data.clean.image_features]
    total = sum(parameter.numel() for parameter in state.model.parameters())
    return {
        "num_parameters": total + sum(features.num_parameters for features in cached if features is not None),
        "num_trainable": sum(parameter.numel() for parameter in state.trainable),
    }


def inference(state: State) -> Row:
    """Milliseconds a sample that the whole model takes, locked encoders included, with 32 samples at once and with
    one: median and interquartile range; and the threads that it had. Measured by rank 0.

    Encoders whose outputs are cached are timed by themselves, once a process, and what they took is added.
    Nothing where the device is too full for 32 samples.
    """
    measured: Row = {}
    error = None
    if state.ranks.rank == 0:
        try:
            with state.memory.left_out():
                measured = _measured(state)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
        except Exception as caught:  # raised below: the other ranks wait
            error = caught
    state.ranks.raise_together(error)
    return state.ranks.broadcast(measured)


def _measured(state: State) -> Row:
    rows, found = np.resize(state.data.rows["val"], _BATCH), {}
    cached = [need for need in requirements(state.config) if need.view is None and need.uses_features]
    fields: dict[str, Any] = {source.field: source.build() for source in map(Requirement.without_features, cached)}
    raw = View(**fields)
    lengths = (raw if raw.tokens is not None else state.data.clean).lengths(state.data.max_text_len)
    middle = 0 if lengths is None else np.argsort(lengths[rows], kind="stable")[_BATCH // 2]
    state.model.eval()
    for name, part in (("per_sample", rows), ("single", rows[middle : middle + 1])):
        batch = state.data.batch(part, state.data.clean).to(state.ranks.device)
        seconds = np.array(_passes(state, partial(state.model, batch)))
        for need in cached:  # one after the other: any pass of each may meet any of the others
            seconds = np.add.outer(seconds, _of_encoder(state, need, part, raw)).ravel()
        low, median, high = np.quantile(1000 * seconds / len(part), [0.25, 0.5, 0.75]).tolist()
        found |= {f"inference_ms_{name}": median, f"inference_ms_{name}_iqr": high - low}
    return found | {"inference_threads": torch.get_num_threads()}


def _of_encoder(state: State, need: Requirement, rows: np.ndarray, raw: View) -> list[float]:
    """Seconds of each forward of a locked encoder, whose features are cached, over these rows; timed once a process."""
    device = state.ranks.device
    key = (
        need, state.data.fingerprint, rows.tobytes(), state.config.precision, str(device), torch.get_num_threads(),
    )  # fmt: skip
    if key not in _encoders:
        encoder = load_encoder(need.modality, need.input).eval().to(device)
        batch = state.data.batch(rows, raw).to(device)
        run = partial(encode, encoder, batch, modality=need.modality, input=need.input)
        _encoders[key] = _passes(state, run)
    return _encoders[key]


@torch.inference_mode()
def _passes(state: State, run: Callable[[], object]) -> list[float]:
    """Seconds of each forward, but for those that warm up."""
    device = state.ranks.device
    seconds: list[float] = []
    while (counted := len(seconds) - _WARM_UP) < _LEAST or (counted < _MOST and sum(seconds) < _SECONDS):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        with state.precision.autocast():
            run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return seconds[_WARM_UP:]
