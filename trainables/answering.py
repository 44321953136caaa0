"""A trained model over tables of new rows: logits and features of those that can be used, a reason for each other.

Pictures are decoded by a pool of threads, and the next rows are made ready while a GPU is busy with these.
Sizes: N rows, G of them usable, C outputs, D features, S pixels a side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import torch

from trainables.batch import Batch
from trainables.data.ahead import ahead
from trainables.data.blank import blank_fields
from trainables.data.cache.regions import region_finder
from trainables.data.reading.pictures import decode_image
from trainables.trained import Change, Inputs, Trained

_WITH_PICTURES, _WITHOUT = 256, 4096  # rows in memory at a time


@dataclass(frozen=True)
class Answered:
    """What a model said of N rows.

    Attributes:
        ids: N.
        errors: N reasons why a row has no answer, None where it has one.
        rows: (G,) which rows have, ascending.
        logits: (G, C) float32.
        features: by name (G, D) float32, the same names for all rows of a model.
    """

    ids: list[str]
    errors: list[str | None]
    rows: np.ndarray
    logits: np.ndarray
    features: dict[str, np.ndarray]


def rows_at_once(trained: Trained) -> int:
    """Rows that are read, and answered, together."""
    return _WITH_PICTURES if "image" in trained.modalities else _WITHOUT


def answers_of(trained: Trained, tables: Iterable[pyarrow.Table], change: Change | None = None) -> Iterator[Answered]:
    """What the model says of each table of rows, in their order.

    Args:
        trained: the model.
        tables: of the columns :data:`trainables.data.reading.newrows.ROWS`.
        change: what is done to each batch, features included, before the model sees it.
    """
    depth = 0 if trained.device.type == "cpu" else 1
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:  # Pillow lets go of the interpreter
        for loaded in ahead(lambda table: _load(trained, table, pool), tables, depth=depth):
            yield _answer(trained, loaded, change)


def feature_widths(trained: Trained) -> dict[str, int]:
    """The features that the model has, unimodal and joint, and the width of each."""
    rows = np.full((1, len(trained.facts.numeric)), np.nan)
    side, regions = trained.config.image_size, None
    if trained.regions is not None:
        regions = blank_fields("image", regions=trained.regions)["image_features"].numpy()
    inputs = Inputs(
        ids=[""], texts=[""], pixels=np.zeros((1, 3, side, side), np.uint8), regions=regions, numeric=rows,
        categorical={name: [None] for name in trained.facts.categorical}, neighbours=[np.zeros(0, np.int64)],
    )  # fmt: skip
    return {name: part.shape[1] for name, part in trained.forward(trained.batch(inputs)).features.items()}


def batch_of(trained: Trained, table: pyarrow.Table) -> Batch:
    """One row as the model reads it, without cached features.

    Args:
        trained: the model.
        table: one row, of the columns :data:`trainables.data.reading.newrows.ROWS`.

    Raises:
        ValueError: the row cannot be used.
    """
    with ThreadPoolExecutor(1) as pool:
        loaded = _load(trained, table, pool)
    if loaded.errors[0] is not None:
        raise ValueError(f"row {loaded.ids[0]}: {loaded.errors[0]}")
    ((_, batch),) = loaded.parts
    return batch


@dataclass(frozen=True)
class _Loaded:
    ids: list[str]
    errors: list[str | None]
    parts: list[tuple[np.ndarray, Batch]]  # rows and what of them the model reads


def _load(trained: Trained, table: pyarrow.Table, pool: ThreadPoolExecutor) -> _Loaded:
    given = {name: table.column(name).to_pylist() for name in table.column_names}
    errors: list[str | None] = list(given["error"])
    pixels: list[Any] = [None] * len(errors)
    if "image" in trained.modalities:
        there = [row for row, error in enumerate(errors) if error is None]
        find = None if trained.regions is None else region_finder(trained.regions)

        def decode(row: int) -> None:
            try:
                if find is None:
                    pixels[row] = _pixels(trained, given["path"][row], given["picture"][row])
                else:
                    pixels[row] = find(given["path"][row], given["id"][row])
            except (ValueError, OSError) as error:
                errors[row] = str(error) if isinstance(error, ValueError) else f"{error.filename}: {error.strerror}"

        list(pool.map(decode, there))
    usable = np.array([row for row, error in enumerate(errors) if error is None], np.int64)
    if "text" in trained.modalities:  # rows of a length need little padding
        usable = usable[np.argsort([len(given["text"][row]) for row in usable], kind="stable")]
    size = trained.config.eval_batch_size
    parts = [usable[at : at + size] for at in range(0, len(usable), size)]
    return _Loaded(given["id"], errors, [(rows, _batch(trained, given, pixels, rows)) for rows in parts])


def _pixels(trained: Trained, path: str | None, data: bytes | None) -> np.ndarray:
    config, where = trained.config, "picture" if path is None else path
    content = Path(path).read_bytes() if path is not None else data or b""
    return decode_image(content, size=config.image_size, fit=config.image_fit, where=where)


def _batch(trained: Trained, given: dict[str, list[Any]], pixels: list[Any], rows: np.ndarray) -> Batch:
    reads, names = trained.modalities, [*trained.facts.categorical]

    def taken(name: str) -> list[Any]:
        return [given[name][row] for row in rows]

    return trained.batch(
        Inputs(
            ids=taken("id"),
            texts=taken("text") if "text" in reads else None,
            pixels=np.stack([pixels[row] for row in rows]) if "image" in reads and trained.regions is None else None,
            regions=np.stack([pixels[row] for row in rows]) if trained.regions is not None else None,
            numeric=np.array(taken("numeric"), np.float64) if "numeric" in reads else None,
            categorical=dict(zip(names, zip(*taken("categorical"), strict=True), strict=True))
            if "categorical" in reads
            else {},
            neighbours=[np.array(nodes, np.int64) for nodes in taken("neighbours")] if "graph" in reads else None,
        )
    )


def _answer(trained: Trained, loaded: _Loaded, change: Change | None) -> Answered:
    outs = [trained.changed(batch, change) for _, batch in loaded.parts]
    if not outs:
        widths, rows = feature_widths(trained), np.zeros(0, np.int64)
        features = {name: np.zeros((0, width), np.float32) for name, width in widths.items()}
        return Answered(loaded.ids, loaded.errors, rows, np.zeros((0, trained.task.num_outputs), np.float32), features)
    rows = np.concatenate([part for part, _ in loaded.parts])
    order = np.argsort(rows)

    def joined(values: list[torch.Tensor]) -> np.ndarray:
        return torch.cat(values).float().cpu().numpy()[order]

    rows, logits, errors = rows[order], joined([out.logits for out in outs]), list(loaded.errors)
    features = {name: joined([out.features[name] for out in outs]) for name in outs[0].features}
    is_good = np.isfinite(logits).all(axis=1)
    for row in rows[~is_good]:
        errors[row] = "the model's output is infinite or no number"
    features = {name: values[is_good] for name, values in features.items()}
    return Answered(loaded.ids, errors, rows[is_good], logits[is_good], features)
