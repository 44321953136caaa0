"""Text encoders behind one interface: BERT, RoBERTa, BETO and their like, and the text tower of CLIP.

Tensor letters: B batch, L text tokens, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trainables.encoders.weights import load_config, load_model

_HAS_WORD_LAYERS = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "mpnet")  # .encoder.layer is a list


class TextEncoder(nn.Module):
    """``forward`` gives token states (B, L, D) and their pool (B, D).

    Args:
        backbone: a Hugging Face text model.
        pool: 'mean' over the tokens, 'cls' the first token, 'pooler' what the backbone pools by itself: BERT's
            tanh layer over the first token, CLIP's last token (its attention is causal).
        num_layers: stop after this many layers; None runs all.
        projection: maps the pool, e.g. into CLIP's joint space; None leaves it.
    """

    def __init__(
        self, *, backbone: Any, pool: str = "mean", num_layers: int | None = None, projection: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self.pool = pool
        self.projection = projection
        self.is_clip = backbone.config.model_type == "clip_text_model"
        self.width: int = backbone.config.hidden_size
        if num_layers is not None:
            del self.backbone.encoder.layer[num_layers:]
        if pool != "pooler" and not self.is_clip:
            self.backbone.pooler = None

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Token states (B, L, D) and pooled (B, D) of ``input_ids`` (B, L) under ``attention_mask`` (B, L)."""
        out = self.backbone(input_ids=input_ids, attention_mask=attention_mask)
        states_BLD = out.last_hidden_state
        if self.pool != "pooler":
            pooled_BD = pool_text(states_BLD, attention_mask, pool=self.pool)
        elif self.is_clip:
            rows = torch.arange(len(states_BLD), device=states_BLD.device)
            pooled_BD = states_BLD[rows, attention_mask.sum(dim=1) - 1]
        else:
            pooled_BD = out.pooler_output
        return states_BLD, pooled_BD if self.projection is None else self.projection(pooled_BD)


def pool_text(states_BLD: Tensor, mask_BL: Tensor, *, pool: str) -> Tensor:
    """First token, or mean over the tokens whose mask is 1: (B, D)."""
    if pool == "cls":
        return states_BLD[:, 0]
    weight_BL1 = mask_BL.unsqueeze(-1).to(states_BLD.dtype)
    return (states_BLD * weight_BL1).sum(dim=1) / weight_BL1.sum(dim=1).clamp(min=1)


def load_text_encoder(
    name: str, *, pool: str = "default", num_layers: int | None = None, is_projected: bool = False, seed: int = 0
) -> TextEncoder:
    """The text encoder ``name``, cut and pooled; yours to change.

    Args:
        name: see :mod:`trainables.encoders.weights`.
        pool: 'mean', 'cls' or 'pooler'; 'default' is 'mean', of CLIP 'pooler'.
        num_layers: stop after this many layers; None runs all.
        is_projected: into CLIP's joint space.
        seed: what a random one draws its weights from.

    Raises:
        ValueError: the name is no text encoder, its weights are incomplete, or it cannot do what is asked.
    """
    kind = load_config(name).model_type
    is_clip = kind == "clip"
    pool = ("pooler" if is_clip else "mean") if pool == "default" else pool
    if is_clip and pool == "cls":
        raise ValueError(f"text_pool: 'cls' sees one token of {name}, whose attention is causal; use pooler or mean")
    if is_projected and not is_clip:
        raise ValueError(f"encoder '{name}': a {kind} has no joint space of text and image; it needs a CLIP")
    if num_layers is not None and kind not in _HAS_WORD_LAYERS:
        raise ValueError(f"encoder '{name}': a {kind} cannot be cut after {num_layers} layers")
    model = load_model(name, seed=seed)
    projection = model.text_projection if is_projected else None
    backbone = model.text_model if is_clip else model
    if not hasattr(backbone.config, "hidden_size") or not hasattr(backbone, "get_input_embeddings"):
        raise ValueError(f"encoder '{name}': a {kind} is no text encoder")
    return TextEncoder(backbone=backbone, pool=pool, num_layers=num_layers, projection=projection)


def word_embeddings(name: str) -> Tensor:
    """The input embeddings of a text encoder or of a joint model's text part: (vocabulary, D), row i is token i."""
    model = load_model(name)
    return getattr(model, "text_model", model).get_input_embeddings().weight  # CLIP's and FLAVA's text tower
