"""One trial, from a TrialConfig to its best checkpoint: the same loop for every family, with or without Ray.

Order matters:
 1. data is opened (and prepared if nobody has), the model built under the trial's seed;
 2. a checkpoint, if there is one, is restored after the optimiser exists;
 3. the ranks tell each other whether all that went well and which epoch they restored: until here a rank can
    fail alone, and nobody has written yet, so that all of them read the same checkpoint;
 4. DDP wraps the model, in which locked encoders are frozen by now, and again whenever the family freezes or
    unfreezes a part: what did not train when DDP wrapped is never synchronised;
 5. every epoch: train, evaluate, checkpoint, and only then report, so that a reported epoch can be resumed.

Losses are means over the global batch, whatever the number of ranks and micro-batches: each micro-batch is
weighted by its share of the rows. ``batch_size`` therefore means the same on any cluster.
"""

from __future__ import annotations

import gc
import math
import resource
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainables.batch import Batch, ModelOutput
from trainables.checkpoint import (
    load_checkpoint,
    load_model,
    load_optimizer,
    model_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from trainables.config import TrialConfig
from trainables.data.loader import eval_batches, global_batches, open_data
from trainables.files import replacing
from trainables.losses import class_weights, pos_weights, supervised_loss
from trainables.metrics import METRICS, compute_metrics, tuning_metric
from trainables.model import build_model
from trainables.optim import build_optimizer, lr_factor
from trainables.seeds import derive_seed
from trainables.task import Task
from trainables.uda import DynamicLambda, LambdaState, consistency_loss

LAST, BEST, PREDICTIONS = "last.safetensors", "best.safetensors", "predictions.parquet"
_MINIMISED = {"loss", "rmse", "mae"}
_CHECK_EVERY = 20  # optimiser steps between looks for a non-finite gradient on a GPU (each look waits for it)
_SMALLEST_SCALE = 1.0  # of the fp16 loss; below it even plain gradients overflow, and no step is ever taken
_AHEAD = 2  # batches that a thread makes while a GPU is busy with earlier ones
_TRAIN_LOGITS = 2**26  # numbers a rank, that the training metric is computed from at most
_LABEL_ROWS = 10_000  # looked at together
_INFERENCE_SECONDS = 1.0  # spent on timing the finished model

Row = dict[str, Any]


class AgreedError(RuntimeError):
    """An error that every rank raises at the same step: the process group stays usable."""


class NonFiniteError(AgreedError):
    """A loss, gradient or metric became nan or infinite."""


class OutOfMemoryError(AgreedError):
    """The configuration does not fit the device."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train one trial."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    group: Any = None  # a gloo group, for objects; None when world is 1

    def gather(self, value: Any) -> list[Any]:
        """``value`` of every rank, in rank order, on every rank."""
        if self.world == 1:
            return [value]
        out: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(out, value, group=self.group)
        return out

    def broadcast(self, value: Any) -> Any:
        """Rank 0's ``value`` on every rank."""
        if self.world == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0, group=self.group)
        return box[0]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    reason: str  # 'epochs', 'patience' or 'stopped' (the reporter asked for it)
    reports: list[Row]
    best_epoch: int
    facts: Row  # num_parameters, num_trainable, inference_ms_per_sample


@dataclass(frozen=True)
class Loaded:
    """A micro-batch: the clean rows, then their augmented copies."""

    batch: Batch
    clean_rows: np.ndarray


@dataclass
class _Progress:
    """What changes from epoch to epoch beside the model; JSON-able as a whole."""

    epoch: int = 0
    best_epoch: int = 0
    best_value: float | None = None
    bad_epochs: int = 0
    plateau_factor: float = 1.0
    plateau_bad: int = 0
    reason: str | None = None
    reports: list[Row] = field(default_factory=list)


