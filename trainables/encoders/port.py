"""Inputs and ports: how a family says what it reads of each modality, and where that enters its model.

A locked encoder (:mod:`trainables.freezing`) never changes, buffers included: its outputs are constants, so a
family may be handed cached features in its place.
Tensor letters: B batch, L text tokens, P image tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator
from torch import Tensor, nn

from trainables.batch import Batch
from trainables.encoders.image import ImageEncoder, load_image_encoder
from trainables.encoders.text import TextEncoder, load_text_encoder
from trainables.freezing import lock

_MODALITIES = ("text", "image", "numeric", "categorical", "graph")
TextPool = Literal["default", "mean", "cls", "pooler"]
ImagePool = Literal["default", "mean", "max", "cls"]


def _check_modalities(value: str) -> str:
    parts = value.split("+")
    unknown = [part for part in parts if part not in _MODALITIES]
    if unknown:
        raise ValueError(f"'{unknown[0]}' is no modality; join some of {', '.join(_MODALITIES)} with '+'")
    if len(set(parts)) < len(parts):
        raise ValueError(f"'{value}' names a modality twice")
    return value


Modalities = Annotated[str, AfterValidator(_check_modalities)]  # 'text+image': a scalar, so that it can be searched


@dataclass(frozen=True)
class Input:
    """What a family reads from one modality.

    Attributes:
        encoder: its name, see :mod:`trainables.encoders.weights`; '' for numeric, categorical and graph.
        is_locked: whether the encoder never changes.
        output: 'pooled' (B, D); 'tokens' (B, L or P, D); 'pooled+tokens', the pool first; 'projected' (B, D), the
            pool in CLIP's joint space; 'ids' of text and 'pixels' of images: no encoder, the family has its own.
        pool: of text 'mean', 'cls', 'pooler'; of images 'cls', 'mean', 'max', and with ``num_tokens`` 'max' instead
            of averages; 'default' is what the encoder was made for.
        num_layers: of text only: stop after so many layers; None runs all.
        num_tokens: of images only: pool the token grid to so many; None keeps it.
        max_tokens: of text only: the longest text instead of the encoder's own limit.
        is_standardised: (x - mean) / deviation over the training rows, for each feature.
    """

    encoder: str
    is_locked: bool
    output: Literal["pooled", "tokens", "pooled+tokens", "projected", "ids", "pixels"] = "pooled"
    pool: Literal["default", "mean", "max", "cls", "pooler"] = "default"
    num_layers: int | None = None
    num_tokens: int | None = None
    max_tokens: int | None = None
    is_standardised: bool = False

    @property
    def has_encoder(self) -> bool:
        """Whether the port, not the family, runs a text or image encoder."""
        return self.encoder != "" and self.output not in ("ids", "pixels")


class Port(nn.Module):
    """Where one modality enters a family: through its encoder, or as that encoder's cached features.

    Args:
        modality: 'text', 'image', 'numeric', 'categorical' or 'graph'.
        input: what the family reads.
        width: D of the features.
        encoder: None when batches carry cached features, or when the family has its own.
        mean_D: of the training rows, with ``input.is_standardised``; None is 0.
        std_D: their deviation; None is 1.
    """

    mean_D: Tensor
    std_D: Tensor

    def __init__(
        self,
        *,
        modality: str,
        input: Input,
        width: int,
        encoder: nn.Module | None,
        mean_D: Tensor | None = None,
        std_D: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.modality = modality
        self.input = input
        self.width = width
        self.encoder = encoder
        if input.is_standardised:
            self.register_buffer("mean_D", torch.zeros(width) if mean_D is None else mean_D)
            self.register_buffer("std_D", torch.ones(width) if std_D is None else std_D)
        if encoder is not None and input.is_locked:
            lock(encoder)

    def forward(self, batch: Batch) -> Tensor:
        """Pooled (B, D) or token features (B, tokens, D), as the family's Input says; see :func:`encode`.

        Raises:
            ValueError: the batch lacks the modality.
        """
        if not batch.has(self.modality):
            raise ValueError(f"{self.modality} is missing, and this model cannot do without it")
        features = self._features(batch)
        return (features - self.mean_D) / self.std_D if self.input.is_standardised else features

    def _features(self, batch: Batch) -> Tensor:
        cached = batch.features(self.modality)
        if cached is not None:
            return cached.float()
        assert self.encoder is not None, f"{self.modality}: neither an encoder nor features"
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.input.is_locked):
            return encode(self.encoder, batch, modality=self.modality, input=self.input)


def encode(encoder: nn.Module, batch: Batch, *, modality: str, input: Input) -> Tensor:
    """What ``input`` asks of the encoder for a batch.

    Returns:
        'pooled', 'projected': (B, D). 'tokens': (B, L or P, D). 'pooled+tokens': (B, 1 + P, D), the pool first.
    """
    if modality == "text":
        tokens, pooled = encoder(batch.input_ids, batch.attention_mask)
    elif modality == "image":
        tokens, pooled = encoder(batch.pixel_values)
        if input.num_tokens is not None:
            tokens = pool_grid(tokens, num_tokens=input.num_tokens, is_max=input.pool == "max")
    else:
        return encoder(batch)
    if input.output == "pooled+tokens":
        return torch.cat([pooled.unsqueeze(1), tokens], dim=1)
    return tokens if input.output == "tokens" else pooled


_GRIDS = {1: (1, 1), 2: (2, 1), 3: (3, 1), 4: (2, 2), 5: (5, 1), 6: (3, 2), 7: (7, 1), 8: (4, 2), 9: (3, 3)}


def pool_grid(tokens_BPD: Tensor, *, num_tokens: int, is_max: bool = False) -> Tensor:
    """Adaptive average (or maximum) pool of a square token grid to ``num_tokens`` cells (Kiela et al. 2019): (B, N, D).

    Raises:
        ValueError: the tokens form no square, or ``num_tokens`` is neither 1 to 9 nor a square number.
    """
    side = round(tokens_BPD.shape[1] ** 0.5)
    if side * side != tokens_BPD.shape[1]:
        raise ValueError(f"{tokens_BPD.shape[1]} image tokens form no square grid")
    root = round(num_tokens**0.5)
    grid = _GRIDS.get(num_tokens) or ((root, root) if root * root == num_tokens else None)
    if grid is None:
        raise ValueError(f"num_image_tokens: {num_tokens} is neither 1 to 9 nor a square number")
    map_BDhw = tokens_BPD.transpose(1, 2).unflatten(2, (side, side))
    pool = nn.functional.adaptive_max_pool2d if is_max else nn.functional.adaptive_avg_pool2d
    return pool(map_BDhw, grid).flatten(2).transpose(1, 2)  # pyright: ignore[reportAttributeAccessIssue]


def load_encoder(modality: str, input: Input) -> TextEncoder | ImageEncoder:
    """The encoder an Input names, cut, pooled and projected as it says.

    Raises:
        ValueError: the name is no encoder of this modality, or its weights are incomplete.
    """
    is_projected = input.output == "projected"
    if modality == "text":
        return load_text_encoder(input.encoder, pool=input.pool, num_layers=input.num_layers, is_projected=is_projected)
    return load_image_encoder(
        input.encoder, pool=input.pool, reads_tokens_alone=input.output == "tokens", is_projected=is_projected
    )
