"""BERT by hand: image tokens and words as the two segments of one sequence (docs/methods.md#two-blocks).

Image block: [CLS], the tokens at the text's width, [SEP], in segment 0 from position 0. Text block: the words
without their own first special (that [SEP] stands in its place), in segment 1, positions from 0 again. Word,
position and segment tables, LayerNorm and dropout are the pretrained ones, shared by both.

Letters: B samples, P image tokens, Q = P + 2, L text tokens, T tokens of a sequence, D width. ``embeddings`` and
``layers`` are transformers' BertEmbeddings and BertLayers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from trainables.encoders.weights import load_config


def load_bert_config(name: str, *, family: str) -> Any:
    """The Hugging Face config of a BERT with two segments.

    Args:
        name: see :mod:`trainables.encoders.weights`.
        family: who asks.

    Raises:
        ValueError: there is no such encoder, or it is another kind.
    """
    config = load_config(name)
    if config.model_type != "bert" or config.type_vocab_size < 2:
        raise ValueError(f"model.text_encoder: {family} needs a BERT with two segments, {name} is none")
    return config


def image_block(
    embeddings: Any, tokens_BPD: Tensor, *, cls_id: int, sep_id: int, encoder: str, sep_position: int | None = None
) -> Tensor:
    """[CLS], the tokens, [SEP] with segment 0 and positions 0 .. P + 1: (B, P + 2, D).

    Args:
        embeddings: of the text encoder.
        tokens_BPD: projected image tokens; P may be 0.
        cls_id: id of [CLS].
        sep_id: id of [SEP].
        encoder: name of the text encoder, for the error.
        sep_position: of [SEP], where tokens were left out of the block; None is P + 1.

    Raises:
        ValueError: more tokens than the text encoder has positions for.
    """
    size, device = len(tokens_BPD), tokens_BPD.device
    edges_2D = embeddings.word_embeddings(torch.tensor([cls_id, sep_id], device=device))
    cls_B1D, sep_B1D = (edge.to(tokens_BPD.dtype).expand(size, 1, -1) for edge in edges_2D)
    block_BQD = torch.cat([cls_B1D, tokens_BPD, sep_B1D], dim=1)
    room = embeddings.position_embeddings.num_embeddings
    if block_BQD.shape[1] > room:
        raise ValueError(
            f"model.num_image_tokens: {block_BQD.shape[1] - 2} image tokens do not fit into the "
            f"{room} positions of {encoder}"
        )
    position_Q = torch.arange(block_BQD.shape[1], device=device)
    if sep_position is not None:
        position_Q[-1] = sep_position
    segment_QD = embeddings.token_type_embeddings(torch.zeros_like(position_Q))
    position_QD = embeddings.position_embeddings(position_Q)
    return embeddings.dropout(embeddings.LayerNorm(block_BQD + position_QD + segment_QD))


def text_block(embeddings: Any, ids_BL: Tensor) -> Tensor:
    """The words behind the first special, with segment 1 and positions from 0: (B, L - 1, D)."""
    words = ids_BL[:, 1:]
    return embeddings(input_ids=words, token_type_ids=torch.ones_like(words))


def additive_mask(mask_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where ``mask_BT`` is 1 and the lowest number where it is 0, as attention adds it: (B, 1, 1, T)."""
    mask = torch.zeros_like(mask_BT, dtype=dtype).masked_fill(mask_BT == 0, torch.finfo(dtype).min)
    return mask[:, None, None]


def run_layers(layers: Iterable[nn.Module], states_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """The states behind the last of ``layers``, (B, T, D); tokens with mask 0 are seen by nobody."""
    mask = additive_mask(mask_BT, states_BTD.dtype)
    for layer in layers:
        states_BTD = layer(states_BTD, attention_mask=mask)
    return states_BTD
