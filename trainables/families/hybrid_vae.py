"""Hybrid VAE: the latent of mvae, with a classifier on it in the same objective.

total = reconstruction + beta KL + gamma classification. The classifier, an MLP, reads a draw of z in training
and the posterior mean in evaluation, and its gradient shapes the latent; ``gamma`` is 0 for the first
``warmup_cls_epochs``. A uniform mixture (``posterior: moe``) is drawn from one component a sample.
See docs/methods.md#hybrid_vae.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from trainables.batch import Batch, ModelOutput
from trainables.encoders.inputs import Input
from trainables.encoders.port import Port
from trainables.layers.mlp import mlp
from trainables.layers.multimodal_vae import (
    VAE_LOSS_TERMS,
    MultimodalVae,
    VaeConfig,
    vae_droppable,
    vae_inputs,
)
from trainables.layers.vae import active_units
from trainables.task import Task

MODALITIES = ("text", "image")
LOSS_TERMS = UNLABELLED_TERMS = VAE_LOSS_TERMS


class Config(VaeConfig):
    gamma: float = Field(1.0, gt=0)
    """Weight of the supervised loss."""
    warmup_cls_epochs: int = Field(0, ge=0, le=100)
    """First epochs, in which gamma is 0."""
    cls_hidden: int = Field(128, ge=1)
    """Width of the classifier's hidden layers."""
    cls_depth: int = Field(1, ge=0, le=8)
    """Number of the classifier's hidden layers; 0 is a linear classifier."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of the classifier's hidden features dropped in training."""


def inputs(config: Config) -> dict[str, Input]:
    """What the family reads: modality -> Input."""
    return vae_inputs(config)


def droppable(config: Config) -> tuple[str, ...]:
    """Every modality, as an expert that is left out; none where one encoder reads all of them."""
    return vae_droppable(config)


def build(config: Config, task: Task, ports: dict[str, Port]) -> nn.Module:
    """The model, on the ports that ``inputs`` asked for."""
    return _HybridVae(config, task, ports)


class _HybridVae(nn.Module):
    def __init__(self, config: Config, task: Task, ports: dict[str, Port]) -> None:
        super().__init__()
        self.config, self.ports = config, ports
        for name, port in ports.items():
            self.add_module(name, port)
        self.vae = MultimodalVae(ports, config)
        self.head = mlp(config.z, config.cls_hidden, task.num_outputs, depth=config.cls_depth, dropout=config.dropout)
        self.compares_rows = config.total_correlation > 1
        self.gamma = 0.0
        self.begin_step(0)

    def begin_step(self, passed: float) -> None:
        """Sets the weights of the KL and of the classifier for the step behind ``passed`` epochs."""
        self.vae.begin_step(passed)
        self.gamma = 0.0 if passed < self.config.warmup_cls_epochs else self.config.gamma

    def report(self, joint_NZ: Tensor) -> dict[str, int]:
        """What is told of a split: how many latent dimensions have not collapsed to the prior."""
        return {"active_units": active_units(joint_NZ)}

    def forward(self, batch: Batch) -> ModelOutput:
        return self.decide(self.encode(batch))

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """What the latent is made of, row by row."""
        return self.vae.read(self.ports, batch)

    def decide(self, given: dict[str, Tensor]) -> ModelOutput:
        """From what :meth:`encode` gave: latent and classifier, over all rows of a step where these are compared."""
        latent = self.vae(given)
        return ModelOutput(
            logits=self.head(latent.z_BZ),
            features=latent.features,
            losses=latent.losses,
            supervised_weight=self.gamma,
        )
