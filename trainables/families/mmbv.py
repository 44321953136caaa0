"""MMBV: BERT and ViT side by side, each reads the other's CLS after every block
(Monter-Aldana et al. 2023).

1. Block i of both streams runs on what the last exchange left, at the same time.
2. After block ``exchange_from`` each stream gets the other's CLS as one more token at its end; after the later
   blocks that token is overwritten by the other's current CLS. The text's mask gets one more 1 behind its
   padding. Nothing is exchanged after the last block, and fusion has no parameters of its own.
3. The head reads the two last CLS states, that of the image behind ViT's final LayerNorm. The paper does not
   say what its head reads; ``concat`` is the reading here.

BERT normalises behind each block and ViT in front of it, so the states that cross differ in scale;
``exchange_norm: layernorm`` standardises them, without parameters. What the head leaves unread is not built: the
last block and LayerNorm of the other stream where it reads one, BERT's pooler unless it is ``pooler``.
See docs/methods.md#mmbv.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.batch import Batch, ModelOutput
from trainables.config import Section
from trainables.encoders.image import PixelNorm
from trainables.encoders.inputs import Input
from trainables.encoders.joint import pixels, token_ids
from trainables.encoders.port import Port
from trainables.encoders.weights import image_normalisation, load_config, load_model
from trainables.layers.bert_blocks import additive_mask
from trainables.task import Task

MODALITIES = ("text", "image")
LOSS_TERMS = ()


class Config(Section):
    text_encoder: str = "google-bert/bert-base-uncased"
    """A BERT."""
    image_encoder: str = "google/vit-base-patch16-224"
    """A ViT as wide and as deep as the BERT."""
    head: Literal["concat", "sum", "text", "image", "pooler"] = "concat"
    """Which CLS states the head reads: both concatenated or summed, one, or pooler: concat with BERT's pooler."""
    exchange_from: int = Field(1, ge=1)
    """The first block that an exchange follows; 1 is the paper."""
    exchange_norm: Literal["none", "layernorm"] = "none"
    """layernorm standardises the CLS that crosses, without parameters; none is the paper."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of the head's input dropped in training."""


def inputs(config: Config) -> dict[str, Input]:
    """What the family reads: modality -> Input."""
    return {
        "text": Input(encoder=config.text_encoder, is_locked=False, output="ids"),
        "image": Input(encoder=config.image_encoder, is_locked=False, output="pixels"),
    }


def droppable(config: Config) -> tuple[str, ...]:
    """What the head can do without. The other stream runs alone, and the missing CLS counts as 0 in the head."""
    return {"text": ("image",), "image": ("text",)}.get(config.head, MODALITIES)


def build(config: Config, task: Task, ports: dict[str, Port]) -> nn.Module:
    """The model, on the ports that ``inputs`` asked for.

    Raises:
        ValueError: the encoders are no BERT and ViT of one width and depth, or the exchange begins too late.
    """
    _check_streams(config)
    return _Mmbv(config, task, ports)


def _check_streams(config: Config) -> None:
    bert, vit = load_config(config.text_encoder), load_config(config.image_encoder)
    for key, name, found, wanted in (
        ("text_encoder", config.text_encoder, bert.model_type, "bert"),
        ("image_encoder", config.image_encoder, vit.model_type, "vit"),
    ):
        if found != wanted:
            raise ValueError(f"model.{key}: mmbv exchanges states block by block, {name} is no {wanted} but a {found}")
    sizes = [(model.hidden_size, model.num_hidden_layers) for model in (bert, vit)]
    if sizes[0] != sizes[1]:
        texts = [f"{width} wide and {depth} blocks deep" for width, depth in sizes]
        raise ValueError(
            f"model.image_encoder: mmbv needs streams alike, but {config.text_encoder} is {texts[0]} and "
            f"{config.image_encoder} is {texts[1]}"
        )
    depth = sizes[0][1]
    if config.exchange_from >= depth:
        raise ValueError(
            f"model.exchange_from: {config.exchange_from} must be below the {depth} blocks of "
            f"{config.text_encoder}; nothing is exchanged after the last"
        )


