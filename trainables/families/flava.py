"""FLAVA: a text tower, an image tower and a multimodal transformer over both (Singh et al. 2022).

1. The states of both towers, before their final LayerNorm, are projected to the multimodal width.
2. [CLS] of its own, image states (the tower's [CLS] first), text states: 1 + 197 + L tokens at 224 pixels.
3. An MLP on the first state: Linear-ReLU-Dropout-Linear, as its authors fine-tune it.

Of the published model (241.4 M parameters with the three poolers, the two contrastive projections and the mask
token; 350 M with the heads of its pretraining) only what reaches the logits is kept: 238.4 M without the head.
``unimodal_heads`` adds a head on each tower's own [CLS], trained along: with it, either modality may be missing.
The towers learn at the text and image encoder's rates, the multimodal transformer at the head's.
See docs/methods.md#flava.

Letters: B samples, L text tokens, P image states, T = 1 + P + L, D width.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from trainables.batch import Batch, ModelOutput
from trainables.config import Only, Section
from trainables.encoders.image import PixelNorm
from trainables.encoders.inputs import Input
from trainables.encoders.joint import load_joint, pixels, token_ids
from trainables.encoders.port import Port
from trainables.encoders.weights import image_normalisation
from trainables.freezing import lock
from trainables.layers.mlp import mlp
from trainables.losses import supervised_loss
from trainables.task import Task

MODALITIES = ("text", "image")
LOSS_TERMS = ("unimodal",)


class Config(Section):
    encoder: str = "facebook/flava-full"
    """A FLAVA: a local folder, a Hugging Face name, or random-flava, the same without weights."""
    lock_text: bool = False
    """The text tower never changes."""
    lock_image: bool = False
    """The image tower never changes."""
    head_hidden: int = Field(768, ge=0)
    """Width of the head's hidden layer; 0 is a linear head."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Share of the head's hidden features dropped in training."""
    unimodal_heads: bool = False
    """Heads on each tower's own CLS, trained along: with them either modality may be missing."""
    unimodal_weight: Annotated[float, Only(unimodal_heads=True)] = Field(0.5, gt=0)
    """unimodal_heads: weight of the mean of their two losses, which `loss.*` does not reach."""


def inputs(config: Config) -> dict[str, Input]:
    """What the family reads: modality -> Input."""
    return {
        "text": Input(encoder=config.encoder, is_locked=False, output="ids"),
        "image": Input(encoder=config.encoder, is_locked=False, output="pixels"),
    }


def droppable(config: Config) -> tuple[str, ...]:
    """Modalities that may be missing at evaluation."""
    return MODALITIES if config.unimodal_heads else ()


def build(config: Config, task: Task, ports: dict[str, Port]) -> nn.Module:
    """The model. It reads raw batches: the ports only say so.

    Raises:
        ValueError: the encoder is no FLAVA.
    """
    return _Flava(config, task, seed=ports["text"].input.seed)


class _Flava(nn.Module):
    def __init__(self, config: Config, task: Task, *, seed: int) -> None:
        super().__init__()
        self.config, self.task = config, task
        model = load_joint(config.encoder, kind="flava", key="model.encoder", seed=seed)
        self.normalise = PixelNorm(*image_normalisation(config.encoder))
        self.patch_size: int = model.config.image_config.patch_size
        self.text_model, self.image_model, self.joint_model = _towers(model)
        self.text_to_joint, self.image_to_joint = model.text_to_mm_projection, model.image_to_mm_projection

        def head(width: int) -> nn.Module:
            hidden, depth = config.head_hidden, int(config.head_hidden > 0)
            return mlp(width, hidden, task.num_outputs, depth=depth, dropout=config.dropout, activation=nn.ReLU)

        self.head = head(model.config.multimodal_config.hidden_size)
        if config.unimodal_heads:
            self.text_norm, self.image_norm = model.text_model.layernorm, model.image_model.layernorm
            widths = {"text": self.text_to_joint.in_features, "image": self.image_to_joint.in_features}
            self.unimodal_heads = nn.ModuleDict({name: head(width) for name, width in widths.items()})
        for tower in (model.text_model, model.image_model):  # the multimodal transformer reads the states before it
            tower.layernorm = nn.Identity()
        locked = [name for name, is_locked in (("text", config.lock_text), ("image", config.lock_image)) if is_locked]
        parts = {f"{name}_{part}" for name in locked for part in ("model", "norm")}
        for name, module in self.named_children():
            if name in parts:
                lock(module)

    def forward(self, batch: Batch) -> ModelOutput:
        """Logits of the joint head, or of one tower's where the other's modality is missing.

        Raises:
            ValueError: a modality is missing and there are no unimodal heads.
        """
        missing = [name for name in MODALITIES if not batch.has(name)] if self.config.unimodal_heads else []
        states = {name: getattr(self, f"_{name}_states")(batch) for name in MODALITIES if name not in missing}
        features, unimodal = {}, {}
        if self.config.unimodal_heads:
            features = {name: getattr(self, f"{name}_norm")(value[:, 0]) for name, value in states.items()}
            unimodal = {name: self.unimodal_heads[name](value) for name, value in features.items()}
        if missing:
            (logits_BC,) = unimodal.values()
            return ModelOutput(logits=logits_BC, features=features)
        joint_BTD = self._joint_states(batch, states["image"], states["text"])
        losses = {}
        if self.config.unimodal_heads:
            each = [supervised_loss(out_BC, batch.labels, self.task, reduction="none") for out_BC in unimodal.values()]
            losses["unimodal"] = self.config.unimodal_weight * torch.stack(each).mean(dim=0)
        joint_BD = joint_BTD[:, 0]
        return ModelOutput(logits=self.head(joint_BD), features={**features, "joint": joint_BD}, losses=losses)

    def _text_states(self, batch: Batch) -> Tensor:
        """States of the text tower before its final LayerNorm, (B, L, D)."""
        ids_BL, mask_BL = token_ids(batch)
        return self.text_model(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state

    def _image_states(self, batch: Batch) -> Tensor:
        """States of the image tower before its final LayerNorm, [CLS] first, (B, P, D)."""
        x_B3SS = self.normalise(pixels(batch, patch_size=self.patch_size))
        return self.image_model(pixel_values=x_B3SS, interpolate_pos_encoding=True).last_hidden_state

    def _joint_states(self, batch: Batch, image_BPD: Tensor, text_BLD: Tensor) -> Tensor:
        """States behind the multimodal transformer, (B, T, D)."""
        _, mask_BL = token_ids(batch)
        states_BND = torch.cat([self.image_to_joint(image_BPD), self.text_to_joint(text_BLD)], dim=1)
        num_open = image_BPD.shape[1] + int(self.joint_model.use_cls_token)
        mask_BT = torch.cat([mask_BL.new_ones(len(mask_BL), num_open), mask_BL], dim=1)
        return self.joint_model(states_BND, attention_mask=mask_BT).last_hidden_state


def _towers(model: Any) -> tuple[Any, Any, Any]:
    """Text, image and multimodal transformer without what only pretraining needs: it would get no gradient."""
    for tower in (model.text_model, model.image_model, model.multimodal_model):
        tower.pooler = None
    model.image_model.embeddings.mask_token = None
    return model.text_model, model.image_model, model.multimodal_model
