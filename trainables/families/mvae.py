"""M-VAE: one latent for several modalities, learnt without labels, and a linear probe on it.

The objective is a weighted negative ELBO (:mod:`trainables.layers.multimodal_vae`) over standardised features of
locked encoders; ``z`` sees no label, unless ``w_label`` has it decode them too. The logits are those of a linear probe
on the posterior mean, trained alongside and cut off from it: the supervised loss reaches the probe alone. What they
score is therefore the VAE-only half of the comparison with hybrid_vae.

See docs/methods.md#mvae.
"""

from __future__ import annotations

import math

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
from trainables.losses import supervised_loss
from trainables.task import Task

MODALITIES = ("text", "image")
UNLABELLED_TERMS = VAE_LOSS_TERMS
LOSS_TERMS = (*VAE_LOSS_TERMS, "reconstruction_label")


class Config(VaeConfig):
    w_label: float = Field(0.0, ge=0)
    """Weight of the label's reconstruction from the draw of z; 0: the latent never sees a label."""


def inputs(config: Config) -> dict[str, Input]:
    """What the family reads: modality -> Input."""
    return vae_inputs(config)


def droppable(config: Config) -> tuple[str, ...]:
    """Every modality, as an expert that is left out; none where one encoder reads all of them."""
    return vae_droppable(config)


def build(config: Config, task: Task, ports: dict[str, Port]) -> nn.Module:
    """The model, on the ports that ``inputs`` asked for."""
    return _Mvae(config, task, ports)


class _Mvae(nn.Module):
    def __init__(self, config: Config, task: Task, ports: dict[str, Port]) -> None:
        super().__init__()
        self.config, self.ports = config, ports
        for name, port in ports.items():
            self.add_module(name, port)
        self.vae = MultimodalVae(ports, config)
        self.probe = nn.Linear(config.z, task.num_outputs)
        self.task, self.compares_rows = task, config.total_correlation > 1
        if config.w_label > 0:
            self.label_decoder = mlp(config.z, config.enc_hidden, task.num_outputs, depth=config.enc_depth)

    def begin_step(self, passed: float) -> None:
        """Sets the KL's weight for the step behind ``passed`` epochs."""
        self.vae.begin_step(passed)

    def report(self, joint_NZ: Tensor) -> dict[str, int]:
        """What is told of a split: how many latent dimensions have not collapsed to the prior."""
        return {"active_units": active_units(joint_NZ)}

    def forward(self, batch: Batch) -> ModelOutput:
        return self.decide(self.encode(batch))

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """What the latent is made of, row by row, and in training the labels that it decodes."""
        decodes_labels = self.training and self.config.w_label > 0
        labels = {"labels": batch.labels} if decodes_labels else {}
        return {**self.vae.read(self.ports, batch), **labels}

    def decide(self, given: dict[str, Tensor]) -> ModelOutput:
        """From what :meth:`encode` gave: latent and probe, over all rows of a step where these are compared."""
        latent, losses = self.vae(given), {}
        if "labels" in given:
            decoded = self.label_decoder(latent.z_BZ)
            loss_B = supervised_loss(decoded, given["labels"], self.task, reduction="none") / _guess(self.task)
            losses = {"reconstruction_label": self.config.w_label * loss_B}
        return ModelOutput(
            logits=self.probe(latent.mean_BZ.detach()),
            features=latent.features,
            losses={**latent.losses, **losses},
        )


def _guess(task: Task) -> float:
    """The loss of one who knows nothing: reconstructions are about 1 at the start."""
    if task.kind == "multiclass":
        return math.log(max(2, len(task.classes)))
    return math.log(2) if task.kind == "multilabel" else 1.0
