"""From prepared rows to batches: length-bucketed, deterministic in (seed, epoch), sharded over ranks.

The order of an epoch is a function of (seed, epoch) alone and every rank computes all of it, so resuming
needs no sampler state and any number of ranks sees the same global batches. Rank r takes rows r, r + W,
r + 2W, ... of each; in evaluation no row is served twice.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.augment.words import WordNeighbours, augment_images
from trainables.batch import Batch
from trainables.config import TrialConfig
from trainables.data.cache.features import FeatureJob, Features
from trainables.data.cache.prepare import (
    ImageView,
    Ragged,
    Shared,
    TextView,
    Tokens,
    dataset_key,
    dataset_tokenizer,
    images_key,
    prepare_images,
    prepare_tokens,
    tokens_key,
    word_neighbours,
)
from trainables.data.cache.store import folder_of
from trainables.data.reading.dataset import DatasetRef, dataset_texts, load_table, load_target
from trainables.data.reading.table import SPLITS, Neighbours
from trainables.data.reading.tabular import Tabular, tabular_of
from trainables.encoders.port import Input
from trainables.encoders.weights import find_weights, max_text_tokens
from trainables.families import family_inputs
from trainables.seeds import derive_seed
from trainables.task import Task

_BUCKET = 32  # batches at most that are sorted by length together
_BUCKETS = 8  # at least so many an epoch: one bucket over it all would make the same batches every time


@dataclass(frozen=True)
class FreshText:
    """Makes augmented texts when they are asked for, others in each epoch."""

    texts: list[str]
    ids: list[str]
    neighbours: WordNeighbours
    share: float
    tokenizer: Any
    like: Tokens  # the clean tokens: the same specials and padding
    seed: int

    def tokens(self, rows: np.ndarray, epoch: int) -> Tokens:
        """Of these rows in their order."""
        texts = [
            self.neighbours.replace(
                self.texts[row], share=self.share, seed=derive_seed(self.seed, "words", self.ids[row], epoch)
            )
            for row in rows
        ]
        encoded = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in encoded])])
        values = np.array([token for ids in encoded for token in ids], np.int32)
        return replace(self.like, ids=Ragged(values, offsets.astype(np.int64)))


@dataclass(frozen=True)
class FreshImages:
    """Makes augmented images when they are asked for, others in each epoch."""

    images: np.ndarray | Shared
    view: ImageView
    seed: int

    def pixels(self, rows: np.ndarray, epoch: int) -> Tensor:
        """uint8 (B, 3, S, S)."""
        seed, pixels = derive_seed(self.seed, "images", epoch), torch.from_numpy(self.images[rows])
        ops, magnitude = self.view.ops, self.view.magnitude
        return augment_images(pixels, ops=ops, magnitude=magnitude, seed=seed, indices=rows.tolist())


@dataclass(frozen=True)
class View:
    """The clean data, or its augmented copy: for each modality raw inputs or features, never both."""

    tokens: Tokens | FreshText | None = None
    text_features: Features | None = None
    images: np.ndarray | Shared | FreshImages | None = None
    image_features: Features | None = None


@dataclass(frozen=True)
class Data:
    """Everything a trial trains and evaluates on."""

    task: Task
    ids: list[str]
    labels: np.ndarray
    rows: dict[str, np.ndarray]  # split -> row numbers
    clean: View
    augmented: View | None
    max_text_len: int
    lengths: np.ndarray | None = field(default=None)  # tokens a row, None where all rows are alike
    tabular: Tabular = Tabular()  # what the family reads of it
    dataset: str = ""  # its name, for messages
    fingerprint: str = ""  # changes with the files behind it

    def batch(self, rows: np.ndarray, view: View, *, epoch: int = 0) -> Batch:
        """These rows of a view, text padded to the longest among them; ``epoch`` chooses fresh copies."""
        ids = mask = text = pixels = image = numeric = categories = neighbours = None
        if isinstance(view.tokens, FreshText):
            fresh = view.tokens.tokens(rows, epoch)
            ids, mask = pad_tokens(fresh, np.arange(len(rows)), self.max_text_len)
        elif view.tokens is not None:
            ids, mask = pad_tokens(view.tokens, rows, self.max_text_len)
        if view.text_features is not None:
            text, mask = _take(view.text_features.rows, rows)
        if isinstance(view.images, FreshImages):
            pixels = view.images.pixels(rows, epoch)
        elif view.images is not None:
            pixels = torch.from_numpy(view.images[rows])
        if view.image_features is not None:
            image, _ = _take(view.image_features.rows, rows)
        if self.tabular.numeric is not None:
            numeric = torch.from_numpy(self.tabular.numeric[rows])
        if self.tabular.codes is not None:
            categories = torch.from_numpy(self.tabular.codes[rows])
        if self.tabular.graph is not None:
            neighbours = _neighbours(self.tabular.graph, rows)
        return Batch(
            input_ids=ids, attention_mask=mask, text_features=text, pixel_values=pixels, image_features=image,
            numeric=numeric, categories=categories, neighbours=neighbours,
            labels=torch.from_numpy(self.labels[rows]), ids=[self.ids[row] for row in rows],
        )  # fmt: skip


def _neighbours(graph: Neighbours, rows: np.ndarray) -> Tensor:
    """Nodes counted from 1, padded with zeros: (B, E)."""
    parts = [graph.nodes[graph.offsets[row] : graph.offsets[row + 1]] for row in rows]
    out = np.zeros((len(rows), max([1, *(len(part) for part in parts)])), np.int64)
    for at, part in enumerate(parts):
        out[at, : len(part)] = part + 1
    return torch.from_numpy(out)


def pad_tokens(tokens: Tokens, rows: np.ndarray, max_len: int) -> tuple[Tensor, Tensor]:
    """Ids and mask (B, L) of the rows, padded to the longest."""
    encoded = [tokens.encoded(row, max_len) for row in rows]
    longest = max([1, *(len(ids) for ids in encoded)])
    ids = np.full((len(rows), longest), tokens.pad, np.int64)
    mask = np.zeros((len(rows), longest), np.int64)
    for at, row in enumerate(encoded):
        ids[at, : len(row)] = row
        mask[at, : len(row)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


def _take(values: np.ndarray | Ragged | Shared, rows: np.ndarray) -> tuple[Tensor, Tensor | None]:
    if not isinstance(values, Ragged):
        return torch.from_numpy(values[rows]), None
    parts = [values.row(row) for row in rows]
    longest = max([1, *(len(part) for part in parts)])
    out = np.zeros((len(rows), longest, values.values.shape[1]), values.values.dtype)
    mask = np.zeros((len(rows), longest), np.int64)
    for at, part in enumerate(parts):
        out[at, : len(part)] = part
        mask[at, : len(part)] = 1
    return torch.from_numpy(out), torch.from_numpy(mask)


# --- opening ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Requirement:
    """One thing the cache must hold before a trial can start; ``build`` makes it if it does not."""

    dataset: DatasetRef
    modality: str
    input: Input
    uses_features: bool
    image_size: int | None  # of images
    max_text_len: int | None  # of text
    view: TextView | ImageView | None

    def build(self) -> Features | Tokens | np.ndarray | Shared:
        """From the cache, or computed now (under the cache's lock)."""
        if self.uses_features:
            return self.features.open()
        if self.modality == "text":
            assert not isinstance(self.view, ImageView)
            return prepare_tokens(self.dataset, encoder=self.input.encoder, view=self.view)
        assert not isinstance(self.view, TextView) and self.image_size is not None
        return prepare_images(self.dataset, size=self.image_size, view=self.view)

    @property
    def is_done(self) -> bool:
        """Whether the cache has it."""
        if self.uses_features:
            return self.features.is_done
        if self.modality == "text":
            assert not isinstance(self.view, ImageView)
            return folder_of("tokens", tokens_key(self.dataset, self.input.encoder, self.view)).exists()
        assert not isinstance(self.view, TextView) and self.image_size is not None
        return folder_of("images", images_key(self.dataset, self.image_size, self.view)).exists()

    @property
    def features(self) -> FeatureJob:
        """How the features are computed, where ``uses_features``."""
        return FeatureJob(
            self.dataset, self.modality, self.input, self.image_size or 0, self.max_text_len or 0, self.view
        )


def requirements(config: TrialConfig) -> list[Requirement]:
    """What ``config`` needs prepared: the clean data first, then static augmented views.

    Raises:
        ValueError: UDA views that the family does not have, or more tokens than the text encoder takes.
    """
    dataset, inputs = DatasetRef.of(config), family_inputs(config)
    augmented = _augmented_modalities(config, inputs)
    if "text" in inputs:
        entry = inputs["text"]
        limit = entry.max_tokens or max_text_tokens(entry.encoder)
        if limit is not None and config.max_text_len > limit:
            raise ValueError(f"max_text_len: {config.max_text_len} is more than the {limit} that {entry.encoder} takes")

    def one(modality: str, view: TextView | ImageView | None) -> Requirement:
        entry, is_text = inputs[modality], modality == "text"
        is_constant = modality not in augmented or config.uda.copies == "static"
        uses_features = entry.has_encoder and entry.is_locked and config.cache_features and is_constant
        return Requirement(
            dataset=dataset, modality=modality, input=entry, uses_features=uses_features,
            image_size=None if is_text else config.image_size,
            max_text_len=config.max_text_len if is_text and uses_features else None, view=view,
        )  # fmt: skip

    needed = [one(modality, None) for modality in inputs if modality in ("text", "image")]
    if config.uda.copies == "static":
        needed += [one(modality, _view(config, inputs, modality)) for modality in augmented]
    return needed


def dataset_requirements(
    dataset: DatasetRef, *, text_encoder: str, image_encoder: str, image_size: int, max_text_len: int
) -> list[Requirement]:
    """Pooled features of a locked text and a locked image encoder, for what the dataset has.

    Raises:
        ValueError: an unknown dataset or encoder, or unreadable files.
    """
    table, needed = load_table(dataset), []
    for name in (text_encoder, image_encoder):
        find_weights(name)
    if table.texts is not None:
        needed.append(Requirement(dataset, "text", Input(text_encoder, is_locked=True), True, None, max_text_len, None))
    if table.images is not None:
        needed.append(Requirement(dataset, "image", Input(image_encoder, is_locked=True), True, image_size, None, None))
    return needed


def _augmented_modalities(config: TrialConfig, inputs: dict[str, Input]) -> list[str]:
    uda = config.uda
    if uda.mode == "none":
        return []
    views = ("text", "image") if uda.views == "both" else (uda.views,)
    augmented = [modality for modality in inputs if modality in views]
    if not augmented:
        raise ValueError(f"uda.views: '{uda.views}' augments no input of family '{config.family}'")
    return augmented


def _view(config: TrialConfig, inputs: dict[str, Input], modality: str) -> TextView | ImageView:
    uda = config.uda
    if modality == "image":
        return ImageView(uda.randaug_ops, uda.randaug_magnitude)
    return TextView(uda.text_replace, uda.vectors or inputs["text"].encoder, is_file=uda.vectors is not None)


@lru_cache(maxsize=2)
def load_tabular(dataset: DatasetRef) -> Tabular:
    """Numbers, categories and graph of a dataset.

    Raises:
        ValueError: unreadable files.
    """
    return tabular_of(load_table(dataset))


def open_data(config: TrialConfig) -> Data:
    """The data of a trial, memory-mapped from the cache; whatever is missing there is built first.

    Args:
        config: names dataset, target, sizes and UDA views.

    Raises:
        ValueError: an unknown dataset or target, unreadable files, a split without rows, or UDA views
            that the family does not have.
    """
    dataset, inputs = DatasetRef.of(config), family_inputs(config)
    table, target, tabular = load_table(dataset), load_target(dataset, config.target), load_tabular(dataset)
    rows = {split: np.flatnonzero((table.split == split) & target.is_labelled) for split in SPLITS}
    if config.max_train_rows is not None:
        picked = np.random.default_rng(0).permutation(rows["train"])[: config.max_train_rows]  # files come sorted
        rows["train"] = np.sort(picked)
    for split in ("train", "val"):
        if len(rows[split]) == 0:
            raise ValueError(f"dataset {config.dataset}, target {config.target or 'default'}: no rows in split {split}")
    clean: dict[str, Any] = {}
    augmented: dict[str, Any] = {}
    for need in requirements(config):
        slot = {"text": "tokens", "image": "images"}[need.modality]
        slot = f"{need.modality}_features" if need.uses_features else slot
        (clean if need.view is None else augmented)[slot] = need.build()
    if config.uda.copies == "fresh":
        for modality in _augmented_modalities(config, inputs):
            view = _view(config, inputs, modality)
            if isinstance(view, ImageView):
                augmented["images"] = FreshImages(clean["images"], view, config.seed)
            else:
                augmented["tokens"] = FreshText(
                    texts=dataset_texts(dataset), ids=table.ids, neighbours=word_neighbours(dataset, view),
                    share=view.share, tokenizer=dataset_tokenizer(dataset, inputs["text"].encoder),
                    like=clean["tokens"], seed=config.seed,
                )  # fmt: skip
    lengths = None
    if "tokens" in clean:
        lengths = clean["tokens"].length(config.max_text_len)
    elif "text_features" in clean and isinstance(clean["text_features"].rows, Ragged):
        lengths = clean["text_features"].rows.lengths
    numbers = ("numeric", "mean", "std", "has_missing") if "numeric" in inputs else ()
    codes = ("codes", "sizes") if "categorical" in inputs else ()
    graph = ("graph",) if "graph" in inputs else ()
    return Data(
        task=target.task, ids=table.ids, labels=target.labels, rows=rows, clean=View(**clean),
        augmented=View(**{**clean, **augmented}) if augmented else None,
        max_text_len=config.max_text_len, lengths=lengths, dataset=config.dataset,
        fingerprint=hashlib.sha256(json.dumps(dataset_key(dataset)).encode()).hexdigest()[:20],
        tabular=Tabular(**{name: getattr(tabular, name) for name in (*numbers, *codes, *graph)}),
    )  # fmt: skip


# --- order ------------------------------------------------------------------------------------------
def global_batches(data: Data, *, batch_size: int, seed: int, epoch: int, is_doubled: bool = False) -> list[np.ndarray]:
    """Row numbers of every training batch of an epoch, the same on all ranks.

    The rows are spread evenly over ceil(rows / batch_size) batches, whose sizes differ by one at most: no
    small last batch (BatchNorm and every rank need rows), and none above ``batch_size``, which has to fit.

    Args:
        data: what to draw from.
        batch_size: rows a batch at most, over all ranks.
        seed: the trial's.
        epoch: 1-based.
        is_doubled: every training row comes a second time, as number row + N of all N rows: its augmented copy.
    """
    rng = np.random.default_rng(derive_seed(seed, "order", epoch))
    rows = data.rows["train"]
    rows = rng.permutation(np.concatenate([rows, rows + len(data.ids)]) if is_doubled else rows)
    count = math.ceil(len(rows) / batch_size)
    ends = len(rows) * np.arange(1, count + 1) // count
    if data.lengths is not None:
        size = max(1, min(_BUCKET, count // _BUCKETS))
        for bucket in np.split(rows, ends[size - 1 :: size]):  # views: sorted in place
            bucket[:] = bucket[np.argsort(data.lengths[bucket % len(data.ids)], kind="stable")]
    batches = np.split(rows, ends[:-1])
    order = rng.permutation(count) if data.lengths is not None else range(count)
    return [batches[index] for index in order]


def eval_batches(data: Data, *, split: str, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[np.ndarray]:
    """This rank's rows of a split, sorted by length, each row on exactly one rank."""
    rows = data.rows[split]
    if data.lengths is not None:
        rows = rows[np.argsort(data.lengths[rows], kind="stable")]
    rows = rows[rank::world]
    for at in range(0, len(rows), batch_size):
        yield rows[at : at + batch_size]