def ahead(make: Callable[[Any], Any], items: Sequence[Any], *, depth: int) -> Iterator[Any]:
    """``make(item)`` of each item in order; a thread of its own makes up to ``depth`` of them in advance."""
    if depth == 0:
        yield from map(make, items)
        return
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[Any]] = deque()
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def objective_mode(objective: str) -> str:
    """'min' for losses and errors, else 'max'; ``objective`` carries its val_ prefix."""
    return "min" if objective.removeprefix("val_") in _MINIMISED else "max"


def train(
    config: TrialConfig,
    *,
    folder: Path,
    ranks: Ranks | None = None,
    report: Callable[[Row], bool] = lambda row: False,
    known_epoch: int | None = None,
) -> Outcome:
    """Trains one configuration, or goes on where its last checkpoint in ``folder`` stands.

    Args:
        config: what to train.
        folder: receives last, best and the best epoch's predictions; rank 0 writes.
        ranks: this process's place; None is a single process on the best device there is.
        report: called on rank 0 after each epoch with its row; True stops the trial.
        known_epoch: epochs whose rows the caller has; later ones in the checkpoint are reported again.
            None: all of them.

    Returns:
        The outcome, the same on every rank.

    Raises:
        ValueError: bad configuration or data, or a checkpoint of another configuration.
        AgreedError: the same, with several ranks: which rank could not start, and why; on all ranks at once.
        NonFiniteError: a loss, gradient or metric became nan or infinite; on all ranks at once.
        OutOfMemoryError: the device is full.
    """
    ranks = ranks or Ranks(device=best_device())
    try:
        return _Trial(config, folder=folder, ranks=ranks, report=report).run(known_epoch)
    except torch.cuda.OutOfMemoryError as error:
        if ranks.world > 1:
            raise  # perhaps this rank alone: the group cannot be trusted any more
        torch.cuda.empty_cache()
        raise OutOfMemoryError(f"out of memory on {ranks.device}: {str(error).splitlines()[0]}") from None


