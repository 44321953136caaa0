"""Data: everything a trial trains and evaluates on, and the batches made of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from trainables.batch import Batch
from trainables.data.blank import Dropout
from trainables.data.padding import pad_rows
from trainables.data.reading.scale import LabelScale
from trainables.data.reading.tabular import Tabular
from trainables.data.views import View
from trainables.task import Task


@dataclass(frozen=True)
class Data:
    """What a configuration reads of its dataset, N rows.

    Attributes:
        task: what is predicted.
        ids: N sample ids.
        labels: of every row, as the dataset has them.
        rows: split -> its row numbers.
        clean: texts and images as they are.
        augmented: their copies; None without UDA.
        max_text_len: tokens a text is cut to, specials included.
        lengths: tokens of each row, None where all rows are alike.
        unlabelled: training rows without a label that take part in what needs none.
        tabular: what the family reads of it.
        dropout: takes modalities away from rows that train; None takes none.
        dataset: its name, for messages.
        fingerprint: changes with the files behind it.
        scale: of a regression's labels, as they are learnt; None of classes.
    """

    task: Task
    ids: list[str]
    labels: np.ndarray
    rows: dict[str, np.ndarray]
    clean: View
    augmented: View | None
    max_text_len: int
    lengths: np.ndarray | None = None
    unlabelled: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    tabular: Tabular = Tabular()
    dropout: Dropout | None = None
    dataset: str = ""
    fingerprint: str = ""
    scale: LabelScale | None = None

    def batch(self, rows: np.ndarray, view: View, *, epoch: int = 0) -> Batch:
        """These rows of a view, text padded to the longest among them; ``epoch`` chooses fresh copies."""
        return Batch(
            **view.tensors(rows, max_text_len=self.max_text_len, epoch=epoch), **_columns(self.tabular, rows),
            labels=torch.from_numpy(self.learnt_labels(rows)), ids=[self.ids[row] for row in rows],
        )  # fmt: skip

    def learnt_labels(self, rows: np.ndarray) -> np.ndarray:
        """The labels of these rows as the loss takes them: a regression's as z-scores."""
        return self.labels[rows] if self.scale is None else self.scale.z_scores(self.labels[rows])

    def in_own_units(self, logits: np.ndarray) -> np.ndarray:
        """Logits as metrics and predictions take them: a regression's in the unit of its labels."""
        return logits if self.scale is None else self.scale.restored(logits)


def _columns(tabular: Tabular, rows: np.ndarray) -> dict[str, Tensor]:
    """The numbers, categories and neighbours (nodes from 1) of a Batch."""
    found = {}
    if tabular.numeric is not None:
        found["numeric"] = torch.from_numpy(tabular.numeric[rows])
    if tabular.codes is not None:
        found["categories"] = torch.from_numpy(tabular.codes[rows])
    if tabular.graph is not None:
        nodes, offsets = tabular.graph.nodes, tabular.graph.offsets
        found["neighbours"], _ = pad_rows([nodes[offsets[row] : offsets[row + 1]] + 1 for row in rows])
    return found
