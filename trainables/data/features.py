"""What a locked encoder gives for every row, computed once and memory-mapped as float16.

A locked encoder over a fixed view of the data is a constant function, so its outputs are cached by
(weights, cut and pooling, size or length limit, dataset, view) and every later epoch and trial skips it.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainables.batch import Batch
from trainables.data.cache import build_once, meta
from trainables.data.prepare import (
    DatasetRef,
    ImageView,
    Ragged,
    TextView,
    dataset_key,
    load_table,
    prepare_images,
    prepare_tokens,
    view_key,
)
from trainables.encoders import Input, encode, load_encoder
from trainables.weights import fingerprint

_CHUNK = 64  # rows a forward


@dataclass(frozen=True)
class Features:
    """Cached outputs: ``rows`` is (N, D), (N, P, D), or Ragged (sum L, D) for text tokens."""

    rows: np.ndarray | Ragged
    width: int
    num_parameters: int  # of the encoder that made them
    encoder_ms: float  # median forward time a sample, milliseconds, where they were made


def prepare_features(
    dataset: DatasetRef,
    *,
    modality: str,
    input: Input,
    image_size: int,
    max_text_len: int,
    view: TextView | ImageView | None = None,
) -> Features:
    """The features of every row, from the cache or computed now; of an augmented view only the training rows.

    Args:
        modality: 'text' or 'image'.
        input: what the family reads; must be locked.
        image_size: pixels a side that the image encoder sees.
        max_text_len: tokens a text is cut to.
        view: None for the clean data.

    Raises:
        ValueError: features that float16 cannot hold.
    """
    assert input.is_locked
    limit = {"size": image_size} if modality == "image" else {"max_text_len": max_text_len}
    settings = asdict(input) | {"encoder": fingerprint(input.encoder)}
    del settings["is_standardised"], settings["max_tokens"]  # the port's and the loader's business
    key = {**dataset_key(dataset), "modality": modality, "input": settings, **limit, "view": view_key(view)}

    def build(folder: Path) -> dict[str, Any]:
        return _compute(
            folder, dataset, modality=modality, input=input, image_size=image_size, max_text_len=max_text_len, view=view
        )

    return _open(build_once("features", key, build))


@lru_cache(maxsize=32)
def _open(folder: Path) -> Features:
    facts = meta(folder)
    values = np.load(folder / "values.npy", mmap_mode="r")
    offsets = folder / "offsets.npy"
    rows = Ragged(values, np.load(offsets)) if offsets.exists() else values
    return Features(rows, facts["width"], facts["num_parameters"], facts["encoder_ms"])


def _compute(
    folder: Path,
    dataset: DatasetRef,
    *,
    modality: str,
    input: Input,
    image_size: int,
    max_text_len: int,
    view: Any,
) -> dict[str, Any]:
    from trainables.data.loader import pad_tokens

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = load_encoder(modality, input).eval().to(device)
    table = load_table(dataset)
    wanted = np.arange(len(table.ids)) if view is None else np.flatnonzero(table.split == "train")
    no_labels = torch.zeros(0)
    if modality == "text":
        tokens = prepare_tokens(dataset, encoder=input.encoder, view=view)
        lengths = tokens.length(max_text_len)
        order = wanted[np.argsort(lengths[wanted], kind="stable")]
    else:
        images = prepare_images(dataset, size=image_size, view=view)
        order = wanted

    is_ragged = modality == "text" and input.output == "tokens"
    out: Any = None
    offsets = np.concatenate([[0], np.cumsum(lengths)]) if is_ragged else None
    seconds: list[float] = []
    for start in range(0, len(order), _CHUNK):
        rows = order[start : start + _CHUNK]
        if modality == "text":
            ids, mask = pad_tokens(tokens, rows, max_text_len)
            batch = Batch(input_ids=ids, attention_mask=mask, labels=no_labels, ids=[])
        else:
            batch = Batch(pixel_values=torch.from_numpy(images[rows]), labels=no_labels, ids=[])
        began = time.perf_counter()
        with torch.inference_mode():
            values = encode(encoder, batch.to(device), modality=modality, input=input).half().cpu().numpy()
        seconds.append((time.perf_counter() - began) / len(rows))
        if not np.isfinite(values).all():
            raise ValueError(f"encoder '{input.encoder}': its features do not fit float16; set cache_features: false")
        if out is None:
            num_rows = int(offsets[-1]) if offsets is not None else len(table.ids)
            shape = (num_rows, *values.shape[2 if is_ragged else 1 :])
            out = np.lib.format.open_memmap(folder / "values.npy", mode="w+", dtype=np.float16, shape=shape)
        if offsets is None:
            out[rows] = values
        else:
            for row, value in zip(rows, values, strict=True):
                out[offsets[row] : offsets[row + 1]] = value[: lengths[row]]
    out.flush()
    if offsets is not None:
        np.save(folder / "offsets.npy", offsets)
    return {
        "width": encoder.width,
        "num_parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "encoder_ms": 1000 * float(np.median(seconds)),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    }
