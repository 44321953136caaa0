"""What a trained model makes of new rows before its last layer: unimodal and joint features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.models.reference import ModelRef
from mmtune.models.rows import Progress, Written, write_rows

if TYPE_CHECKING:
    import pyarrow

    from trainables.answering import Answered
    from trainables.trained import Trained


def embed_rows(
    trained: Trained, rows: Iterable[Mapping[str, Any]], *, root: Path | None = None
) -> Iterator[pyarrow.Table]:
    """Features of rows, a table for some hundreds or thousands of them, in their order: id, the features, error.

    Args:
        trained: the model.
        rows: as :func:`mmtune.models.predict.predict_rows` takes them.
        root: likewise.

    Raises:
        ValueError: the first row lacks a column that the model reads.
    """
    from trainables.answering import answers_of, rows_at_once
    from trainables.data.reading.newrows import in_tables, mapped_rows

    tables = in_tables(mapped_rows(trained.facts, rows, root=root), rows_at_once(trained))
    return (feature_table(trained, answered) for answered in answers_of(trained, tables))


def embed_data(
    ref: ModelRef,
    data: str | None,
    *,
    out: Path,
    dataset: str | None = None,
    split: str | None = None,
    device: str = "auto",
    address: str | None = None,
    progress: Progress | None = None,
) -> Written:
    """Writes the features of the rows of a file, of a folder or of a dataset.

    Args and errors are those of :func:`mmtune.models.predict.predict_data`.
    """
    return write_rows(
        ref, data, feature_table, out=out, dataset=dataset, split=split, device=device, address=address,
        progress=progress,
    )  # fmt: skip


def feature_table(trained: Trained, answered: Answered) -> pyarrow.Table:
    """A row for each of the N that were given: id, a list of D floats for each of the model's features, error."""
    import numpy as np
    import pyarrow

    at = np.full(len(answered.ids), -1)
    at[answered.rows] = np.arange(len(answered.rows))
    index = pyarrow.array(at, mask=at < 0)
    columns: dict[str, Any] = {"id": pyarrow.array(answered.ids, pyarrow.string())}
    for name, values in answered.features.items():
        flat = pyarrow.array(np.ascontiguousarray(values).reshape(-1))
        columns[name] = pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1]).take(index)
    return pyarrow.table(columns | {"error": pyarrow.array(answered.errors, pyarrow.string())})