def best_device() -> torch.device:
    """The first GPU, or the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


class _Trial:
    def __init__(
        self,
        config: TrialConfig,
        *,
        folder: Path,
        ranks: Ranks,
        report: Callable[[Row], bool] = lambda row: False,
        starting_from: str = LAST,
    ) -> None:
        self.config, self.folder, self.ranks, self.report = config, folder, ranks, report
        self.progress = _Progress()
        error = None
        try:
            self._build(starting_from)
        except Exception as caught:  # raised below: no rank may fail alone before the first collective
            error = caught
        self._agree(error)
        self.frozen: list[nn.Module] = []
        self.depth = _AHEAD if ranks.device.type == "cuda" else 0  # a CPU has nobody else to load
        self.wrapped = self._wrap()
        _reset_peak_memory(ranks.device)

    def _wrap(self) -> nn.Module:
        """The model as training calls it; evaluation uses the bare one, whose lengths and batches vary more."""
        wrapped = self.model
        if self.ranks.world > 1:
            ids = [self.ranks.device.index] if self.ranks.device.type == "cuda" else None
            wrapped = DistributedDataParallel(self.model, device_ids=ids)
        return torch.compile(wrapped, dynamic=True) if self.config.compile else wrapped  # pyright: ignore

    def _build(self, starting_from: str) -> None:
        """Everything that a rank does by itself: data, model, optimiser, checkpoint."""
        config, ranks = self.config, self.ranks
        self.autocast, self.scaler = _precision(config.precision, ranks.device)
        self.data = open_data(config)
        self.task = self.data.task
        self.metric = _checked_objective(config, self.task)
        self.weights = self._loss_weights()
        batches = self._batches(1)
        self.steps_per_epoch, smallest = len(batches), min(map(len, batches))
        if smallest < ranks.world:
            raise ValueError(
                f"batch_size: {config.batch_size} gives batches of {smallest} rows, "
                f"which {ranks.world} workers cannot share"
            )
        torch.manual_seed(derive_seed(config.seed, "init"))
        self.model = build_model(config, self.data).to(ranks.device)
        self.optimizer = build_optimizer(self.model, config.optim)
        self.trainable = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.uda = DynamicLambda(config.uda)
        self._restore(starting_from)
        self._try_forward()

    def _agree(self, error: Exception | None) -> None:
        """Goes on if no rank has an error and all start from the same epoch.

        Raises:
            AgreedError: on every rank, what the first of them says; a single rank's own error as it was.
        """
        if self.ranks.world == 1:
            if error is not None:
                raise error
            return
        mine = None if error is None else f"{type(error).__name__}: {error}"
        states = self.ranks.gather((mine, isinstance(error, torch.cuda.OutOfMemoryError), self.progress.epoch))
        for rank, (text, is_memory, epoch) in enumerate(states):
            if text is not None:
                raise (OutOfMemoryError if is_memory else AgreedError)(f"rank {rank}: {text}") from error
            if epoch != states[0][2]:
                raise AgreedError(
                    f"rank {rank}: the checkpoint in {self.folder} is of epoch {epoch}, "
                    f"but rank 0 found epoch {states[0][2]}"
                )

    def _try_forward(self) -> None:
        """One row through the model: what does not fit together fails now, and with a rank's own words."""
        self.model.eval()
        rows = self.data.rows["train"][:1]
        with torch.no_grad(), self.autocast():
            self.model(self._to_device(self.data.batch(rows, self.data.clean)))

    def _batches(self, epoch: int) -> list[np.ndarray]:
        config = self.config
        return global_batches(
            self.data, batch_size=config.batch_size, seed=config.seed, epoch=epoch, is_doubled=config.uda.mode == "aug"
        )

    # --- the whole trial ----------------------------------------------------------------------------
    def run(self, known_epoch: int | None) -> Outcome:
        progress = self.progress
        for row in progress.reports:
            if known_epoch is not None and row["epoch"] > known_epoch and self._report(row):
                return self._outcome("stopped")
        while progress.reason is None:
            row = self._epoch(progress.epoch + 1)
            if self._report(row):  # after the last epoch there is nothing left to stop
                return self._outcome(progress.reason or "stopped")
        return self._outcome(progress.reason)

    def _report(self, row: Row) -> bool:
        return self.ranks.broadcast(self.report(row) if self.ranks.rank == 0 else None)

    def _outcome(self, reason: str) -> Outcome:
        facts = self._size_facts()
        if reason != "stopped":
            measured = self._inference_ms() if self.ranks.rank == 0 else None
            facts["inference_ms_per_sample"] = self.ranks.broadcast(measured)
        return Outcome(reason, self.progress.reports, self.progress.best_epoch, facts)

    def _epoch(self, epoch: int) -> Row:
        config, ranks = self.config, self.ranks
        torch.manual_seed(derive_seed(config.seed, "epoch", epoch, ranks.rank))
        try:
            state = self.uda.current()
        except ValueError as error:  # lambda overflowed, on every rank alike
            raise NonFiniteError(f"epoch {epoch}: {error}") from None
        began = time.perf_counter()
        terms, train_tuning, num_rows = self._train_epoch(epoch, state)
        val_loss, metrics, logits, rows = self.evaluate("val")
        if ranks.device.type == "cuda":
            torch.cuda.synchronize(ranks.device)
        seconds = max(ranks.gather(time.perf_counter() - began))
        row: Row = {
            "epoch": epoch,
            **terms,
            "val_loss": val_loss,
            **{f"val_{name}": value for name, value in metrics.items()},
            "lr": self.optimizer.param_groups[0]["lr"] / self.optimizer.param_groups[0]["base_lr"] * config.optim.lr,
            "wall_seconds": seconds,
            "device_seconds": seconds * ranks.world,
            "samples_per_second": num_rows / seconds,
            "peak_memory_gib": max(ranks.gather(_peak_memory_gib(ranks.device))),
        }
        if config.uda.mode in ("fixed", "dynamic"):
            row |= {"uda_lambda": state.lam, "uda_q_v": state.q_v, "uda_q_t": state.q_t}
            row |= {"uda_ratio": state.ratio, "uda_case": state.case}
        for name, value in row.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise NonFiniteError(f"{name} became {value} in epoch {epoch}")
        if epoch == 1:
            row |= self._size_facts()
        self.uda.update(val_loss, train_tuning)
        self._advance(epoch, row)
        self._save(row, logits, rows)
        return row

    def _advance(self, epoch: int, row: Row) -> None:
        """Best epoch, patience, plateau, and whether this was the last epoch."""
        config, progress = self.config, self.progress
        progress.epoch = epoch
        progress.reports.append(row)
        value, best = row[config.objective], progress.best_value
        is_min = objective_mode(config.objective) == "min"
        if best is None or (value < best if is_min else value > best):
            progress.best_epoch, progress.best_value = epoch, value
            progress.bad_epochs = progress.plateau_bad = 0
        else:
            progress.bad_epochs += 1
            progress.plateau_bad += 1
        if config.optim.schedule == "plateau" and progress.plateau_bad > config.optim.plateau_patience:
            progress.plateau_factor *= config.optim.plateau_factor
            progress.plateau_bad = 0
        if epoch >= config.epochs:
            progress.reason = "epochs"
        elif config.patience is not None and progress.bad_epochs >= config.patience:
            progress.reason = "patience"

    # --- training -----------------------------------------------------------------------------------
    @property
    def tuning_name(self) -> str:
        """The metric that is also computed on training inputs: the objective, or the task's first."""
        return next(iter(METRICS[self.task.kind])) if self.metric == "loss" else self.metric

    def _begin_epoch(self, epoch: int) -> None:
        """Training mode, except for what the family keeps frozen in this epoch."""
        begin = getattr(self.model, "begin_epoch", None)
        frozen: list[nn.Module] = list(begin(epoch)) if begin is not None else []
        if {id(module) for module in frozen} != {id(module) for module in self.frozen}:
            keep = {id(parameter) for module in frozen for parameter in module.parameters()}
            for parameter in self.trainable:
                parameter.requires_grad_(id(parameter) not in keep)
            self.frozen = frozen
            self.wrapped = self.model
            gc.collect()  # the old DDP takes its hooks off the parameters when it goes
            self.wrapped = self._wrap()
        self.wrapped.train()
        for module in frozen:
            module.eval()

    def _train_epoch(self, epoch: int, state: LambdaState) -> tuple[Row, float, int]:
        """Mean loss terms and the metric, the metric as dynamic lambda wants it, and how many rows there were.

        The metric is over the epoch's first rows alone where all logits would be too many to keep (VQA).
        """
        self._begin_epoch(epoch)
        sums: dict[str, Tensor] = {}
        logits, rows = [], []
        bad_norms = torch.zeros((), device=self.ranks.device)
        num_rows = kept = 0
        steps = [(rows, self._micro_batches(rows)) for rows in self._batches(epoch)]
        parts = [part for _, micro in steps for part in micro]
        loaded = ahead(lambda part: self._load(part, epoch), parts, depth=self.depth)
        for index, (batch_rows, micro) in enumerate(steps):
            self._set_lr((epoch - 1) * self.steps_per_epoch + index)
            self.optimizer.zero_grad(set_to_none=True)
            for at, part in enumerate(micro):
                is_last = at == len(micro) - 1
                wait = nullcontext() if is_last or self.ranks.world == 1 else self.wrapped.no_sync()  # pyright: ignore
                with wait:
                    terms, clean_logits, clean_rows = self._forward(next(loaded), state)
                    loss = terms["train_loss"] * (len(part) * self.ranks.world / len(batch_rows))
                    (self.scaler.scale(loss) if self.scaler else loss).backward()
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0) + value.detach() * len(part)
                if kept * clean_logits.shape[1] < _TRAIN_LOGITS:
                    logits.append(clean_logits.detach())
                    rows.append(clean_rows)
                    kept += len(clean_rows)
            bad_norms += self._step()
            if self.ranks.device.type == "cpu" or index % _CHECK_EVERY == 0:
                self._check_gradients(bad_norms, f"epoch {epoch}, step {index + 1}")
            num_rows += len(batch_rows)
        self._check_gradients(bad_norms, f"epoch {epoch}")
        gathered = self.ranks.gather({name: value.item() for name, value in sums.items()})
        means = {name: sum(part[name] for part in gathered) / num_rows for name in sums}
        all_logits, all_rows = self._gather_logits(logits, rows)
        if not np.isfinite(all_logits).all():
            raise NonFiniteError(f"logits became nan or infinite in epoch {epoch}")
        name, labels = self.tuning_name, self.data.labels[all_rows]
        tuning = metric = tuning_metric(name, all_logits, labels, self.task)
        if self.task.kind == "regression":  # an error, which dynamic lambda takes as 1 / (1 + error)
            metric = compute_metrics(all_logits, labels, self.task)[name]
        return {**means, f"train_{name}": metric}, tuning, num_rows

    def _micro_batches(self, batch_rows: np.ndarray) -> list[np.ndarray]:
        """This rank's rows of a step, a forward each."""
        mine = batch_rows[self.ranks.rank :: self.ranks.world]
        size = self.config.micro_batch_size or len(mine)
        return [mine[at : at + size] for at in range(0, len(mine), size)]

    def _load(self, rows: np.ndarray, epoch: int) -> Loaded:
        """The views of these rows that train, one behind the other, in memory that a GPU can copy from."""
        data, mode = self.data, self.config.uda.mode
        clean_rows, copied_rows = rows, rows[:0]
        if mode == "aug":
            clean_rows, copied_rows = rows[rows < len(data.ids)], rows[rows >= len(data.ids)] - len(data.ids)
        elif mode != "none":
            copied_rows = rows
        parts = [data.batch(clean_rows, data.clean)] if len(clean_rows) else []
        if len(copied_rows):
            assert data.augmented is not None
            parts.append(data.batch(copied_rows, data.augmented, epoch=epoch))
        batch = parts[0] if len(parts) == 1 else parts[0].concat(parts[1])
        return Loaded(self._pinned(batch), clean_rows)

    def _forward(self, loaded: Loaded, state: LambdaState) -> tuple[dict[str, Tensor], Tensor, np.ndarray]:
        """Loss terms, each a mean over the rows, and the logits of the clean view with their row numbers."""
        config, mode, clean_rows = self.config, self.config.uda.mode, loaded.clean_rows
        batch = loaded.batch.to(self.ranks.device, non_blocking=True)
        with self.autocast():
            out: ModelOutput = self.wrapped(batch)
        judged = len(clean_rows) if mode != "aug" else batch.size
        terms = {"train_supervised": self._supervised(out.logits[:judged].float(), batch.labels[:judged])}
        total = out.supervised_weight * terms["train_supervised"]
        clean = out.logits[: len(clean_rows)].float()
        if mode in ("fixed", "dynamic"):
            terms["train_consistency"] = consistency_loss(
                clean, out.logits[len(clean_rows) :], task=self.task, divergence=config.uda.divergence,
                temperature=config.uda.temperature, confidence=config.uda.confidence,
            )  # fmt: skip
            total = total + state.lam * terms["train_consistency"]
        for name, value in out.losses.items():
            terms[f"train_{name}"] = value
            total = total + value
        return {"train_loss": total, **terms}, clean, clean_rows

    def _step(self) -> Tensor:
        """One optimiser step; 1 if the gradient, which is the same on every rank, was not finite.

        Under fp16 an overflow is nothing unusual: the step is skipped and the scale lowered.
        """
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        limit = self.config.optim.grad_clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.trainable, limit)
        if self.scaler:
            self.scaler.step(self.optimizer)
            self.scaler.update()
            return torch.zeros((), device=norm.device)
        self.optimizer.step()
        return (~torch.isfinite(norm)).to(torch.float32)

    def _check_gradients(self, bad_norms: Tensor, where: str) -> None:
        if bad_norms.item() > 0:
            raise NonFiniteError(f"the gradient became nan or infinite in {where}")
        if self.scaler and self.scaler.get_scale() < _SMALLEST_SCALE:
            raise NonFiniteError(f"the gradient stays nan or infinite however small fp16 scales the loss, {where}")

    def _set_lr(self, step: int) -> None:
        total = self.config.epochs * self.steps_per_epoch
        factor = lr_factor(step, total=total, config=self.config.optim) * self.progress.plateau_factor
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor

    def _loss_weights(self) -> tuple[Tensor | None, Tensor | None]:
        """pos_weight and class_weight over the training rows, where the task has them.

        Raises:
            ValueError: a loss or UDA setting that this kind of task would ignore.
        """
        pos_weight = class_weight = None
        rows, settings, uda = self.data.rows["train"], self.config.loss, self.config.uda
        if self.task.kind != "multiclass" and (settings.label_smoothing != 0 or settings.class_weight):
            name = "class_weight" if settings.class_weight else "label_smoothing"
            raise ValueError(f"loss.{name}: belongs to multiclass tasks, this is {self.task.kind}")
        if self.task.kind == "regression" and uda.mode in ("fixed", "dynamic"):
            plain = {"divergence": "auto", "temperature": 1.0, "confidence": None}
            for name in (name for name, value in plain.items() if getattr(uda, name) != value):
                raise ValueError(f"uda.{name}: has no meaning for a regression")
        if self.task.kind == "multilabel" and settings.pos_weight:
            parts = [rows[at : at + _LABEL_ROWS] for at in range(0, len(rows), _LABEL_ROWS)]  # thousands of columns?
            counts = torch.from_numpy(sum(self.data.labels[part].sum(axis=0) for part in parts))
            pos_weight = pos_weights(counts, len(rows), settings.pos_weight_cap).to(self.ranks.device)
        if self.task.kind == "multiclass" and settings.class_weight:
            counts = torch.from_numpy(np.bincount(self.data.labels[rows], minlength=self.task.num_outputs))
            class_weight = class_weights(counts).to(self.ranks.device)
        return pos_weight, class_weight

    def _supervised(self, logits: Tensor, labels: Tensor, *, smoothing: bool = True) -> Tensor:
        label_smoothing = self.config.loss.label_smoothing if smoothing else 0.0
        pos_weight, class_weight = self.weights
        return supervised_loss(
            logits, labels, self.task, label_smoothing=label_smoothing, pos_weight=pos_weight, class_weight=class_weight
        )

    # --- evaluation ---------------------------------------------------------------------------------
    @torch.inference_mode()
    def evaluate(self, split: str) -> tuple[float, Row, np.ndarray, np.ndarray]:
        """Loss, metrics, logits (N, C) and row numbers (N,) of a split, over all ranks.

        The loss is one mean over all samples, whatever the batches and ranks they came in.
        """
        self.model.eval()
        self._share_buffers()
        logits = []
        rows = list(self._eval_rows(split))
        for batch in ahead(lambda part: self._pinned(self.data.batch(part, self.data.clean)), rows, depth=self.depth):
            with self.autocast():
                logits.append(self.model(batch.to(self.ranks.device, non_blocking=True)).logits)
        all_logits, all_rows = self._gather_logits(logits, rows)
        if not np.isfinite(all_logits).all():
            raise NonFiniteError(f"{split} logits became nan or infinite")
        labels = self.data.labels[all_rows]
        loss = self._supervised(
            torch.from_numpy(all_logits).to(self.ranks.device),
            torch.from_numpy(labels).to(self.ranks.device),
            smoothing=False,
        )
        return loss.item(), compute_metrics(all_logits, labels, self.task), all_logits, all_rows

    def _share_buffers(self) -> None:
        """Rank 0's BatchNorm statistics everywhere: they are what the checkpoint holds, so they are evaluated."""
        if self.ranks.world > 1:
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def _eval_rows(self, split: str) -> Iterator[np.ndarray]:
        return eval_batches(
            self.data, split=split, batch_size=self.config.eval_batch_size, rank=self.ranks.rank, world=self.ranks.world
        )

    def _gather_logits(self, logits: list[Tensor], rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        width = self.task.num_outputs
        mine = torch.cat(logits).float().cpu().numpy() if logits else np.zeros((0, width), np.float32)
        mine_rows = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        gathered = self.ranks.gather((mine, mine_rows))
        all_rows = np.concatenate([part[1] for part in gathered])
        order = np.argsort(all_rows, kind="stable")  # the same sums in the same order on any number of ranks
        return np.concatenate([part[0] for part in gathered])[order], all_rows[order]

    def _pinned(self, batch: Batch) -> Batch:
        """In memory that a GPU copies from on its own."""
        return batch.pin_memory() if self.ranks.device.type == "cuda" else batch

    def _to_device(self, batch: Batch) -> Batch:
        return self._pinned(batch).to(self.ranks.device, non_blocking=True)

    # --- facts --------------------------------------------------------------------------------------
    def _size_facts(self) -> Row:
        cached = [self.data.clean.text_features, self.data.clean.image_features]
        total = sum(parameter.numel() for parameter in self.model.parameters())
        return {
            "num_parameters": total + sum(features.num_parameters for features in cached if features is not None),
            "num_trainable": sum(parameter.numel() for parameter in self.trainable),
        }

    @torch.inference_mode()
    def _inference_ms(self, batch_size: int = 32, num_batches: int = 30) -> float:
        """Median milliseconds a sample, forward alone; cached encoders' time is added.

        Over 30 batches of 32, or as many as fit into a second; the first one warms up.
        """
        self.model.eval()
        rows = self.data.rows["val"][:batch_size]
        batch = self._to_device(self.data.batch(rows, self.data.clean))
        seconds: list[float] = []
        while len(seconds) < 2 or (len(seconds) <= num_batches and sum(seconds) < _INFERENCE_SECONDS):
            began = time.perf_counter()
            with self.autocast():
                self.model(batch)
            if self.ranks.device.type == "cuda":
                torch.cuda.synchronize(self.ranks.device)
            seconds.append(time.perf_counter() - began)
        cached = [self.data.clean.text_features, self.data.clean.image_features]
        encoders = sum(features.encoder_ms for features in cached if features is not None)
        return 1000 * float(np.median(seconds[1:])) / len(rows) + encoders

    # --- state --------------------------------------------------------------------------------------
    def _save(self, row: Row, logits: np.ndarray, rows: np.ndarray) -> None:
        if self.ranks.rank != 0:
            return
        config = self.config.to_dict()
        tensors = model_tensors(self.model)
        if self.progress.best_epoch == row["epoch"]:  # before last: cut short here, the epoch is trained again
            best = {"config": config, "data": self.data.fingerprint, "epoch": row["epoch"], "report": row}
            save_checkpoint(self.folder / BEST, tensors, best)
            self._write_predictions(logits, rows)
        optimizer = optimizer_tensors(self.model, self.optimizer)
        state = {
            "config": config,
            "data": self.data.fingerprint,
            "progress": vars(self.progress),
            "uda": self.uda.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else None,
        }
        named = {f"model/{name}": value for name, value in tensors.items()}
        named |= {f"optimizer/{name}": value for name, value in optimizer.items()}
        save_checkpoint(self.folder / LAST, named, state)

    def _restore(self, name: str) -> None:
        path = self.folder / name
        if name == LAST and self.ranks.rank == 0:
            for stale in self.folder.glob(".*.tmp"):  # of a process that was killed while it wrote
                stale.unlink(missing_ok=True)
        if name == LAST and not path.exists():
            return
        tensors, state = load_checkpoint(path)
        differing = _differences(state["config"], self.config.to_dict())
        if differing:
            raise ValueError(f"{path}: belongs to another configuration; different: {', '.join(differing)}")
        if state["data"] != self.data.fingerprint:
            raise ValueError(f"{path}: belongs to other data; the files of dataset {self.config.dataset} have changed")
        if name == BEST:
            load_model(self.model, tensors)
            self.progress.epoch = state["epoch"]
            return
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}}
        for name, value in tensors.items():
            part, rest = name.split("/", 1)
            parts[part][rest] = value
        load_model(self.model, parts["model"])
        load_optimizer(self.model, self.optimizer, parts["optimizer"])
        self.progress = _Progress(**state["progress"])
        self.uda.load_state_dict(state["uda"])
        if self.scaler and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])

    def _write_predictions(self, logits: np.ndarray, rows: np.ndarray) -> None:
        labels = self.data.labels[rows]
        columns = {"id": [self.data.ids[row] for row in rows], "label": _lists(labels), "logits": _lists(logits)}
        table = pyarrow.table(columns)
        with replacing(self.folder / PREDICTIONS) as temporary:
            pyarrow.parquet.write_table(table, temporary)


