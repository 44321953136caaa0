"""What a model costs: sizes, and the time that it takes to answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from trainables.clock import split
from trainables.data.requirements import requirements
from trainables.data.views import View
from trainables.encoders.port import Port, load_encoder
from trainables.progress import Row
from trainables.state import State

_BATCH = 32
_WARM_UP, _LEAST, _MOST, _SECONDS = 2, 3, 30, 0.3  # passes that do not count, passes that do, and how long at most


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
    state.model.eval()
    with _whole_model(state) as view:
        lengths = view.lengths(state.data.max_text_len)
        middle = 0 if lengths is None else np.argsort(lengths[rows], kind="stable")[_BATCH // 2]
        for name, part in (("per_sample", rows), ("single", rows[middle : middle + 1])):
            milliseconds = 1000 * np.array(_passes(state, part, view)) / len(part)
            low, median, high = np.quantile(milliseconds, [0.25, 0.5, 0.75]).tolist()
            found |= {f"inference_ms_{name}": median, f"inference_ms_{name}_iqr": high - low}
    return found | {"inference_threads": torch.get_num_threads()}


@torch.inference_mode()
def _passes(state: State, rows: np.ndarray, view: View) -> list[float]:
    """Seconds of each forward over these rows, on the device already, but for those that warm up."""
    batch, device = state.data.batch(rows, view).to(state.ranks.device), state.ranks.device
    seconds: list[float] = []
    while (counted := len(seconds) - _WARM_UP) < _LEAST or (counted < _MOST and sum(seconds) < _SECONDS):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        with state.precision.autocast():
            state.model(batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return seconds[_WARM_UP:]


@contextmanager
def _whole_model(state: State) -> Iterator[View]:
    """Meanwhile the model has the encoders whose features are cached; the view that it then reads."""
    raw: dict[str, Any] = {}
    for need in requirements(state.config):
        if need.view is None and need.uses_features:
            source = need.without_features()
            raw |= {need.field: None, source.field: source.build()}
    ports = [
        module
        for module in state.model.modules()
        if isinstance(module, Port) and module.encoder is None and f"{module.modality}_features" in raw
    ]
    try:
        for port in ports:
            port.encoder = load_encoder(port.modality, port.input).eval().to(state.ranks.device)
        yield replace(state.data.clean, **raw)
    finally:
        for port in ports:
            port.encoder = None
