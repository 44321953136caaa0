"""The model on a whole split, over all ranks: loss, metrics, logits, and the file of predictions.

Sizes: N samples, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from torch import Tensor

from trainables.data.ahead import ahead
from trainables.data.data import Data
from trainables.data.order import eval_batches
from trainables.ddp import share_buffers
from trainables.errors import NonFiniteError
from trainables.files import replacing
from trainables.losses import supervised_loss
from trainables.metrics import classes_left_out, compute_metrics
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
        logits: (N, C) float32; of a regression float64, in the unit of its labels.
        rows: (N,), which row of the dataset each is, ascending.
    """

    loss: float
    supervised: float
    metrics: dict[str, float]
    left_out: dict[str, int]
    logits: np.ndarray
    rows: np.ndarray

    def named(self, split: str) -> dict[str, float]:
        """By the names that reports have: val_loss, val_accuracy, ..., and val_macro_f1_left_out, ..."""
        named = {"loss": self.loss, **self.metrics}
        named |= {f"{name}_left_out": number for name, number in self.left_out.items()}
        return {f"{split}_{name}": value for name, value in named.items()}


@torch.inference_mode()
def evaluate(state: State, split: str) -> Evaluation:
    """The model as it is now on a split, its clean view.

    The loss is one mean over all samples, whatever the batches and ranks they came in.

    Raises:
        NonFiniteError: a logit is nan or infinite; on all ranks at once.
    """
    ranks = state.ranks
    state.model.eval()
    share_buffers(state)
    logits, size = [], state.config.eval_batch_size
    rows = list(eval_batches(state.data, split=split, batch_size=size, rank=ranks.rank, world=ranks.world))
    for batch in ahead(lambda part: clean_batch(state, part), rows, depth=state.depth):
        with state.precision.autocast():
            logits.append(state.model(batch.to(ranks.device, non_blocking=True)).logits)
    all_logits, all_rows = gather_logits(logits, rows, ranks=ranks, width=state.task.num_outputs)
    if not np.isfinite(all_logits).all():
        raise NonFiniteError(f"{split} logits became nan or infinite")
    learnt = torch.from_numpy(state.data.learnt_labels(all_rows))
    pair = torch.from_numpy(all_logits).to(ranks.device), learnt.to(ranks.device)
    loss, supervised = supervised_loss(*pair, state.task), state.supervised(*pair, is_smoothed=False)
    all_logits, labels = state.data.in_own_units(all_logits), state.data.labels[all_rows]
    metrics = compute_metrics(all_logits, labels, state.task)
    left_out = classes_left_out(all_logits, labels, state.task)
    return Evaluation(loss.item(), supervised.item(), metrics, left_out, all_logits, all_rows)


def gather_logits(
    logits: list[Tensor], rows: list[np.ndarray], *, ranks: Ranks, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """All ranks' batches of logits as one (N, ``width``) float32 array, and their rows (N,), ascending.

    Sorted by row, whatever is computed from them adds up in the same order on any number of ranks.
    """
    mine = torch.cat(logits).float().cpu().numpy() if logits else np.zeros((0, width), np.float32)
    mine_rows = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    gathered = ranks.gather((mine, mine_rows))
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
