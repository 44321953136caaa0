"""One optimiser step, piece by piece: a batch's rows, micro-batches, forward and loss terms, gradients, the step.

Losses are means over the global batch, whatever the number of ranks and micro-batches: each micro-batch is
weighted by its share of the rows. ``batch_size`` therefore means the same on any cluster.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainables.batch import Batch, ModelOutput
from trainables.config import TrialConfig
from trainables.data.companions import companions
from trainables.data.data import Data
from trainables.data.order import global_batches
from trainables.errors import NonFiniteError
from trainables.families import unlabelled_terms
from trainables.optim import lr_factor
from trainables.precision import SMALLEST_SCALE
from trainables.state import State
from trainables.uda import LambdaState, consistency_loss


@dataclass(frozen=True)
class Loaded:
    """A micro-batch of ``num_rows`` rows that were drawn: the clean ones, then augmented copies.

    Attributes:
        batch: clean rows, ``num_unlabelled`` companions without a label, then copies.
        clean_rows: the labelled ones among the clean.
        num_rows: labelled rows that were drawn.
        num_unlabelled: companions; their labels in the batch mean nothing.
    """

    batch: Batch
    clean_rows: np.ndarray
    num_rows: int
    num_unlabelled: int = 0


def epoch_batches(config: TrialConfig, data: Data, epoch: int) -> list[np.ndarray]:
    """Row numbers of every step of an epoch, over all ranks."""
    return global_batches(
        data, batch_size=config.batch_size, seed=config.seed, epoch=epoch, is_doubled=config.uda.mode == "aug"
    )


def micro_batches(state: State, batch_rows: np.ndarray) -> list[np.ndarray]:
    """This rank's rows of a step, a forward each; a model that runs in parts cuts them itself."""
    mine = batch_rows[state.ranks.rank :: state.ranks.world]
    size = len(mine) if state.is_in_parts else state.forward_rows
    return [mine[at : at + size] for at in range(0, len(mine), size)]


def clean_batch(state: State, rows: np.ndarray) -> Batch:
    """These rows as they are, in memory that a GPU copies from on its own."""
    return _pinned(state, state.data.batch(rows, state.data.clean))


def load(state: State, rows: np.ndarray, epoch: int) -> Loaded:
    """The views of these rows that train, one behind the other, in memory that a GPU copies from on its own."""
    data, config, mode = state.data, state.config, state.config.uda.mode
    clean_rows, copied_rows = rows, rows[:0]
    joining = companions(data, rows, ratio=config.unlabelled_ratio, seed=config.seed, epoch=epoch)
    clean = np.concatenate([rows, joining])
    if mode == "aug":
        clean_rows, copied_rows = rows[rows < len(data.ids)], rows[rows >= len(data.ids)] - len(data.ids)
        clean = clean_rows
    elif mode != "none":
        copied_rows = clean
    parts = [_dropped(data, data.batch(clean, data.clean), clean, epoch)] if len(clean) else []
    if len(copied_rows):
        assert data.augmented is not None
        numbers = copied_rows + len(data.ids) if mode == "aug" else copied_rows  # else a row and its copy lose the same
        parts.append(_dropped(data, data.batch(copied_rows, data.augmented, epoch=epoch), numbers, epoch))
    if len(joining):
        for part in parts:
            part.labels[len(rows) :] = 0  # one that every loss can be computed with
    batch = parts[0] if len(parts) == 1 else parts[0].concat(parts[1])
    return Loaded(_pinned(state, batch), clean_rows, len(rows), len(joining))


