"""The model on a whole split, over all ranks: loss, metrics, logits, and the file of predictions.

Sizes: N samples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from torch import Tensor

from trainables.batch import Batch, ModelOutput
from trainables.data.ahead import ahead
from trainables.data.data import Data
from trainables.data.order import eval_batches
from trainables.errors import NonFiniteError
from trainables.files import replacing
from trainables.losses import supervised_loss
from trainables.metrics import classes_left_out, compute_metrics
from trainables.progress import Row
from trainables.ranks import Ranks
from trainables.state import State
from trainables.step import clean_batch

PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True)
class Evaluation:
    """A split's results, the same on every rank.

    Attributes:
        loss: mean supervised loss a sample, without weights and label smoothing: a metric among metrics.
        supervised: the same with the weights of training, L^V of dynamic lambda.
        metrics: each of the task's by its name without prefix.
        left_out: of those that are means over classes, how many classes they leave out.
        reported: what the family tells of the split, e.g. active_units, and of its weights.
        logits: (N, C) float32; of a regression float64, in the unit of its labels.
        rows: (N,), which row of the dataset each is, ascending.
    """

    loss: float
    supervised: float
    metrics: dict[str, float]
    left_out: dict[str, int]
    reported: Row
    logits: np.ndarray
    rows: np.ndarray

    def named(self, split: str) -> Row:
        """By the names that reports have: val_loss, val_accuracy, ..., and val_macro_f1_left_out, ..."""
        named = {"loss": self.loss, **self.metrics, **self.reported}
        named |= {f"{name}_left_out": number for name, number in self.left_out.items()}
        return {f"{split}_{name}": value for name, value in named.items()}


class Outputs(NamedTuple):
    """Of some rows, the same on every rank.

    Attributes:
        logits: (N, C) float32.
        rows: (N,), which row of the dataset each is, ascending.
        reported: what the family tells of them.
        heads: logits (N, C) of further heads, by modality.
    """

    logits: np.ndarray
    rows: np.ndarray
    reported: Row
    heads: dict[str, np.ndarray]


@torch.inference_mode()
def evaluate(state: State, split: str) -> Evaluation:
    """The model as it is now on a split, its clean view.

    The loss is one mean over all samples, whatever the batches and ranks they came in.

    Raises:
        NonFiniteError: a logit is nan or infinite; on all ranks at once.
    """
    logits, rows, reported, heads = outputs(state, state.data.rows[split], what=split)
    reported |= state.model.weights() if hasattr(state.model, "weights") else {}  # pyright: ignore (of no nn.Module)
    for name, values in heads.items():
        reported[f"supervised_{name}"] = mean_losses(state, values, rows)[1]
    loss, supervised = mean_losses(state, logits, rows)
    logits, labels = state.data.in_own_units(logits), state.data.labels[rows]
    metrics = compute_metrics(logits, labels, state.task, ids=[state.data.ids[row] for row in rows])
    left_out = classes_left_out(logits, labels, state.task)
    return Evaluation(loss, supervised, metrics, left_out, reported, logits, rows)


@torch.inference_mode()
def outputs(state: State, rows: np.ndarray, *, what: str) -> Outputs:
    """Of the clean view of rows the logits, a regression's as it learns them, and what the family tells of them: a
    module with ``report(joint_ND)`` is asked with the joint features of all.

    Raises:
        NonFiniteError: a logit is nan or infinite, and ``what`` it is of; on all ranks at once.
    """
    ranks = state.ranks
    parts = eval_batches(state.data, rows, batch_size=state.eval_rows, rank=ranks.rank, world=ranks.world)
    state.model.eval()

    def forward(batch: Batch) -> ModelOutput:
        with state.precision.autocast():
            return state.model(batch.to(state.ranks.device, non_blocking=True))

    return collect(
        forward, lambda part: clean_batch(state, part), list(parts), ranks=state.ranks, depth=state.depth, what=what,
        report=getattr(state.model, "report", None),
    )  # fmt: skip


def collect(
    forward: Callable[[Batch], ModelOutput],
    load: Callable[[np.ndarray], Batch],
    parts: list[np.ndarray],
    *,
    ranks: Ranks,
    what: str,
    depth: int = 0,
    report: Callable[[Tensor], Row] | None = None,
) -> Outputs:
    """Runs a model over batches of rows; see :func:`outputs`.

    Args:
        forward: the model.
        load: the batch of some rows.
        parts: the rows of each batch of this rank.
        ranks: this process among those that share the rows.
        what: it is of, for an error.
        depth: batches made in advance.
        report: is told the joint features (N, D) of all rows.

    Raises:
        NonFiniteError: a logit is nan or infinite; on all ranks at once.
    """
    logits, joint, heads = [], [], {}
    for batch in ahead(load, parts, depth=depth):
        out = forward(batch)
        logits.append(out.logits)
        joint += [out.features["joint"]] if report is not None and "joint" in out.features else []
        for name, values in out.heads.items():
            heads.setdefault(name, []).append(values)
    all_logits, all_rows = gather_rows(logits, parts, ranks=ranks)
    if not np.isfinite(all_logits).all():
        raise NonFiniteError(f"{what} logits became nan or infinite")
    is_told = report is not None and ranks.most(int(bool(joint))) > 0  # clip without its text has none
    reported = report(torch.from_numpy(gather_rows(joint, parts, ranks=ranks)[0])) if is_told and report else {}
    names = max(ranks.gather(list(heads)), key=len)  # a rank without rows has seen none
    of_heads = {name: gather_rows(heads.get(name, []), parts, ranks=ranks)[0] for name in names}
    return Outputs(all_logits, all_rows, reported, of_heads)


def mean_losses(state: State, logits: np.ndarray, rows: np.ndarray) -> tuple[float, float]:
    """The supervised loss of these rows from their logits, unsmoothed: without weights, and with those of training."""
    device = state.ranks.device
    pair = torch.from_numpy(logits).to(device), torch.from_numpy(state.data.learnt_labels(rows)).to(device)
    return supervised_loss(*pair, state.task).item(), state.supervised(*pair, is_smoothed=False).item()


def gather_rows(values: list[Tensor], rows: list[np.ndarray], *, ranks: Ranks) -> tuple[np.ndarray, np.ndarray]:
    """All ranks' batches of values as one (N, D) float32 array, and their rows (N,), ascending.

    Sorted by row, whatever is computed from them adds up in the same order on any number of ranks.
    """
    mine = (torch.cat(values).float().cpu().numpy(), np.concatenate(rows)) if values else None
    gathered = [part for part in ranks.gather(mine) if part is not None]
    all_rows = np.concatenate([part[1] for part in gathered])
    order = np.argsort(all_rows, kind="stable")
    return np.concatenate([part[0] for part in gathered])[order], all_rows[order]


def write_predictions(path: Path, data: Data, evaluation: Evaluation) -> None:
    """A Parquet file with a row a sample: id, label, logits."""
    rows = evaluation.rows
    ids = [data.ids[row] for row in rows]
    table = pyarrow.table({"id": ids, "label": _lists(data.labels[rows]), "logits": _lists(evaluation.logits)})
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def _lists(values: np.ndarray) -> pyarrow.Array:
    """(N,) as numbers, (N, C) as lists, without a Python object for each."""
    if values.ndim == 1:
        return pyarrow.array(values)
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.reshape(-1)), values.shape[1])
