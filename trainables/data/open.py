"""Opening the data of a trial: memory-mapped from the cache, and whatever is missing there is built first."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainables.augment.views import ImageView
from trainables.config import TrialConfig
from trainables.data.blank import modality_dropout
from trainables.data.cache.identity import dataset_fingerprint
from trainables.data.cache.tokenizer import dataset_tokenizer
from trainables.data.cache.words import word_neighbours
from trainables.data.companions import unlabelled_rows
from trainables.data.data import Data
from trainables.data.order import some_rows
from trainables.data.reading.dataset import DatasetRef, dataset_texts, load_table, load_target
from trainables.data.reading.scale import LabelScale
from trainables.data.reading.table import SPLITS, Target, root_cause
from trainables.data.reading.tabular import load_tabular
from trainables.data.requirements import augmentations, requirements
from trainables.data.views import FreshImages, FreshText, View
from trainables.encoders.inputs import Input
from trainables.families import family_inputs


def open_data(config: TrialConfig) -> Data:
    """The data of a trial.

    Raises:
        ValueError: an unknown dataset or target, unreadable files, a split without rows, a positive class that the
            task does not have, or UDA views that the family does not have.
    """
    dataset, inputs = DatasetRef.of(config), family_inputs(config)
    table, target = load_table(dataset), load_target(dataset, config.target)
    task, rows = target.task.with_positive(config.positive_class), labelled_rows(config, target)
    clean, augmented = _views(config, inputs)
    tabular = load_tabular(dataset, config.graph).only(inputs)
    return Data(
        task=task, ids=table.ids, labels=target.labels, rows=rows, clean=clean,
        augmented=augmented, unlabelled=unlabelled_rows(config, table, target), max_text_len=config.max_text_len,
        lengths=clean.lengths(config.max_text_len),
        tabular=tabular, dropout=modality_dropout(config, tabular), dataset=dataset.name,
        fingerprint=dataset_fingerprint(dataset),
        scale=LabelScale.of(target.labels[rows["train"]]) if target.task.kind == "regression" else None,
    )  # fmt: skip


def labelled_rows(config: TrialConfig, target: Target) -> dict[str, np.ndarray]:
    """The rows of each split that have a label, of training those that ``config`` trains on.

    Raises:
        ValueError: training or validation has none.
    """
    table = load_table(DatasetRef.of(config))
    rows = {name: np.flatnonzero((table.split == name) & target.is_labelled) for name in SPLITS}
    if config.max_train_rows is not None:
        rows["train"] = some_rows(rows["train"], config.max_train_rows)
    for name in ("train", "val"):
        if len(rows[name]) == 0:
            counts = ", ".join(f"{split} {len(rows[split])}" for split in SPLITS)
            raise ValueError(
                f"dataset {config.dataset}, target {config.target or 'default'}: {root_cause(table.problems)}"
                f"no row with a label in split {name} (rows with one: {counts})"
            )
    return rows


def _views(config: TrialConfig, inputs: dict[str, Input]) -> tuple[View, View | None]:
    """The clean view, and the augmented one: what is not augmented is the same in both."""
    clean: dict[str, Any] = {}
    augmented: dict[str, Any] = {}
    for need in requirements(config):
        (clean if need.view is None else augmented)[need.field] = need.build()
    if config.uda.copies == "fresh":
        augmented = _fresh(config, inputs, clean)
    return View(**clean), View(**{**clean, **augmented}) if augmented else None


def _fresh(config: TrialConfig, inputs: dict[str, Input], clean: dict[str, Any]) -> dict[str, FreshText | FreshImages]:
    """Copies that are made while training."""
    dataset, found = DatasetRef.of(config), {}
    for modality, view in augmentations(config, inputs).items():
        if isinstance(view, ImageView):
            found["images"] = FreshImages(clean["images"], view, config.seed)
        else:
            found["tokens"] = FreshText(
                texts=dataset_texts(dataset), ids=load_table(dataset).ids, neighbours=word_neighbours(dataset, view),
                share=view.share, tokenizer=dataset_tokenizer(dataset, inputs[modality].encoder),
                seed=config.seed,
            )  # fmt: skip
    return found
