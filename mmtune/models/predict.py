"""What a trained model predicts for new rows: in Python row by row, or a file of them, however long.

A row that cannot be used is there with its reason and no prediction, in its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.models.reference import ModelRef
from mmtune.models.rows import Progress, Written, write_rows
from trainables.messages import show, unknown

if TYPE_CHECKING:
    import pyarrow

    from trainables.answering import Answered
    from trainables.trained import Trained


def predict_rows(
    trained: Trained, rows: Iterable[Mapping[str, Any]], *, root: Path | None = None
) -> Iterator[pyarrow.Table]:
    """Predictions for rows by column, a table for some hundreds or thousands of them, in their order.

    Each table has the columns of the file that ``mmtune predict`` writes (docs/models.md#predict): id, prediction,
    probabilities, error. A row without an id is named by its number, from 0.

    Args:
        trained: the model.
        rows: their cells by column, as ``trained.facts.columns`` names them: texts, numbers, and pictures as bytes
            (of a PNG or JPEG file, say) or as paths; None is missing.
        root: the folder that paths of pictures are below, which they must not leave; None takes any path.

    Raises:
        ValueError: the first row lacks a column that the model reads.
    """
    from trainables.answering import answers_of, rows_at_once
    from trainables.data.reading.newrows import in_tables, mapped_rows

    tables = in_tables(mapped_rows(trained.facts, rows, root=root), rows_at_once(trained))
    return (prediction_table(trained, answered) for answered in answers_of(trained, tables))


def predict_one(trained: Trained, values: Mapping[str, Any]) -> list[tuple[str, float]]:
    """What is predicted of a single row: classes with their probabilities, best first; of a regression the number.

    Args:
        trained: the model.
        values: as in :func:`predict_rows`.

    Raises:
        ValueError: the row cannot be used.
    """
    from trainables.answering import answers_of
    from trainables.data.reading.newrows import one_row

    (answered,) = answers_of(trained, [one_row(trained.facts, values)])
    if answered.errors[0] is not None:
        raise ValueError(answered.errors[0])
    scores = trained.scores(answered.logits)
    if trained.task.kind == "regression":
        return [(trained.facts.target, float(scores[0]))]
    pairs = zip(trained.task.classes, scores[0].tolist(), strict=True)
    return sorted(pairs, key=lambda pair: -pair[1])


def single_row(
    trained: Trained, *, text: str | None = None, image: str | None = None, values: Sequence[str] = ()
) -> dict[str, Any]:
    """A row by column of what a user gives by hand; numbers and categories that are not given are missing.

    Args:
        trained: the model.
        text: where it reads text.
        image: a file, where it reads pictures.
        values: of other columns, each 'column=value'.

    Raises:
        ValueError: something that the model does not read, or a text or picture that it lacks.
    """
    columns, reads, found = trained.facts.columns, " and ".join(trained.modalities), {}
    if "graph" in trained.modalities:
        raise ValueError("the model reads a graph: it can answer rows of the dataset that it was trained on, no others")
    by_hand = (("text", text, columns.text[:1]), ("image", image, (columns.image,)))
    for modality, given, _ in by_hand:
        if given is not None and modality not in trained.modalities:
            raise ValueError(f"--{modality}: the model does not read it; it reads {reads}")
    for modality, given, column in by_hand:
        if given is None and modality in trained.modalities:
            raise ValueError(f"--{modality} is missing: the model reads {reads}")
        found |= {} if given is None else {column[0]: given}
    for pair in values:
        name, sign, value = pair.partition("=")
        if not sign:
            raise ValueError(f"--value {pair}: write COLUMN=VALUE")
        if name not in (known := (*columns.numeric, *columns.categorical)):
            few = f"{show(name)} is no column of the model: it reads {reads}" if not known else unknown(name, known)
            raise ValueError(f"--value: {few}")
        found[name] = value
    return found


def predict_data(
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
    """Writes what a model predicts for the rows of a file, of a folder or of a dataset.

    Args:
        ref: the model.
        data: see :func:`mmtune.models.newdata.find_data`, as ``dataset`` and ``split``.
        out: a .parquet, .csv or .jsonl file.
        dataset: the format of a folder.
        split: of a dataset.
        device: 'auto', 'cpu' or 'gpu'; without a cluster.
        address: of a Ray cluster, over all of whose GPUs (or CPUs) the rows are spread; None is this process.
        progress: is told what is done, rows done, rows of all.

    Raises:
        ValueError: no such data, or rows that lack what the model reads.
    """
    return write_rows(
        ref, data, prediction_table, out=out, dataset=dataset, split=split, device=device, address=address,
        progress=progress,
    )  # fmt: skip


def prediction_table(trained: Trained, answered: Answered) -> pyarrow.Table:
    """A row for each of the N that were given: id, prediction, probabilities, error."""
    import numpy as np
    import pyarrow

    from mmtune.models.outputs import output_columns

    said = pyarrow.table(output_columns(trained.task, trained.scores(answered.logits)))
    at = np.full(len(answered.ids), -1)
    at[answered.rows] = np.arange(len(answered.rows))
    said = said.take(pyarrow.array(at, mask=at < 0))
    table = said.add_column(0, "id", pyarrow.array(answered.ids, pyarrow.string()))
    table = table.append_column("error", pyarrow.array(answered.errors, pyarrow.string()))
    facts = {"target": trained.facts.target, "classes": json.dumps(trained.task.classes, ensure_ascii=False)}
    return table.replace_schema_metadata(facts)
