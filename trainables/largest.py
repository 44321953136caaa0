"""The largest batch that a trial can see: shapes and types of its fields, from the dataset and without its cache.

Letters: L text tokens, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from trainables.batch import Batch
from trainables.config import TrialConfig
from trainables.data.cache.tokenizer import dataset_tokenizer
from trainables.data.cache.tokens import tokens_of
from trainables.data.reading.dataset import DatasetRef, dataset_texts
from trainables.data.reading.tabular import Tabular
from trainables.data.requirements import requirements
from trainables.encoders.inputs import Input
from trainables.encoders.port import encode
from trainables.families import family_inputs
from trainables.task import Task

_LONGEST = 32  # texts that are tokenised: those with most characters

Shapes = dict[str, tuple[tuple[int, ...], torch.dtype]]  # field of a Batch -> shape of a row, type


def shapes_of(
    config: TrialConfig, task: Task, tabular: Tabular, encoders: Mapping[str, nn.Module], *, length: int
) -> Shapes:
    """The fields of a row.

    Args:
        config: of the trial.
        task: what is predicted.
        tabular: the columns that the family reads.
        length: L.
        encoders: by modality those whose features are cached, on tensors without values.
    """
    shapes: Shapes = {}
    tokens: Shapes = {"input_ids": ((length,), torch.int64), "attention_mask": ((length,), torch.int64)}
    pixels: Shapes = {"pixel_values": ((3, config.image_size, config.image_size), torch.uint8)}
    for need in requirements(config):
        raw = tokens if need.modality == "text" else pixels
        if need.view is not None:
            continue
        if need.input.is_regions:
            assert need.input.num_tokens is not None
            shapes["image_features"] = (need.input.num_tokens, need.input.width + 5), torch.float16
        elif need.uses_features:
            shape = _features(encoders[need.modality], raw, modality=need.modality, input=need.input)
            shapes[need.field] = shape, torch.float16
            if need.modality == "text" and need.input.output == "tokens":
                shapes["attention_mask"] = tokens["attention_mask"]
        else:
            shapes |= raw
    return shapes | _columns(tabular) | {"labels": _labels(task)}


def empty_batch(shapes: Shapes, num_rows: int, device: torch.device) -> Batch:
    """So many rows of these shapes, with no values."""
    fields: dict[str, Tensor] = {
        name: torch.empty((num_rows, *shape), dtype=dtype, device=device) for name, (shape, dtype) in shapes.items()
    }
    return Batch(**fields, ids=[""] * num_rows)  # pyright: ignore[reportArgumentType]


def training_length(config: TrialConfig, rows: np.ndarray) -> int:
    """L of the longest text of these rows, specials included, at most ``config.max_text_len``; 0 if none is read."""
    return _length(config, _by_length(config, rows))


def evaluations(config: TrialConfig, rows: np.ndarray, *, workers: int) -> list[tuple[int, int]]:
    """Rows and L of the forwards of a worker that may be the largest, where these rows are evaluated by length: the
    last full one, and what is left for the longest texts."""
    texts, size = _by_length(config, rows), config.eval_batch_size
    num_full, num_left = divmod(math.ceil(len(rows) / workers), size)
    longest, found = _length(config, texts), []
    if num_full:
        found.append((size, _length(config, texts[: num_full * size * workers])))
    if num_left and (not found or longest > found[0][1]):
        found.append((num_left, longest))
    return found


def _by_length(config: TrialConfig, rows: np.ndarray) -> list[str]:
    """The texts that are read of these rows, those with most characters last."""
    if "text" not in family_inputs(config):
        return []
    texts = dataset_texts(DatasetRef.of(config))
    return sorted((texts[row] for row in rows), key=len)


def _length(config: TrialConfig, texts: list[str]) -> int:
    """L of the longest of texts in that order."""
    if not texts:
        return 0
    longest = texts[-_LONGEST:]
    if max((len(text.split()) for text in longest), default=0) >= config.max_text_len:
        return config.max_text_len  # a word is a token at least
    encoder = family_inputs(config)["text"].encoder
    tokens = tokens_of(dataset_tokenizer(DatasetRef.of(config), encoder), longest)
    return int(tokens.length(config.max_text_len).max(initial=1))


def step_rows(config: TrialConfig, num_train: int, *, workers: int) -> int:
    """Rows of a step that a worker has at most, of so many in an epoch."""
    total = num_train * (2 if config.uda.mode == "aug" else 1)
    return math.ceil(math.ceil(total / math.ceil(total / config.batch_size)) / workers)


def _columns(tabular: Tabular) -> Shapes:
    found: Shapes = {}
    if tabular.numeric is not None:
        found["numeric"] = tabular.numeric.shape[1:], torch.float64
    if tabular.codes is not None:
        found["categories"] = tabular.codes.shape[1:], torch.int64
    if tabular.graph is not None:
        found["neighbours"] = (int(np.diff(tabular.graph.offsets).max(initial=1)),), torch.int64
    return found


def _labels(task: Task) -> tuple[tuple[int, ...], torch.dtype]:
    if task.kind == "multiclass":
        return (), torch.int64
    return (task.num_outputs,) if task.kind == "multilabel" else (), torch.float32


@torch.no_grad()
def _features(encoder: nn.Module, raw: Shapes, *, modality: str, input: Input) -> tuple[int, ...]:
    """The shape that a locked encoder's output has, a row."""
    if input.output == "pooled":
        return (cast(int, encoder.width),)
    one = empty_batch(raw | {"labels": ((), torch.int64)}, 1, torch.device("cpu"))
    return tuple(encode(encoder, one, modality=modality, input=input).shape[1:])
