"""Blanks: what stands for a modality that a sample does not have, and modality dropout, which trains with them
(docs/methods.md#missing-modalities).

A blank is an empty text (its special tokens alone), a grey picture, no region, no known number or category, no
neighbours. Where
a locked encoder's features are cached, the blank goes through that encoder once.
Letters: B samples, M numbers, K columns of categories, S pixels a side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.batch import Batch
from trainables.config import TrialConfig
from trainables.data.cache.tokenizer import dataset_tokenizer
from trainables.data.cache.tokens import tokens_of
from trainables.data.reading.dataset import DatasetRef, load_table
from trainables.data.reading.tabular import Tabular
from trainables.data.requirements import requirements
from trainables.encoders.inputs import Input
from trainables.encoders.port import encode, load_encoder
from trainables.families import family_inputs
from trainables.seeds import derive_seed

_GREY = 128  # of 255, in every channel

Fields = dict[str, Tensor]


def blank_fields(
    modality: str,
    *,
    tokenizer: Any = None,
    max_text_len: int = 0,
    image_size: int = 0,
    num_columns: int = 0,
    regions: Input | None = None,
) -> Fields:
    """The fields of a Batch of one sample without the modality.

    Args:
        modality: 'text', 'image', 'numeric', 'categorical' or 'graph'.
        tokenizer: of a text.
        max_text_len: tokens of a text at most.
        image_size: S, of a picture.
        num_columns: M or K.
        regions: what is read of a picture, where it is regions.
    """
    if regions is not None and regions.is_regions:
        assert regions.num_tokens is not None
        return {"image_features": torch.zeros(1, regions.num_tokens, regions.width + 5, dtype=torch.float16)}
    if modality == "image":
        return {"pixel_values": torch.full((1, 3, image_size, image_size), _GREY, dtype=torch.uint8)}
    if modality == "text":
        ids, mask = tokens_of(tokenizer, [""]).padded(np.arange(1), max_text_len)
        return {"input_ids": ids, "attention_mask": mask}
    if modality == "numeric":
        return {"numeric": torch.full((1, num_columns), torch.nan, dtype=torch.float64)}
    if modality == "categorical":
        return {"categories": torch.zeros((1, num_columns), dtype=torch.int64)}
    return {"neighbours": torch.zeros((1, 1), dtype=torch.int64)}


@dataclass(frozen=True)
class Dropout:
    """Takes a modality away from some of the rows that train.

    Attributes:
        share: of the rows, that lose one.
        seed: the trial's.
        num_rows: rows of the dataset; augmented copies are numbered behind them.
        blanks: modality -> the fields of one sample without it, as the batches have them.
    """

    share: float
    seed: int
    num_rows: int
    blanks: dict[str, Fields]

    def __call__(self, batch: Batch, rows: np.ndarray, *, epoch: int) -> Batch:
        """The batch of these rows; which lose what is a function of seed, epoch and row alone."""
        lost_B = _lost(self.seed, epoch, 2 * self.num_rows, len(self.blanks), self.share)[rows]
        for at, blank in enumerate(self.blanks.values()):
            batch = blanked(batch, blank, torch.from_numpy(lost_B == at))
        return batch


@lru_cache(maxsize=2)
def _lost(seed: int, epoch: int, num_rows: int, num_modalities: int, share: float) -> np.ndarray:
    """The number of the modality that each row loses, -1 for none."""
    rng = np.random.default_rng(derive_seed(seed, "modality_dropout", epoch))
    which = rng.integers(num_modalities, size=num_rows, dtype=np.int8)
    return np.where(rng.random(num_rows) < share, which, np.int8(-1))


def blanked(batch: Batch, blank: Fields, is_blank_B: Tensor) -> Batch:
    """The batch with the fields of ``blank``, one sample's, in some of its samples."""
    changed = {}
    for name, one in blank.items():
        given = getattr(batch, name)
        pair = [given, one.to(given)]
        if name in ("input_ids", "attention_mask", "neighbours") or (name == "text_features" and given.ndim == 3):
            length = max(value.shape[1] for value in pair)
            pair = [F.pad(value, (0, 0) * (value.ndim - 2) + (0, length - value.shape[1])) for value in pair]
        is_blank = is_blank_B.reshape(-1, *(1,) * (given.ndim - 1))
        changed[name] = torch.where(is_blank, pair[1], pair[0])
    return replace(batch, **changed)


def modality_dropout(config: TrialConfig, tabular: Tabular) -> Dropout | None:
    """What ``config.modality_dropout`` asks for; None if it is 0.

    Args:
        config: of the trial; its text encoder's tokenizer exists.
        tabular: the columns that the family reads.
    """
    if config.modality_dropout == 0:
        return None
    dataset, inputs, blanks = DatasetRef.of(config), family_inputs(config), {}
    cached = {need.modality for need in requirements(config) if need.view is None and need.uses_features}
    counts = {
        "numeric": 0 if tabular.numeric is None else tabular.numeric.shape[1],
        "categorical": 0 if tabular.codes is None else tabular.codes.shape[1],
    }
    for modality, input in inputs.items():
        if modality in ("text", "image"):
            size = config.max_text_len if modality == "text" else config.image_size
            blanks[modality] = _encoded(dataset, modality, input, size, modality in cached)
        elif counts.get(modality, 1) > 0:
            blanks[modality] = blank_fields(modality, num_columns=counts.get(modality, 0))
    return Dropout(config.modality_dropout, config.seed, len(load_table(dataset).ids), blanks)


@lru_cache(maxsize=8)
def _encoded(dataset: DatasetRef, modality: str, input: Input, size: int, is_cached: bool) -> Fields:
    """Of text and pictures, behind their locked encoder where batches carry its features."""
    tokenizer = dataset_tokenizer(dataset, input.encoder) if modality == "text" else None
    raw = blank_fields(modality, tokenizer=tokenizer, max_text_len=size, image_size=size, regions=input)
    if not is_cached:
        return raw
    encoder = load_encoder(modality, input).eval()
    with torch.inference_mode():
        one = Batch(**raw, labels=torch.zeros(0), ids=[])  # pyright: ignore[reportArgumentType]
        features = encode(encoder, one, modality=modality, input=input).half()
    features = features.clone()  # a tensor that training may see
    if modality == "text" and input.output == "tokens":
        return {"text_features": features, "attention_mask": raw["attention_mask"]}
    return {f"{modality}_features": features, **(raw if input.keeps_raw else {})}
