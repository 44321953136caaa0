"""One trial, from a TrialConfig to its best checkpoint: the same recipe for every family, with or without Ray.

``setup`` makes a :class:`State`, ``fit`` trains it, ``validate`` evaluates and ``save`` writes. Order matters:
 1. data is opened (and prepared if nobody has), the model built under the trial's seed;
 2. a checkpoint, if there is one, is restored after the optimiser exists;
 3. the ranks tell each other whether all that went well and which epoch they restored: until here a rank can
    fail alone, and nobody has written yet, so that all of them read the same checkpoint;
 4. DDP wraps the model, in which locked modules are held by now, see :mod:`trainables.ddp`;
 5. an epoch goes on inside where a checkpoint was written there (:mod:`trainables.resume`);
 6. every epoch: train, validate, save, and only then report, so that a reported epoch can be resumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from trainables import step
from trainables.checkpoint import BEST, LAST, model_tensors, save_checkpoint, training_tensors
from trainables.clock import Clock
from trainables.config import TrialConfig
from trainables.data.ahead import ahead
from trainables.data.cache.books import booking
from trainables.data.data import Data
from trainables.data.open import open_data
from trainables.ddp import begin_epoch, synchronised, wrap
from trainables.devices import device_name
from trainables.errors import NonFiniteError
from trainables.evaluate import PREDICTIONS, Evaluation, evaluate, outputs, write_predictions
from trainables.layers.clean_statistics import keep_statistics_clean, splits_statistics
from trainables.losses import build_supervised_loss
from trainables.measure import inference, size_facts, times_spent
from trainables.memory import PeakMemory
from trainables.model import build_model
from trainables.optim import build_optimizer
from trainables.parts import runs_in_parts
from trainables.precision import choose_precision
from trainables.progress import Row, check_objective, overfitting
from trainables.ranks import Ranks, best_device
from trainables.rehearsal import rehearse
from trainables.resume import MIDDLE, Saver, begin, restore, training_state
from trainables.room import until_it_fits
from trainables.seeds import derive_seed
from trainables.standalone import write_standalone
from trainables.state import State
from trainables.tally import Trained, measure_training
from trainables.uda import DynamicLambda, check_uda

_AHEAD = 2  # batches that a thread makes while a GPU is busy with earlier ones
_CHECK_EVERY = 20  # optimiser steps between looks for a non-finite gradient on a GPU (each look waits for it)


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    reason: str  # 'epochs', 'patience' or 'stopped' (the reporter asked for it)
    reports: list[Row]
    best_epoch: int
    facts: Row  # num_parameters, num_trainable


def train(
    config: TrialConfig,
    *,
    folder: Path,
    ranks: Ranks | None = None,
    report: Callable[[Row], bool] = lambda row: False,
    known_epoch: int | None = None,
    tell: Callable[[str, int, int], None] = lambda what, done, total: None,
    is_wanted_back: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Trains one configuration, or goes on where its last checkpoint in ``folder`` stands.

    Args:
        config: what to train.
        folder: receives last, best and the best epoch's predictions; rank 0 writes.
        ranks: this process's place; None is a single process on the best device there is.
        report: called on rank 0 after each epoch with its row; True stops the trial.
        known_epoch: epochs whose rows the caller has; later ones in the checkpoint are reported again.
            None: all of them.
        tell: called on rank 0 after each optimiser step: which epoch, rows trained, rows of all; it must be quick.
        is_wanted_back: asked after each optimiser step on every rank where ``checkpoint_every_seconds`` is set: True
            on one of them writes a checkpoint there and then, and ends training.

    Returns:
        The outcome, the same on every rank.

    Raises:
        ValueError: bad configuration or data, or a checkpoint of another configuration.
        AgreedError: the same, with several ranks: which rank could not start, and why; on all ranks at once.
        NonFiniteError: a loss, gradient or metric became nan or infinite; on all ranks at once.
        OutOfMemoryError: the device is full, with one row at a time as well, or where rows cannot be cut.
        PreemptedError: a process was wanted back; on all ranks at once.
    """
    ranks = ranks or Ranks(device=best_device(config.device))

    def go(state: State, is_known: bool) -> Outcome:
        if is_known:
            wrap(state)  # cut otherwise than it was set up
        if ranks.rank == 0:
            state.tell = tell
        state.every_seconds, state.is_wanted_back = config.checkpoint_every_seconds, is_wanted_back
        return outcome(state, fit(state, report=report, known_epoch=None if is_known else known_epoch))

    return until_it_fits(lambda: setup(config, folder=folder, ranks=ranks), go, ranks=ranks)


