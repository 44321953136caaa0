"""ViLT: one transformer over words and raw image patches, no image encoder (Kim et al. 2021).

Text tokens, the image's [CLS] and its patches in reading order go through pre-LayerNorm layers; the pooler
(tanh) of the text's [CLS] enters the head Linear-LayerNorm-GELU-Linear, as its authors fine-tune it. Images are
square and full, so there is no image mask, and every patch is used: transformers' own embedding would shuffle
them, in evaluation too, and with that the order of hidden states and attention maps.

The published weights know 40 text positions; ``text_positions`` stretches them. A missing image is an image
without tokens, a missing text is an empty one: [CLS], [SEP]. The transformer learns at the text encoder's rate.
See docs/methods.md#vilt.

Letters: B samples, L text tokens, P = h x w patches, N positions, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.batch import Batch, ModelOutput
from trainables.config import Section
from trainables.encoders.image import PixelNorm
from trainables.encoders.inputs import Input
from trainables.encoders.joint import lengthened, load_joint, pixels, token_ids
from trainables.encoders.port import Port
from trainables.encoders.tokenizers import special_ids
from trainables.encoders.weights import image_normalisation
from trainables.task import Task

MODALITIES = ("text", "image")
LOSS_TERMS = ()


class Config(Section):
    encoder: str = "dandelin/vilt-b32-mlm"
    """A ViLT: a local folder, a Hugging Face name, or random-vilt-b32, the same without weights."""
    text_positions: int | None = Field(None, ge=2)
    """M: stretch the table of text positions to so many, then the limit of max_text_len; null leaves its 40."""
    hidden: int | None = Field(None, ge=1)
    """Width of the head's hidden layer; null is twice the model's."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the head's hidden features dropped in training."""


def inputs(config: Config) -> dict[str, Input]:
    """What the family reads: modality -> Input."""
    return {
        "text": Input(encoder=config.encoder, is_locked=False, output="ids", max_tokens=config.text_positions),
        "image": Input(encoder=config.encoder, is_locked=False, output="pixels"),
    }


def droppable(config: Config) -> tuple[str, ...]:
    """Modalities that may be missing at evaluation."""
    return MODALITIES


def build(config: Config, task: Task, ports: dict[str, Port]) -> nn.Module:
    """The model. It reads raw batches: the ports only say so.

    Raises:
        ValueError: the encoder is no ViLT, or knows more text positions than asked for.
    """
    return _Vilt(config, task, seed=ports["text"].input.seed)


class _Vilt(nn.Module):
    def __init__(self, config: Config, task: Task, *, seed: int) -> None:
        super().__init__()
        self.text_vilt = load_joint(config.encoder, kind="vilt", key="model.encoder", seed=seed)
        self.normalise = PixelNorm(*image_normalisation(config.encoder))
        self.cls_sep = special_ids(config.encoder)
        if config.text_positions is not None:
            known = self.text_vilt.config.max_position_embeddings
            if config.text_positions < known:
                raise ValueError(
                    f"model.text_positions: {config.text_positions} is less than the {known} of {config.encoder}"
                )
            _stretch(self.text_vilt.embeddings.text_embeddings, config.text_positions)
        width = self.text_vilt.config.hidden_size
        hidden = config.hidden or 2 * width
        self.head = nn.Sequential(
            nn.Linear(width, hidden),
            nn.LayerNorm(hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden, task.num_outputs),
        )

    def forward(self, batch: Batch) -> ModelOutput:
        joint_BD = self.encode(batch).pooler_output
        return ModelOutput(logits=self.head(joint_BD), features={"joint": joint_BD})

    def encode(self, batch: Batch) -> Any:
        """transformers' output: last_hidden_state (B, L + 1 + P, D) in this order, pooler_output (B, D)."""
        ids_BL, mask_BL = token_ids(batch) if batch.has("text") else self._empty_text(batch)
        image_BQD = self._image_tokens(batch)
        return self.text_vilt(
            input_ids=ids_BL,
            attention_mask=mask_BL,
            image_embeds=image_BQD,
            pixel_mask=mask_BL.new_ones(image_BQD.shape[:2]),
        )

    def _empty_text(self, batch: Batch) -> tuple[Tensor, Tensor]:
        ids_2 = torch.tensor(self.cls_sep, device=self.normalise.mean_3.device)
        ids_B2 = ids_2.expand(batch.size, -1)
        return ids_B2, torch.ones_like(ids_B2)

    def _image_tokens(self, batch: Batch) -> Tensor:
        """[CLS] and the patches with their positions, (B, 1 + P, D); of a missing image (B, 0, D)."""
        table = self.text_vilt.embeddings
        if not batch.has("image"):
            return table.cls_token.expand(batch.size, -1, -1)[:, :0]
        conv = table.patch_embeddings.projection
        x_BDhw = conv(self.normalise(pixels(batch, patch_size=conv.kernel_size[0])))
        first_11D, grid_1ND = table.position_embeddings.split([1, table.position_embeddings.shape[1] - 1], dim=1)
        side = round(grid_1ND.shape[1] ** 0.5)
        positions_1DNN = grid_1ND.transpose(1, 2).unflatten(2, (side, side))
        positions_1Dhw = F.interpolate(positions_1DNN, size=x_BDhw.shape[2:], mode="bilinear", align_corners=True)
        patches_BPD = (x_BDhw + positions_1Dhw).flatten(2).transpose(1, 2)
        cls_B1D = (table.cls_token + first_11D).expand(batch.size, -1, -1)
        return table.dropout(torch.cat([cls_B1D, patches_BPD], dim=1))


def _stretch(embeddings: Any, num_positions: int) -> None:
    """More text positions, and the two buffers of transformers that are as long as they."""
    embeddings.position_embeddings = lengthened(embeddings.position_embeddings, num_positions)
    ids_1N = torch.arange(num_positions, device=embeddings.position_ids.device).unsqueeze(0)
    embeddings.position_ids, embeddings.token_type_ids = ids_1N, torch.zeros_like(ids_1N)
