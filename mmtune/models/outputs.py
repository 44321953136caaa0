"""A model's outputs as columns: the class by name and its probabilities, or a number in the unit of the labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow

from trainables.task import Task

WIDE = 50  # classes; more of them are one column of lists


def output_columns(task: Task, scores: np.ndarray) -> dict[str, Any]:
    """Columns of N rows: prediction, and of classes their probabilities.

    ``prediction`` is a class, of a multi-label task the list of all with a probability above one half, of a
    regression the number. ``p_<class>`` are probabilities; of more than 50 classes they are one column
    ``probabilities`` of lists, in the order of the classes in ``model.json``.

    Args:
        task: the model's.
        scores: (N, C) probabilities, or (N,) numbers.
    """
    if task.kind == "regression":
        return {"prediction": pyarrow.array(scores)}
    names = np.array(task.classes, object)
    if task.kind == "multiclass":
        said: Any = names[scores.argmax(axis=1)].tolist()
    else:
        said = [names[row].tolist() for row in scores > 0.5]
    kind = pyarrow.string() if task.kind == "multiclass" else pyarrow.list_(pyarrow.string())
    columns: dict[str, Any] = {"prediction": pyarrow.array(said, kind)}
    if len(task.classes) <= WIDE:
        return columns | {f"p_{name}": pyarrow.array(scores[:, at]) for at, name in enumerate(task.classes)}
    flat = pyarrow.array(np.ascontiguousarray(scores).reshape(-1))
    return columns | {"probabilities": pyarrow.FixedSizeListArray.from_arrays(flat, len(task.classes))}


def label_column(task: Task, labels: np.ndarray) -> Any:
    """Labels (N,) or (N, C) as ``prediction`` is."""
    if task.kind == "regression":
        return pyarrow.array(labels)
    names = np.array(task.classes, object)
    if task.kind == "multiclass":
        return pyarrow.array(names[labels].tolist(), pyarrow.string())
    return pyarrow.array([names[row].tolist() for row in labels > 0.5], pyarrow.list_(pyarrow.string()))
