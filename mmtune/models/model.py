"""A trained model as Python uses it, on rows at hand. torch and pandas are imported inside."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.models.reference import ModelRef

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow
    from PIL import Image

    from mmtune.models.inspecting import Inspected
    from mmtune.models.testing import Tested
    from trainables.answering import Answered
    from trainables.trained import Trained

    Rows = pd.DataFrame | Iterable[Mapping[str, Any]]
    Answer = Callable[[Trained, Iterable[Mapping[str, Any]]], Iterator[pyarrow.Table]]
    Make = Callable[[Trained, Answered], pyarrow.Table]

_AS_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")  # what that file holds without loss


class Model:
    """A trained model. Made by :func:`mmtune.load_model`.

    Rows are a DataFrame, or dicts by column: those of :attr:`columns`. A picture is the path of a file, a file's bytes
    or a PIL image; None and NaN are missing. What is given of a row beside that is ignored. A row that cannot be used
    has its reason in the column ``error``, and no answer. Results have a row for each row given, in their order; of a
    DataFrame they have its index.

    Args:
        ref: where it lies.
        trained: it, loaded.
    """

    def __init__(self, ref: ModelRef, trained: Trained) -> None:
        self._ref, self._trained = ref, trained

    @property
    def name(self) -> str:
        """'demo-openclipart/t0007' of a study's trial, else its folder's name."""
        return self._ref.name

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._ref.folder.resolve()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what it predicts; none of a regression."""
        return self._trained.task.classes

    @property
    def columns(self) -> tuple[str, ...]:
        """What a row must have for it."""
        from trainables.data.reading.newrows import needed_columns

        return tuple(needed_columns(self._trained.facts.columns))

    @property
    def metrics(self) -> dict[str, Any]:
        """The report of the epoch that it is of, by which it was chosen: ``val_loss`` and the rest."""
        return dict(self._trained.report)

    def predict(self, rows: Rows) -> pd.DataFrame:
        """What ``mmtune predict`` writes: id, prediction, ``p_<class>`` (or ``probabilities``), error.

        ``prediction`` is a class, of a multi-label task the list of all with a probability above one half, of a
        regression the number.

        Raises:
            ValueError: the first row lacks a column that the model reads, or what is given are no rows.
        """
        from mmtune.models.predict import predict_rows, prediction_table

        return self._answers(rows, predict_rows, prediction_table)

    def predict_proba(self, rows: Rows) -> pd.DataFrame:
        """The probability of each class, a column a class; NaN for a row that cannot be used.

        Raises:
            ValueError: as :meth:`predict`, or the model predicts a number.
        """
        import numpy as np
        import pandas as pd

        if self._trained.task.kind == "regression":
            raise ValueError(f"{self.name}: predicts a number, which has no probabilities")
        table = self.predict(rows)
        if "probabilities" not in table:
            return pd.DataFrame({name: table[f"p_{name}"] for name in self.classes})
        nothing = np.full(len(self.classes), math.nan)
        lists = [nothing if value is None else value for value in table["probabilities"]]
        return pd.DataFrame(np.array(lists).reshape(-1, len(self.classes)), table.index, pd.Index(self.classes))

    def embed(self, rows: Rows) -> pd.DataFrame:
        """What ``mmtune embed`` writes: id, a vector for each of the model's features, unimodal and joint, error.

        Raises:
            ValueError: as :meth:`predict`.
        """
        from mmtune.models.embed import embed_rows, feature_table

        return self._answers(rows, embed_rows, feature_table)

    def test(
        self,
        *,
        split: str = "test",
        data: str | Path | None = None,
        dataset: str | None = None,
        without: Sequence[str] = (),
        protocol: str = "both",
        metrics: Sequence[str] = (),
        out: str | Path | None = None,
    ) -> Tested:
        """What ``mmtune test`` finds, and writes, on labelled rows; a look at the test split is counted.

        Args:
            split: 'train', 'val', 'test' or 'all'.
            data: folder of other data; None is what it was trained on.
            dataset: the format of other data; None is that of the training data.
            without: modalities that it is tested without, one after the other.
            protocol: 'left_out', 'blank' or 'both'.
            metrics: those in the result; none: all.
            out: folder for the files; None: below ``tested/`` in the model's folder.

        Raises:
            ValueError: bad data, an unknown split, metric, modality or protocol, or a model that cannot do without it.
        """
        from mmtune.models.testing import evaluate_model

        return evaluate_model(
            self._ref,
            split=split,
            dataset=dataset,
            without=without,
            protocol=protocol,
            metrics=metrics,
            **self._places(data, out),
        )

    def inspect(
        self,
        what: str | Sequence[str],
        *,
        split: str = "val",
        data: str | Path | None = None,
        dataset: str | None = None,
        rows: int = 1000,
        shown: int = 8,
        seed: int = 0,
        kind: str = "png",
        out: str | Path | None = None,
    ) -> Inspected:
        """What ``mmtune inspect`` finds, and writes, of labelled rows (docs/inspect.md).

        Args:
            what: a name, or several: 'latent', 'errors', ...
            split: 'train', 'val', 'test' or 'all'.
            data: folder of other data; None is what it was trained on.
            dataset: the format of other data; None is that of the training data.
            rows: at most so many of the split, evenly picked.
            shown: so many of them are shown one by one.
            seed: of what is drawn at random.
            kind: of pictures: 'png' or 'svg'.
            out: folder for the files; None: below ``inspected/`` in the model's folder.

        Raises:
            ValueError: an unknown name, bad data, a package that is missing, or nothing of it is applicable.
        """
        from mmtune.models.inspecting import inspect_model

        return inspect_model(
            self._ref,
            [what] if isinstance(what, str) else list(what),
            split=split,
            dataset=dataset,
            rows=rows,
            shown=shown,
            seed=seed,
            kind=kind,
            **self._places(data, out),
        )

    def _places(self, data: str | Path | None, out: str | Path | None) -> dict[str, Any]:
        """Where rows are read and files written, and the device that the model is on, as verbs' functions take them."""
        return {
            "data_dir": None if data is None else str(Path(data).expanduser()),
            "out": None if out is None else Path(out).expanduser(),
            "device": "cpu" if self._trained.device.type == "cpu" else "gpu",
        }

    def _answers(self, rows: Rows, answer: Answer, make: Make) -> pd.DataFrame:
        import pandas as pd
        import pyarrow

        from trainables.answering import answers_of
        from trainables.data.reading.newrows import ROWS

        if isinstance(rows, str | bytes | Mapping):
            raise ValueError(f"rows are a DataFrame or a list of dicts, one a row, not a {type(rows).__name__}")
        trained = self._trained
        given = _frame_rows(rows) if isinstance(rows, pd.DataFrame) else (_plain_row(row) for row in rows)
        tables = [*answer(trained, given)]
        if not tables:
            tables = [make(trained, part) for part in answers_of(trained, [ROWS.empty_table()])]
        table = pyarrow.concat_tables(tables).to_pandas()
        return table.set_axis(rows.index) if isinstance(rows, pd.DataFrame) else table

    def __repr__(self) -> str:
        config, task = self._trained.config, self._trained.task
        said = f"{len(task.classes)} classes" if task.classes else "a number"
        value = self.metrics.get(config.objective)
        score = "" if value is None else f", {config.objective} {value:.4f}"
        return f"<Model {self.name}: {config.family}, reads {', '.join(self.columns)}, predicts {said}{score}>"


def _frame_rows(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    names = [str(name) for name in frame.columns]
    for values in frame.itertuples(index=False, name=None):
        yield {name: _plain(value) for name, value in zip(names, values, strict=True)}


def _plain_row(row: Any) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise ValueError(f"a row is a dict by column, not a {type(row).__name__}")
    return {str(name): _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    """A cell as a file has it: Python's own numbers, bytes of a picture, None where it is missing."""
    import numpy as np
    import pandas as pd
    from PIL import Image

    if isinstance(value, Image.Image):
        return _file_of(value)
    if isinstance(value, np.generic):
        value = value.item()
    is_missing = value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))
    return None if is_missing else value


def _file_of(image: Image.Image) -> bytes:
    """A picture as a file of the same pixels, turned as its camera says."""
    from PIL import ImageOps

    out, turned = io.BytesIO(), ImageOps.exif_transpose(image)
    turned.save(out, "PNG" if turned.mode in _AS_PNG else "TIFF")
    return out.getvalue()
