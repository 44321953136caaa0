"""Inputs: how a family says what it reads of each modality, and through which encoder.

A *locked* encoder (LiT, Zhai et al. 2022) has no gradient, stays in eval mode and never changes,
buffers included; its outputs are constants, so a family may be handed cached features in its place.
Tensor letters: B batch, L text tokens, P image tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import AfterValidator

from trainables.encoders.architectures import draws_weights

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
            pool in CLIP's joint space; 'ids' of text and 'pixels' of images: no encoder, the family has its own;
            'regions' of images (B, R, G + 5), which an object detector found: ``encoder`` is their file.
        pool: of text 'mean', 'cls', 'pooler'; of images 'cls', 'mean', 'max', and with ``num_tokens`` 'max' instead
            of averages; 'default' is what the encoder was made for.
        num_layers: of text only: stop after so many layers; None runs all.
        num_tokens: of images only: pool the token grid to so many; None keeps it. Of regions R.
        max_tokens: of text only: the longest text instead of the encoder's own limit.
        is_optional: of numeric and categorical: a dataset need not have it.
        is_standardised: (x - mean) / deviation over the training rows, for each feature.
        keeps_raw: of text and images: batches carry tokens or pixels too where they carry cached features.
        width: of regions G, numbers of a feature.
        least_size: of images, pixels a side that the family wants at least.
        seed: what weights that are nowhere to be read are drawn from; see :meth:`drawn_from`.
    """

    encoder: str
    is_locked: bool
    output: Literal["pooled", "tokens", "pooled+tokens", "projected", "ids", "pixels", "regions"] = "pooled"
    pool: Literal["default", "mean", "max", "cls", "pooler"] = "default"
    num_layers: int | None = None
    num_tokens: int | None = None
    max_tokens: int | None = None
    is_optional: bool = False
    is_standardised: bool = False
    keeps_raw: bool = False
    width: int = 0
    least_size: int = 0
    seed: int = 0

    def drawn_from(self, seed: int) -> Input:
        """The same with ``seed``, if its encoder is an architecture without weights, or trains: of what is locked and
        read from files the features serve every seed."""
        return replace(self, seed=seed) if draws_weights(self.encoder) or not self.is_locked else self

    @property
    def is_regions(self) -> bool:
        """Whether what is read was found by an object detector, and lies in a file."""
        return self.output == "regions"

    @property
    def has_encoder(self) -> bool:
        """Whether the port, not the family, runs a text or image encoder."""
        return self.encoder != "" and self.output not in ("ids", "pixels", "regions")