def _lists(values: np.ndarray) -> pyarrow.Array:
    """(N,) as numbers, (N, C) as lists, without a Python object for each."""
    if values.ndim == 1:
        return pyarrow.array(values)
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.reshape(-1)), values.shape[1])


def test_best(config: TrialConfig, *, folder: Path, ranks: Ranks | None = None) -> Row:
    """Loss and metrics of ``best.safetensors`` on the test split.

    Raises:
        ValueError: no checkpoint there, one of another configuration, or a test split without labels.
        AgreedError: the same, with several ranks.
    """
    ranks = ranks or Ranks(device=best_device())
    trial = _Trial(config, folder=folder, ranks=ranks, starting_from=BEST)
    if len(trial.data.rows["test"]) == 0:
        raise ValueError(f"dataset {config.dataset}: no labelled rows in split test")
    loss, metrics, _, _ = trial.evaluate("test")
    return {"test_loss": loss, **{f"test_{name}": value for name, value in metrics.items()}}


def _checked_objective(config: TrialConfig, task: Task) -> str:
    """The objective without its val_.

    Raises:
        ValueError: this kind of task has no such objective.
    """
    known = [f"val_{name}" for name in ("loss", *METRICS[task.kind])]
    if config.objective not in known:
        raise ValueError(
            f"objective '{config.objective}' does not exist for a {task.kind} task. Known: {', '.join(known)}"
        )
    return config.objective.removeprefix("val_")


