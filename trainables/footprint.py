"""What a configuration's training takes of memory, worked out: a step of it on tensors without values.

The model is built on no device, and its forward, losses and backward run as training has them, with the largest batch
that it can see (:mod:`trainables.largest`): what is alive at once is counted (:mod:`trainables.live`), so that
activations, copies in half precision, gradient checkpointing, locked parts and gradients come in as they are. Beside
it are Adam's two moments, and where ranks train together the buffers in which they exchange gradients. Nothing is
computed; it takes some tenths of a second, for the largest models two to four. docs/methods.md#footprint says what
is left out.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from trainables import freezing, step
from trainables.config import TrialConfig
from trainables.data.companions import unlabelled_rows
from trainables.data.data import Data
from trainables.data.open import labelled_rows
from trainables.data.reading.dataset import DatasetRef, load_table, load_target
from trainables.data.reading.tabular import load_tabular
from trainables.data.requirements import requirements
from trainables.data.views import View
from trainables.ddp import wrap
from trainables.encoders.port import Port, load_encoder
from trainables.families import family_inputs
from trainables.largest import Shapes, empty_batch, evaluations, shapes_of, step_rows, training_length
from trainables.layers.clean_statistics import keep_statistics_clean, splits_statistics
from trainables.live import AsOnGpu, LiveBytes, recompute_as_on_gpu, without_values
from trainables.losses import SupervisedLoss
from trainables.model import STATISTICS_ROWS, family_model, load_port, there
from trainables.optim import build_optimizer
from trainables.parts import runs_in_parts
from trainables.precision import Precision, choose_precision
from trainables.ranks import Ranks
from trainables.state import State
from trainables.uda import DynamicLambda

_CPU = torch.device("cpu")
_CUDA_BLOCK = 512  # bytes that torch's allocator rounds up to


@dataclass(frozen=True)
class Footprint:
    """Of one worker, in bytes."""

    peak: int
    """The most that is alive at once: as ``peak_memory_gib``."""
    weights: int
    """Parameters and buffers."""
    saved: int
    """What the forward of a micro-batch leaves for its backward, its batch and logits included."""


def footprint(config: TrialConfig, *, workers: int = 1, on_gpu: bool = False) -> Footprint:
    """What training ``config`` takes at most, from its second step on; nothing is computed and no cache is filled.

    Args:
        config: of the trial.
        workers: that share its batches.
        on_gpu: what CUDA's kernels would keep, and bf16 for ``precision: auto``; False: the CPU's.

    Raises:
        ValueError: as :func:`trainables.model.model_size`.
        NotImplementedError: an operation that cannot be followed without values; which.
    """
    config = config.model_copy(update={"compile": False, "device": "cpu"})
    state, cached = _state(config, workers, _precision(config.precision, on_gpu))
    if on_gpu:
        recompute_as_on_gpu(state.wrapped)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), AsOnGpu() if on_gpu else contextlib.nullcontext():
            return _followed(state, cached, workers=workers, on_gpu=on_gpu)
    except RuntimeError as error:  # of which torch's own of such tensors are
        said = next(iter(str(error).splitlines()), type(error).__name__)
    raise NotImplementedError(said)  # out of the handler, whose error holds the model


def _followed(state: State, cached: dict[str, nn.Module], *, workers: int, on_gpu: bool) -> Footprint:
    config, task, live = state.config, state.task, LiveBytes(block=_CUDA_BLOCK if on_gpu else 1)
    for encoder in cached.values():
        without_values(encoder, _CPU)
    train = np.concatenate([state.data.rows["train"], state.data.unlabelled])

    def shapes(length: int) -> Shapes:
        return shapes_of(config, task, state.data.tabular, cached, length=length)

    of_training = shapes(training_length(config, train))
    of_evaluation = [
        (num_rows, shapes(length)) for num_rows, length in evaluations(config, state.data.rows["val"], workers=workers)
    ]
    with live:
        without_values(state.model, _CPU)
        state.trainable = [part for part in state.model.parameters() if part.requires_grad]
        state.wrapped.train()
        weights = live.now
        saved = 0
        for num_rows in _forwards(state):
            loaded = _loaded(state, of_training, num_rows)
            terms, logits = step.forward(state, loaded, state.uda.current())
            saved = saved or live.now - weights
            step.backward(state, terms["train_loss"])
            del loaded, terms, logits
        trained = sum(part.numel() for part in state.trainable if part.grad is not None)
        state.model.eval()
        with torch.inference_mode(), state.precision.autocast():  # in which no cast of a weight is kept
            for num_rows, fields in of_evaluation:
                state.model(empty_batch(fields, num_rows, _CPU))
    buffers = 4 * trained if workers > 1 else 0
    peak = max(live.peak + 8 * trained + buffers, 0 if on_gpu else _statistics(state.model, len(train)))
    return Footprint(peak=peak, weights=weights, saved=saved)


def _statistics(model: nn.Module, num_rows: int) -> int:
    """Of the features that a port standardises while the model is built, on the CPU."""
    widths = [port.width for port in model.modules() if isinstance(port, Port) and port.input.is_standardised]
    return 8 * min(num_rows, STATISTICS_ROWS) * max(widths, default=0)


def _forwards(state: State) -> list[int]:
    """Rows of the forwards that differ: the first of a step, and one behind it, when gradients are there."""
    if state.is_in_parts or state.forward_rows == state.share:
        return [state.share]
    return [state.forward_rows, state.forward_rows]


def _loaded(state: State, shapes: Shapes, num_rows: int) -> step.Loaded:
    """As :func:`trainables.step.load`."""
    mode, ratio = state.config.uda.mode, state.config.unlabelled_ratio if len(state.data.unlabelled) else 0
    num_clean = num_rows * (1 + ratio)
    batch = empty_batch(shapes, num_clean * (2 if mode in ("fixed", "dynamic") else 1), _CPU)
    return step.Loaded(batch, np.arange(num_rows), num_rows, num_rows * ratio)


def _state(config: TrialConfig, workers: int, precision: Precision) -> tuple[State, dict[str, nn.Module]]:
    """Of a model on the meta device; and the encoders whose features are cached."""
    dataset, target = DatasetRef.of(config), load_target(DatasetRef.of(config), config.target)
    tabular = load_tabular(dataset, config.graph)
    rows = labelled_rows(config, target)
    with torch.device("meta"):
        inputs = there(family_inputs(config), tabular, dataset=config.dataset)
        cached: dict[str, nn.Module] = {
            need.modality: load_encoder(need.modality, need.input)
            for need in requirements(config)
            if need.view is None and need.uses_features
        }
        ports: dict[str, Port] = {}
        for modality, input in inputs.items():
            width = cast(int, cached[modality].width) if modality in cached else None
            ports[modality] = load_port(modality, input, tabular=tabular, dataset=config.dataset, cached_width=width)
        model = family_model(config, target.task, ports)
    if splits_statistics(config.uda):
        keep_statistics_clean(model)
    freezing.begin_epoch(model, config.epochs)  # by then all trains that will
    share = step_rows(config, len(rows["train"]), workers=workers)
    state = State(
        config=config, folder=Path(), ranks=Ranks(),
        precision=precision,
        data=Data(
            task=target.task, ids=[], labels=target.labels, rows=rows, clean=View(), augmented=None,
            unlabelled=unlabelled_rows(config, load_table(dataset), target), max_text_len=config.max_text_len,
            tabular=tabular.only(inputs), dataset=config.dataset,
        ),
        supervised=SupervisedLoss(target.task, config.loss.label_smoothing), model=model,
        optimizer=build_optimizer(model, config.optim), uda=DynamicLambda(config.uda), steps_per_epoch=1,
        share=share, is_in_parts=runs_in_parts(model, config, num_rows=share), memory=cast(Any, None), depth=0,
    )  # fmt: skip
    wrap(state)
    return state, cached


def _precision(name: str, on_gpu: bool) -> Precision:
    """Half precision is bf16, which takes as much as fp16 and which a CPU has too."""
    if name == "auto":
        name = "bf16" if on_gpu else "fp32"
    return Precision() if name == "fp32" else choose_precision("bf16", _CPU)