def forward(state: State, loaded: Loaded, uda: LambdaState) -> tuple[dict[str, Tensor], Tensor]:
    """Loss terms, each a mean over the rows, and the logits of the clean rows.

    Both views go through the model as one batch. Of the copies UDA takes the consistency loss alone, neither the
    supervised one nor the family's own; of rows without a label consistency and what needs none. ``train_loss`` is
    the weighted sum that is minimised; ``train_supervised``, of further heads ``train_supervised_text``, ..., and
    ``train_consistency`` come without their weights, the family's own terms with them.
    """
    config, mode, num_labelled = state.config, state.config.uda.mode, len(loaded.clean_rows)
    num_clean, label_free = num_labelled + loaded.num_unlabelled, unlabelled_terms(config.family)
    batch = loaded.batch.to(state.ranks.device, non_blocking=True)
    with state.precision.autocast():
        out: ModelOutput = state.wrapped(batch)
    judged = num_labelled if mode != "aug" else batch.size
    terms = {"train_supervised": state.supervised(out.logits[:judged].float(), batch.labels[:judged])}
    total = out.supervised_weight * terms["train_supervised"]
    for name, logits in out.heads.items():
        terms[f"train_supervised_{name}"] = state.supervised(logits[:judged].float(), batch.labels[:judged])
        total = total + out.head_weights[name] * terms[f"train_supervised_{name}"]
    if mode in ("fixed", "dynamic"):
        terms["train_consistency"] = consistency_loss(
            out.logits[:num_clean], out.logits[num_clean:], task=state.task, divergence=config.uda.divergence,
            temperature=config.uda.temperature, confidence=config.uda.confidence,
        )  # fmt: skip
        total = total + uda.lam * terms["train_consistency"]
    for name, value_B in out.losses.items():
        is_label_free = name in label_free and mode != "aug"
        terms[f"train_{name}"] = value_B[: num_clean if is_label_free else judged].mean()
        total = total + terms[f"train_{name}"]
    return {"train_loss": total, **terms}, out.logits[:num_labelled].float()


def begin_step(state: State, step: int) -> None:
    """Learning rate, and what the family anneals, at optimiser step ``step`` (0-based) of the whole trial."""
    total = state.config.epochs * state.steps_per_epoch
    factor = lr_factor(step, total=total, config=state.config.optim) * state.progress.plateau_factor
    for group in state.optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    begin = getattr(state.model, "begin_step", None)
    if begin is not None:
        begin(step / state.steps_per_epoch)


def backward(state: State, loss: Tensor) -> None:
    """Adds the gradient of a micro-batch's share of the loss."""
    scaler = state.precision.scaler
    (loss if scaler is None else scaler.scale(loss)).backward()


def take_step(state: State) -> Tensor:
    """One optimiser step; 1 if the gradient, which is the same on every rank, was not finite.

    Under fp16 an overflow is nothing unusual: the step is skipped and the scale lowered.
    """
    scaler = state.precision.scaler
    if scaler is not None:
        scaler.unscale_(state.optimizer)
    limit = state.config.optim.grad_clip or math.inf
    norm = torch.nn.utils.clip_grad_norm_(state.trainable, limit)
    if scaler is not None:
        scaler.step(state.optimizer)
        scaler.update()
        return torch.zeros((), device=norm.device)
    state.optimizer.step()
    return (~torch.isfinite(norm)).to(torch.float32)


def check_gradients(state: State, num_bad: Tensor, where: str) -> None:
    """Ends the trial where steps were taken along gradients that are not finite; waits for the device.

    Raises:
        NonFiniteError: so it is, or fp16 cannot scale the loss down any further.
    """
    if num_bad.item() > 0:
        raise NonFiniteError(f"the gradient became nan or infinite in {where}")
    scaler = state.precision.scaler
    if scaler is not None and scaler.get_scale() < SMALLEST_SCALE:
        raise NonFiniteError(f"the gradient stays nan or infinite however small fp16 scales the loss, {where}")


def _dropped(data: Data, batch: Batch, rows: np.ndarray, epoch: int) -> Batch:
    return batch if data.dropout is None else data.dropout(batch, rows, epoch=epoch)


def _pinned(state: State, batch: Batch) -> Batch:
    return batch.pin_memory() if state.ranks.device.type == "cuda" else batch
