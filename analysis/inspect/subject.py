"""What an inspection looks at: a trained model, some labelled rows, and the folder that it writes to.

N rows are looked at, S of them are shown one by one. C classes, D features.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.figures import drawn
from trainables.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from trainables.answers import Labelled
    from trainables.batch import Batch
    from trainables.trained import Trained

_SIDE = 128  # pixels of a picture that is shown


class NotApplicable(ValueError):
    """This model, or these rows, do not have what the inspection is of; the message is the reason."""


@dataclass(frozen=True)
class Subject:
    """A model and rows of labelled data.

    Attributes:
        trained: the model.
        given: the labelled rows of the split.
        rows: (N,) those of them that are looked at, ascending.
        folder: files go there.
        num_shown: S.
        kind: of pictures, 'png' or 'svg'.
        seed: of whatever is drawn.
        files: what was written so far.
    """

    trained: Trained
    given: Labelled
    rows: np.ndarray
    folder: Path
    num_shown: int = 8
    kind: str = "png"
    seed: int = 0
    files: list[Path] = field(default_factory=list)

    @cached_property
    def table(self) -> Any:
        """The dataset as it was read: texts, pictures, numbers of every row."""
        from trainables.data.reading.dataset import load_table

        return load_table(self.given.dataset)

    @property
    def ids(self) -> list[str]:
        """N."""
        return [self.table.ids[row] for row in self.rows]

    @property
    def labels(self) -> np.ndarray:
        """(N,) class numbers or numbers, or (N, C)."""
        return self.given.labels[self.rows]

    @property
    def classes(self) -> tuple[str, ...]:
        """C names; none of a regression."""
        return self.trained.task.classes

    @property
    def shown(self) -> np.ndarray:
        """(S,) positions in ``rows``, evenly picked."""
        return np.unique(np.linspace(0, len(self.rows) - 1, min(self.num_shown, len(self.rows))).astype(int))

    @cached_property
    def _answers(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        from trainables.answering import answers_of, rows_at_once
        from trainables.data.newtable import NewTable

        trained = self.trained
        if self.given.data is None:
            new = NewTable(trained.facts, trained.modalities, self.given.dataset)
            parts = list(answers_of(trained, new.tables_of(self.rows, rows_at_once(trained))))
            for part in parts:
                for id, error in zip(part.ids, part.errors, strict=True):
                    if error is not None:
                        raise ValueError(f"dataset {self.given.dataset.name}: row {id}: {error}")
            names, logits = parts[0].features, [part.logits for part in parts]
            features = {name: np.concatenate([part.features[name] for part in parts]) for name in names}
            return np.concatenate(logits), features
        outs = []
        for batch in self.batches():
            out = trained.forward(batch)
            outs.append((out.logits, out.features))
        found = {name: [feature[name] for _, feature in outs] for name in outs[0][1]}
        joined = {name: _numpy(parts) for name, parts in found.items()}
        return _numpy([logits for logits, _ in outs]), joined

    @property
    def logits(self) -> np.ndarray:
        """(N, C), as they are learnt."""
        return self._answers[0]

    @property
    def features(self) -> dict[str, np.ndarray]:
        """By name (N, D): what ``mmtune embed`` gives."""
        return self._answers[1]

    @property
    def scores(self) -> np.ndarray:
        """(N, C) probabilities; of a regression (N,) in the unit of the labels."""
        return self.trained.scores(self.logits)

    def text(self, at: int) -> str:
        """Of a row, by its position in ``rows``; '' where the data has none."""
        return "" if self.table.texts is None else str(self.table.texts[self.rows[at]])

    def picture(self, at: int, *, side: int = _SIDE) -> np.ndarray | None:
        """(side, side, 3) uint8, cut as the model sees it; None where the data has none."""
        from trainables.data.reading.pictures import decode_image

        if self.table.images is None or self.trained.regions is not None:  # whose pictures need not be there
            return None
        row, fit = self.rows[at], self.trained.config.image_fit
        pixels = decode_image(self.table.images[row], size=side, fit=fit, where=f"row {self.table.ids[row]}")
        return pixels.transpose(1, 2, 0)

    def batches(self) -> Iterator[Batch]:
        """All rows in their order, on the model's device: of its own data as the cache has them, else one by one."""
        trained, data, size = self.trained, self.given.data, self.trained.config.eval_batch_size
        if data is None:
            yield from (self.batch(at) for at in range(len(self.rows)))
            return
        for at in range(0, len(self.rows), size):
            batch = data.batch(self.rows[at : at + size], data.clean).to(trained.device)
            yield trained.with_features(batch)

    def batch(self, at: int) -> Batch:
        """A single row as the model reads it: ids and pixels, no cached features."""
        from trainables.answering import batch_of
        from trainables.data.newtable import NewTable

        new = NewTable(self.trained.facts, self.trained.modalities, self.given.dataset)
        (table,) = new.tables_of(self.rows[at : at + 1], 1)
        return batch_of(self.trained, table)

    def label(self, at: int) -> str:
        """What a row is, in words."""
        value, task = self.labels[at], self.trained.task
        if task.kind == "regression":
            return f"{value:.6g}"
        if task.kind == "multiclass":
            return self.classes[int(value)]
        return ", ".join(name for name, has in zip(self.classes, value, strict=True) if has > 0.5) or "none"

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Writes ``name``.csv."""
        self._write(f"{name}.csv", table.to_csv(index=False))

    def write_figure(self, name: str, figure: Figure) -> None:
        """Writes ``name``.png, or .svg."""
        self._write(f"{name}.{self.kind}", drawn(figure, self.kind))

    def _write(self, name: str, data: bytes | str) -> None:
        path = self.folder / name
        write_atomic(path, data)
        self.files.append(path)


def wrapped(text: str, *, width: int = 30, lines: int = 5) -> str:
    """A text in a few short lines, as matplotlib shows it."""
    short = textwrap.shorten(text, width * lines, placeholder=" ...")
    return textwrap.fill(short, width).replace("$", r"\$")


def grid(rows: int, columns: int, *, title: str, width: float = 1.6, height: float = 1.6) -> tuple[Figure, Any]:
    """A figure of rows x columns empty panels for pictures and texts."""
    from matplotlib.figure import Figure

    size = (max(4.0, width * columns), height * rows + 0.6)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    return figure, panels


def draw_row(axes: Any, subject: Subject, at: int, *, title: str = "", modality: str | None = None) -> None:
    """A row in a panel: its picture, text or numbers under a title; of no ``modality`` its picture, else its text."""
    image = subject.picture(at) if modality in (None, "image") else None
    if image is not None:
        axes.imshow(image, interpolation="nearest")
    else:
        said = subject.text(at) if modality in (None, "text") else f"{modality} of {subject.ids[at]}"
        axes.text(0.5, 0.5, wrapped(said, width=20), ha="center", va="center", fontsize=7)
    if title:
        axes.set_title(wrapped(title, width=22, lines=3), fontsize=7)


def draw_picture(axes: Any, picture: np.ndarray, *, title: str) -> None:
    """A picture (S, S, 3), from 0 to 1, in a panel under a title."""
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(wrapped(title, width=22, lines=3), fontsize=7)


def _numpy(parts: Sequence[Any]) -> np.ndarray:
    import torch

    return torch.cat(list(parts)).float().cpu().numpy()
