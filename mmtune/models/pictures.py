"""Samples as a person sees them: picture and text from the data that a model was trained on."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mmtune.models.reference import ModelRef

_SIDE = 128  # pixels


def draw_samples(ref: ModelRef, samples: pd.DataFrame, path: Path, *, title: str) -> None:
    """Draws samples of a model's data: picture, text, and what is known of each.

    Args:
        ref: the model.
        samples: a row each: ``id``, and columns that are written beside it.
        path: a .png, .pdf or .svg file.
        title: of the picture.

    Raises:
        ValueError: the data is not there any more, or no longer has these samples.
    """
    from analysis.preview import write_samples
    from mmtune.spec.configfile import load_config
    from trainables.data.reading.dataset import DatasetRef, load_table
    from trainables.data.reading.pictures import decode_image

    config = load_config(ref.folder / "config.yaml")
    table = load_table(DatasetRef.of(config))
    rows = {id: row for row, id in enumerate(table.ids)}
    missing = [id for id in samples["id"] if id not in rows]
    if missing:
        raise ValueError(f"dataset {config.dataset}: has no row {missing[0]} any more")
    texts, pictures, told = [], [], []
    for sample in samples.to_dict("records"):
        row = rows[sample.pop("id")]
        texts.append("" if table.texts is None else table.texts[row])
        if table.images is not None:
            pixels = decode_image(table.images[row], size=_SIDE, fit=config.image_fit, where=f"row {table.ids[row]}")
            pictures.append(pixels.transpose(1, 2, 0))
        told.append([f"{name}: {value}" for name, value in sample.items()])
    write_samples(texts, pictures or [None] * len(texts), told, path, title=title)
