"""Inputs and ports: how a family says what it reads of each modality, and where that enters its model.

A locked encoder (:mod:`trainables.freezing`) never changes, buffers included: its outputs are constants, so a
family may be handed cached features in its place.
Tensor letters: B batch, L text tokens, P image tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.batch import Batch
from trainables.encoders.grid import pool_grid
from trainables.encoders.image import ImageEncoder, load_image_encoder
from trainables.encoders.inputs import Input
from trainables.encoders.text import TextEncoder, load_text_encoder
from trainables.freezing import lock


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
    return chosen(outputs(encoder, batch, modality=modality), input)


def outputs(encoder: nn.Module, batch: Batch, *, modality: str) -> tuple[Tensor, Tensor]:
    """What an encoder gives for a batch: tokens (B, L or P, D) and pooled (B, D); of others than text and images both
    are its one output."""
    if modality == "text":
        return encoder(batch.input_ids, batch.attention_mask)
    if modality == "image":
        return encoder(batch.pixel_values)
    found = encoder(batch)
    return found, found


def chosen(outputs: tuple[Tensor, Tensor], input: Input) -> Tensor:
    """Of an encoder's outputs what ``input`` asks for; see :func:`encode`."""
    tokens, pooled = outputs
    if input.num_tokens is not None:
        tokens = pool_grid(tokens, num_tokens=input.num_tokens, is_max=input.pool == "max")
    if input.output == "pooled+tokens":
        return torch.cat([pooled.unsqueeze(1), tokens], dim=1)
    return tokens if input.output == "tokens" else pooled


def load_encoder(modality: str, input: Input) -> TextEncoder | ImageEncoder:
    """The encoder an Input names, cut, pooled and projected as it says.

    Raises:
        ValueError: the name is no encoder of this modality, or its weights are incomplete.
    """
    name, pool, seed, is_projected = input.encoder, input.pool, input.seed, input.output == "projected"
    if modality == "text":
        return load_text_encoder(name, pool=pool, num_layers=input.num_layers, is_projected=is_projected, seed=seed)
    return load_image_encoder(
        name, pool=pool, reads_tokens_alone=input.output == "tokens", is_projected=is_projected, seed=seed
    )
