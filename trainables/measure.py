"""What a model costs: sizes, and the time that its finished model takes for a sample."""

from __future__ import annotations

import time

import numpy as np
import torch

from trainables.progress import Row
from trainables.state import State
from trainables.step import clean_batch

_INFERENCE_SECONDS = 1.0  # spent on timing the finished model


def size_facts(state: State) -> Row:
    """num_parameters, encoders with cached features included, and num_trainable."""
    cached = [state.data.clean.text_features, state.data.clean.image_features]
    total = sum(parameter.numel() for parameter in state.model.parameters())
    return {
        "num_parameters": total + sum(features.num_parameters for features in cached if features is not None),
        "num_trainable": sum(parameter.numel() for parameter in state.trainable),
    }


@torch.inference_mode()
def inference_ms(state: State, *, batch_size: int = 32, num_batches: int = 30) -> float:
    """Median milliseconds a sample, forward alone; cached encoders' time is added.

    Over 30 batches of 32, or as many as fit into a second; the first one warms up.
    """
    state.model.eval()
    rows = state.data.rows["val"][:batch_size]
    batch = clean_batch(state, rows).to(state.ranks.device, non_blocking=True)
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) <= num_batches and sum(seconds) < _INFERENCE_SECONDS):
        began = time.perf_counter()
        with state.precision.autocast():
            state.model(batch)
        if state.ranks.device.type == "cuda":
            torch.cuda.synchronize(state.ranks.device)
        seconds.append(time.perf_counter() - began)
    cached = [state.data.clean.text_features, state.data.clean.image_features]
    encoders = sum(features.encoder_ms for features in cached if features is not None)
    return 1000 * float(np.median(seconds[1:])) / len(rows) + encoders