class _Mmbv(nn.Module):
    """L text tokens and P patches with their CLS of width D; one more of each behind the first exchange."""

    def __init__(self, config: Config, task: Task, ports: dict[str, Port]) -> None:
        super().__init__()
        self.config, self.droppable = config, droppable(config)
        self.text, self.image = ports["text"], ports["image"]
        self.normalise = PixelNorm(*image_normalisation(config.image_encoder))
        self.text_model: Any = load_model(config.text_encoder, seed=self.text.input.seed)
        self.image_model: Any = load_model(config.image_encoder, seed=self.image.input.seed)
        self.image_model.pooler = None
        if config.head != "pooler":
            self.text_model.pooler = None
        if config.head == "text":  # what nobody reads would get no gradient
            del self.image_model.layers[-1]
            self.image_model.layernorm = None
        if config.head == "image":
            del self.text_model.encoder.layer[-1]
        width = self.text_model.config.hidden_size * (2 if config.head in ("concat", "pooler") else 1)
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(width, task.num_outputs))

    def forward(self, batch: Batch) -> ModelOutput:
        features = self._cls_states(batch)
        kind = self.config.head
        if kind in ("concat", "pooler"):
            nothing = torch.zeros_like(next(iter(features.values())))
            joint = torch.cat([features.get("text", nothing), features.get("image", nothing)], dim=1)
        else:
            joint = features[kind] if kind in features else torch.stack(list(features.values())).sum(dim=0)
        return ModelOutput(logits=self.head(joint), features={**features, "joint": joint})

    def _cls_states(self, batch: Batch) -> dict[str, Tensor]:
        """The last CLS of each stream that the batch and the head have, (B, D)."""
        text, image = self.run_streams(batch)
        features: dict[str, Tensor] = {}
        if text is not None and self.config.head != "image":
            pooler = self.text_model.pooler
            features["text"] = text[:, 0] if pooler is None else pooler(text)
        if image is not None and self.config.head != "text":
            features["image"] = self.image_model.layernorm(image[:, 0])
        return features

    def run_streams(self, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        """States behind the last blocks, (B, L + 1, D) and (B, P + 2, D); None and one token less if one is missing."""
        mask: Tensor | None = None
        text = image = None
        if batch.has("text") or "text" not in self.droppable:
            text, mask = self._text_input(batch)
        if batch.has("image") or "image" not in self.droppable:
            image = self._image_input(batch)
        blocks = zip_longest(self.text_model.encoder.layer, self.image_model.layers)
        for number, (text_block, image_block) in enumerate(blocks, start=1):
            if text is not None and text_block is not None:
                assert mask is not None
                text = text_block(text, attention_mask=additive_mask(mask, text.dtype))
            if image is not None and image_block is not None:
                image = image_block(image)
            is_last = number == self.text_model.config.num_hidden_layers
            if text is None or image is None or number < self.config.exchange_from or is_last:
                continue
            is_first = number == self.config.exchange_from
            if is_first:
                assert mask is not None
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            text, image = self._exchanged(text, image, is_first), self._exchanged(image, text, is_first)
        return text, image

    def _exchanged(self, mine: Tensor, other: Tensor, is_first: bool) -> Tensor:
        """My states with the other's CLS at the end, in a place of its own from the first exchange on."""
        cls_BD = other[:, 0]
        if self.config.exchange_norm == "layernorm":
            cls_BD = F.layer_norm(cls_BD, cls_BD.shape[-1:])
        kept = mine if is_first else mine[:, :-1]
        return torch.cat([kept, cls_BD.unsqueeze(1).to(mine.dtype)], dim=1)

    def _text_input(self, batch: Batch) -> tuple[Tensor, Tensor]:
        ids_BL, mask_BL = token_ids(batch)
        return self.text_model.embeddings(input_ids=ids_BL), mask_BL

    def _image_input(self, batch: Batch) -> Tensor:
        x_B3SS = self.normalise(pixels(batch, patch_size=self.image_model.config.patch_size))
        return self.image_model.embeddings(x_B3SS, interpolate_pos_encoding=True)
