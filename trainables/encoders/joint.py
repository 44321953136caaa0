"""Models that take text and image together (FLAVA, ViLT, LXMERT): loading them and reading their raw inputs.

Families load these by themselves, through ports of output 'ids' and 'pixels'; nothing of them can be cached.
Letters: B samples, L text tokens, N and M positions, D width, S pixels a side.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from trainables.batch import Batch
from trainables.encoders.weights import load_config, load_model


def joint_config(name: str, *, kind: str, key: str) -> Any:
    """The Hugging Face config of a joint model, without its weights.

    Args:
        name: see :mod:`trainables.encoders.weights`.
        kind: the model_type that it must have, e.g. 'flava'.
        key: of the config, for the error.

    Raises:
        ValueError: the name is none, or of another kind.
    """
    config = load_config(name)
    if config.model_type != kind:
        raise ValueError(f"{key}: {name} is a {config.model_type}, here a {kind} is needed")
    return config


def load_joint(name: str, *, kind: str, key: str, seed: int = 0) -> Any:
    """The model itself, without heads of its pretraining; see :func:`joint_config`; random from ``seed``."""
    joint_config(name, kind=kind, key=key)
    return load_model(name, seed=seed)


def token_ids(batch: Batch) -> tuple[Tensor, Tensor]:
    """Ids and mask (B, L).

    Raises:
        ValueError: the batch has no text.
    """
    if not batch.has("text"):
        raise ValueError("text is missing, and this model cannot do without it")
    assert batch.input_ids is not None and batch.attention_mask is not None, "features in place of ids"
    return batch.input_ids, batch.attention_mask


def pixels(batch: Batch, *, patch_size: int) -> Tensor:
    """uint8 (B, 3, S, S).

    Raises:
        ValueError: the batch has no images, or they are smaller than one patch.
    """
    if not batch.has("image"):
        raise ValueError("image is missing, and this model cannot do without it")
    assert batch.pixel_values is not None, "features in place of pixels"
    if min(batch.pixel_values.shape[2:]) < patch_size:
        size = batch.pixel_values.shape[-1]
        raise ValueError(f"image_size: {size} is smaller than one patch ({patch_size}) of the model")
    return batch.pixel_values


def lengthened(table: nn.Embedding, num_positions: int) -> nn.Embedding:
    """A position table of more rows, by linear interpolation between the old ones.

    First and last row stay what they were, and no two positions become the same (interpolation between centres
    of pixels, ``align_corners=False``, would give [CLS] and the first word one position).

    Args:
        table: N positions of width D.
        num_positions: M, at least N.
    """
    assert num_positions >= table.num_embeddings
    rows_1DN = table.weight.detach().T.unsqueeze(0)
    rows_1DM = F.interpolate(rows_1DN, size=num_positions, mode="linear", align_corners=True)
    return nn.Embedding.from_pretrained(rows_1DM[0].T.contiguous(), freeze=False)