def setup(config: TrialConfig, *, folder: Path, ranks: Ranks, checkpoint: str = LAST) -> State:
    """Data, model and optimiser as they are before the next epoch.

    Args:
        config: what to train.
        folder: where a checkpoint may stand.
        ranks: this process's place.
        checkpoint: LAST, from which training goes on if it is there, or BEST, whose model is to be looked at.

    Raises:
        ValueError: bad configuration or data, or a checkpoint of another configuration.
        AgreedError: the same, with several ranks: which rank could not start, and why; on all ranks at once.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    state = error = None
    clock = Clock()
    try:
        state = _build(config, folder=folder, ranks=ranks, clock=clock)
        restore(state, checkpoint)
        with torch.no_grad(), state.precision.autocast():  # what does not fit together fails now, in a rank's own words
            state.model.eval()
            state.model(step.clean_batch(state, state.data.rows["train"][:1]).to(ranks.device, non_blocking=True))
    except Exception as caught:  # raised below: no rank may fail alone before the first collective
        error = caught
    ranks.raise_together(error)
    assert state is not None
    ranks.check_same(state.progress.epoch, name="epoch", where=f"the checkpoint in {folder}")
    wrap(state)
    return state


def _build(config: TrialConfig, *, folder: Path, ranks: Ranks, clock: Clock) -> State:
    """Everything before a checkpoint; a rank does it by itself."""
    with booking() as book:
        data = open_data(config)
    clock.leave_out(book.seconds)
    check_objective(config.objective, data.task)
    check_uda(config.uda, data.task)
    sizes = [len(rows) for rows in step.epoch_batches(config, data, 1)]
    if min(sizes) < ranks.world:
        raise ValueError(
            f"batch_size: {config.batch_size} gives batches of {min(sizes)} rows, "
            f"which {ranks.world} workers cannot share"
        )
    if ranks.device.type == "cpu":  # a GPU's allocator counts no libraries
        alone = partial(_assemble, folder=folder, ranks=Ranks(device=ranks.device))
        rehearse(config, data, build=alone, train=_short_epoch if ranks.world == 1 else None)
    state = _assemble(config, data, folder=folder, ranks=ranks)
    state.clock, state.cache_seconds = clock, sum(book.used.values())
    state.is_there = folder.is_dir()
    return state


def _assemble(config: TrialConfig, data: Data, *, folder: Path, ranks: Ranks) -> State:
    memory, sizes = PeakMemory(ranks.device), [len(rows) for rows in step.epoch_batches(config, data, 1)]
    precision = choose_precision(config.precision, ranks.device)
    supervised = build_supervised_loss(
        config.loss, data.task, labels=data.labels, rows=data.rows["train"], device=ranks.device
    )
    torch.manual_seed(derive_seed(config.seed, "init"))
    model = build_model(config, data).to(ranks.device)
    if splits_statistics(config.uda):
        keep_statistics_clean(model)
    share = -(-max(sizes) // ranks.world)
    return State(
        config=config, folder=folder, ranks=ranks, data=data, precision=precision, supervised=supervised, model=model,
        optimizer=build_optimizer(model, config.optim), uda=DynamicLambda(config.uda), steps_per_epoch=len(sizes),
        share=share, is_in_parts=runs_in_parts(model, config, num_rows=share), memory=memory,
        depth=_AHEAD if ranks.device.type == "cuda" else 0,  # a CPU has nobody else to load
    )  # fmt: skip


def _short_epoch(state: State) -> None:
    train_epoch(state, 1)
    outputs(state, state.data.rows["val"], what="rehearsed")


def fit(state: State, *, report: Callable[[Row], bool] = lambda row: False, known_epoch: int | None = None) -> str:
    """Trains epoch by epoch until the last one, patience, or the reporter ends it; see :func:`train`.

    Returns:
        Why it ended: 'epochs', 'patience' or 'stopped'.
    """
    ranks, progress = state.ranks, state.progress
    for row in progress.reports:
        is_new = known_epoch is not None and row["epoch"] > known_epoch
        if is_new and ranks.broadcast(report(row) if ranks.rank == 0 else None):
            return "stopped"
    while progress.reason is None:
        row = fit_epoch(state)
        if ranks.broadcast(report(row) if ranks.rank == 0 else None):
            return progress.reason or "stopped"  # after the last epoch there is nothing left to stop
    return progress.reason


def fit_epoch(state: State) -> Row:
    """The next epoch: trained, validated and saved; its row."""
    epoch, ranks = state.progress.epoch + 1, state.ranks
    with state.clock.part("train_seconds"):
        trained = train_epoch(state, epoch)
    uda = state.uda.current()
    with state.clock.part("eval_seconds"):
        val = validate(state)
        measured, tuning = measure_training(state, trained)
    times = times_spent(state)
    seconds = times["train_seconds"] + state.seconds_before * ranks.world
    group = state.optimizer.param_groups[0]
    row: Row = {
        "epoch": epoch,
        **trained.terms,
        **measured,
        **val.named("val"),
        "val_supervised": val.supervised,
        "lr": group["lr"] / group["base_lr"] * state.config.optim.lr,
        **times,
        "device_kind": device_name(ranks.device),
        "samples_per_second": len(state.data.rows["train"]) * ranks.world / seconds,
        "peak_memory_gib": max(ranks.gather(state.memory.gib)),
    }
    if ranks.device.type == "cuda":
        row["reserved_memory_gib"] = max(ranks.gather(state.memory.reserved_gib))
    if state.config.uda.mode in ("fixed", "dynamic"):
        row |= {"uda_lambda": uda.lam, "uda_q_v": uda.q_v, "uda_q_t": uda.q_t}
        row |= {"uda_ratio": uda.ratio, "uda_case": uda.case}
    row |= overfitting(row, state.progress.reports)
    for name, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise NonFiniteError(f"{name} became {value} in epoch {epoch}")
    if epoch == 1 or state.halvings:
        row["forward_rows"] = state.forward_rows
    if epoch == 1:
        row |= size_facts(state) | inference(state) | {"cache_seconds": state.cache_seconds}
    state.uda.update(val.supervised, tuning)
    if hasattr(state.model, "end_epoch"):
        state.model.end_epoch(row)  # pyright: ignore (of no nn.Module)
    state.progress.advance(row, state.config)
    with state.clock.part("checkpoint_seconds"):
        save(state, row, val)
    row |= times_spent(state)  # the checkpoint has them without its own
    state.clock.restart()
    return row


def train_epoch(state: State, epoch: int) -> Trained:
    """Every step of an epoch, with the lambda that ``state.uda`` has for it.

    Raises:
        NonFiniteError: a gradient or logit became nan or infinite, or lambda overflows; on all ranks at once.
    """
    ranks = state.ranks
    torch.manual_seed(derive_seed(state.config.seed, "epoch", epoch, ranks.rank))
    try:
        uda = state.uda.current()
    except ValueError as error:  # lambda overflowed, on every rank alike
        raise NonFiniteError(f"epoch {epoch}: {error}") from None
    begin_epoch(state, epoch)
    done = begin(state)
    state.seconds_before, saver = done.seconds, Saver(state)
    if done.num_steps:  # the row says its learning rate, though no step may be left
        step.begin_step(state, (epoch - 1) * state.steps_per_epoch + done.num_steps - 1)
    steps = [(rows, step.micro_batches(state, rows)) for rows in step.epoch_batches(state.config, state.data, epoch)]
    total, left = sum(len(rows) for rows, _ in steps), steps[done.num_steps :]
    parts = [part for _, micro in left for part in micro]
    loaded = ahead(lambda part: step.load(state, part, epoch), parts, depth=state.depth)
    for index, (step_rows, micro) in enumerate(left, start=done.num_steps):
        step.begin_step(state, (epoch - 1) * state.steps_per_epoch + index)
        state.optimizer.zero_grad(set_to_none=True)
        for at in range(len(micro)):
            batch = next(loaded)
            with synchronised(state, is_last=at == len(micro) - 1):
                terms, clean_logits = step.forward(state, batch, uda)
                step.backward(state, terms["train_loss"] * (batch.num_rows * ranks.world / len(step_rows)))
            done.tally.add(terms, clean_logits, batch)
        done.num_bad += step.take_step(state)
        done.num_steps, done.num_rows = index + 1, done.num_rows + len(step_rows)
        state.tell(f"epoch {epoch}/{state.config.epochs}", done.num_rows, total)
        if ranks.device.type == "cpu" or index % _CHECK_EVERY == 0:
            step.check_gradients(state, done.num_bad, f"epoch {epoch}, step {index + 1}")
        saver.after_step(done)
    step.check_gradients(state, done.num_bad, f"epoch {epoch}")
    return done.tally.total(state, epoch, num_rows=done.num_rows)


def validate(state: State) -> Evaluation:
    """Loss and metrics of the validation split; the device is done when it returns, so that clocks can be read."""
    val = evaluate(state, "val")
    if state.ranks.device.type == "cuda":
        torch.cuda.synchronize(state.ranks.device)
    return val


def save(state: State, row: Row, val: Evaluation) -> None:
    """Writes the checkpoints of the epoch that ``row`` reports, and its predictions if it is the best; on rank 0."""
    if state.ranks.rank != 0:
        return
    state.check_folder()
    belongs = {"config": state.config.to_dict(), "data": state.data.fingerprint}
    if state.progress.best_epoch == row["epoch"]:  # before last: cut short here, the epoch is trained again
        write_standalone(state.folder, state.config, state.data)
        best = {**belongs, "epoch": row["epoch"], "report": row}
        save_checkpoint(state.folder / BEST, model_tensors(state.model), best)
        write_predictions(state.folder / PREDICTIONS, state.data, val)
    save_checkpoint(state.folder / LAST, training_tensors(state.model, state.optimizer), training_state(state))
    (state.folder / MIDDLE).unlink(missing_ok=True)  # of an epoch that is whole now


def outcome(state: State, reason: str) -> Outcome:
    """How the trial ended, with its sizes."""
    return Outcome(reason, state.progress.reports, state.progress.best_epoch, size_facts(state))
