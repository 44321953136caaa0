"""M-VAE: one latent for several modalities, learnt without labels, and a linear probe on it.

The objective is a weighted negative ELBO (:mod:`trainables.layers.multimodal_vae`) over standardised features of
locked encoders; ``z`` never sees a label. The logits are those of a linear probe on the posterior mean, trained
alongside and cut off from it: the supervised loss reaches the probe alone. What they score is therefore the
VAE-only half of the comparison with hybrid_vae.

Categorical and graph features are refused: they are learnt embeddings, which their own reconstruction would
shrink to a constant.
See docs/methods.md#mvae.
"""

from __future__ import annotations

from torch import Tensor, nn

from trainables.batch import Batch, ModelOutput
from trainables.encoders.inputs import Input
from trainables.encoders.port import Port
from trainables.layers.multimodal_vae import (
    VAE_LOSS_TERMS,
    MultimodalVae,
    VaeConfig,
    read_codes,
    read_features,
    vae_droppable,
    vae_inputs,
)
from trainables.layers.vae import active_units
from trainables.task import Task

MODALITIES = ("text", "image")
LOSS_TERMS = UNLABELLED_TERMS = VAE_LOSS_TERMS


class Config(VaeConfig):
    pass


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

    def begin_step(self, passed: float) -> None:
        """Sets the KL's weight for the step behind ``passed`` epochs."""
        self.vae.begin_step(passed)

    def report(self, joint_NZ: Tensor) -> dict[str, int]:
        """What is told of a split: how many latent dimensions have not collapsed to the prior."""
        return {"active_units": active_units(joint_NZ)}

    def forward(self, batch: Batch) -> ModelOutput:
        features = read_features(self.ports, batch, config=self.config)
        latent = self.vae(features, read_codes(batch, features))
        return ModelOutput(
            logits=self.probe(latent.mean_BZ.detach()),
            features={**latent.means, "joint": latent.mean_BZ},
            losses=latent.losses,
        )