def _differences(one: dict[str, Any], other: dict[str, Any], prefix: str = "") -> list[str]:
    out = []
    for key in sorted(one.keys() | other.keys()):
        left, right = one.get(key), other.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            out += _differences(left, right, f"{prefix}{key}.")
        elif left != right:
            out.append(f"{prefix}{key}")
    return out


def _precision(name: str, device: torch.device) -> tuple[Callable[[], Any], torch.amp.GradScaler | None]:
    """The autocast context, and the scaler that fp16 needs. auto: bf16 where a GPU has it, else fp16; fp32 on CPU."""
    if name == "auto":
        has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        name = "fp32" if device.type == "cpu" else "bf16" if has_bf16 else "fp16"
    if name == "fp32":
        return nullcontext, None
    if name == "fp16" and device.type == "cpu":
        raise ValueError("precision: fp16 needs a GPU; use auto, bf16 or fp32")
    dtype = torch.bfloat16 if name == "bf16" else torch.float16
    scaler = torch.amp.GradScaler(device.type) if name == "fp16" else None
    return lambda: torch.autocast(device.type, dtype=dtype), scaler


def _reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak of earlier trials in this process
    except OSError:
        pass


def _peak_memory_gib(device: torch.device) -> float:
    """Peak since the trial began: allocated on the GPU, or resident in the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**20
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
