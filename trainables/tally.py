"""What an epoch of training adds up to: mean loss terms and the metric on training inputs, over all ranks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from trainables.data.order import some_rows
from trainables.errors import NonFiniteError
from trainables.evaluate import gather_rows, mean_losses, outputs
from trainables.metrics import compute_metrics, metric_mode, tuning_metric
from trainables.progress import Row, training_metric
from trainables.state import State
from trainables.step import Loaded

_LOGITS = 2**26  # numbers a rank, that the training metric is computed from at most


@dataclass(frozen=True)
class Trained:
    """An epoch of training, the same on every rank.

    Attributes:
        terms: each loss term as a mean over the rows.
        clean: logits (N, C) of clean rows as they came up, and the rows (N,); None with ``train_eval_rows``.
    """

    terms: Row
    clean: tuple[np.ndarray, np.ndarray] | None


@dataclass
class Tally:
    """Takes in the micro-batches of an epoch on one rank, and adds them up over all.

    Attributes:
        keeps_logits: whether those of the clean rows are wanted.
    """

    keeps_logits: bool
    sums: dict[str, Tensor] = field(default_factory=dict)
    logits: list[Tensor] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    num_kept: int = 0

    def add(self, terms: dict[str, Tensor], clean_logits: Tensor, loaded: Loaded) -> None:
        """One micro-batch's mean loss terms and the logits of its clean rows.

        Logits are kept of the epoch's first rows alone where all of them would be too many (VQA).
        """
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach() * loaded.num_rows
        if self.keeps_logits and self.num_kept * clean_logits.shape[1] < _LOGITS:
            self.logits.append(clean_logits.detach())
            self.rows.append(loaded.clean_rows)
            self.num_kept += len(loaded.clean_rows)

    def total(self, state: State, epoch: int, *, num_rows: int) -> Trained:
        """The whole epoch of ``num_rows`` rows, over all ranks.

        Raises:
            NonFiniteError: a logit is nan or infinite; on all ranks at once.
        """
        gathered = state.ranks.gather({name: value.item() for name, value in self.sums.items()})
        terms: Row = {name: sum(part[name] for part in gathered) / num_rows for name in self.sums}
        if not self.keeps_logits:
            return Trained(terms, None)
        logits, rows = gather_rows(self.logits, self.rows, ranks=state.ranks)
        if not np.isfinite(logits).all():
            raise NonFiniteError(f"logits became nan or infinite in epoch {epoch}")
        return Trained(terms, (logits, rows))


def measure_training(state: State, trained: Trained) -> tuple[Row, float]:
    """How good the model is on training rows: as they came up in training, or evaluated now (``train_eval_rows``).

    Returns:
        The metric and ``train_clean`` as columns, and the metric as dynamic lambda wants it: in [0, 1], more is better.

    Raises:
        NonFiniteError: a logit is nan or infinite; on all ranks at once.
    """
    name, data = training_metric(state.config.objective, state.task), state.data
    if trained.clean is None:
        logits, rows, *_ = outputs(state, some_rows(data.rows["train"], state.config.train_eval_rows), what="training")
    else:
        logits, rows = trained.clean
    tuning = metric = tuning_metric(name, logits, data.learnt_labels(rows), state.task)
    if metric_mode(name) == "min":  # an error, which dynamic lambda takes as 1 / (1 + error)
        metric = compute_metrics(data.in_own_units(logits), data.labels[rows], state.task)[name]
    return {f"train_{name}": metric, "train_clean": mean_losses(state, logits, rows)[1]}, tuning
