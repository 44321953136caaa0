"""A table of a few rows with everything that a table can have, and a small model of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from mmtune.models.reference import ModelRef
from trainables.config import TrialConfig
from trainables.evaluate import PREDICTIONS
from trainables.loop import train

CLASSES = ('say "a", or b', "p_rédiction / 100 %", "c\td")
YAML = """\
files: rows.jsonl
text: [title, words]
image: picture
labels:
  kind: {column: kind, kind: multiclass}
  many: {column: many, kind: multilabel}
  score: {column: score, kind: regression}
numeric: [price, size]
categorical: [brand]
id: key
split: part
"""
COLUMNS = ("key", "title", "words", "picture", "price", "size", "brand")


@dataclass(frozen=True)
class Made:
    """A table of 60 rows, 40 of them to train on."""

    folder: Path
    rows: list[dict[str, Any]]
    models: dict[str, ModelRef] = field(default_factory=dict)

    @property
    def val(self) -> list[dict[str, Any]]:
        """The other 20, by the columns that a model reads."""
        return [{name: row[name] for name in COLUMNS} for row in self.rows if row["part"] == "val"]

    def logits(self, model: str) -> np.ndarray:
        """What was written of them while the model was trained."""
        return np.array(pyarrow.parquet.read_table(self.models[model].folder / PREDICTIONS)["logits"].to_pylist())


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("table")
    (root / "pictures").mkdir()
    rng, rows = np.random.default_rng(0), []
    for at in range(60):
        kind = at % 3
        pixels = rng.integers(0, 120, (12, 16, 3))
        pixels[..., kind] += 130
        Image.fromarray(pixels.astype(np.uint8)).save(root / "pictures" / f"{at}.png")
        rows.append({
            "key": f"row {at}", "title": ["red", "green", "blue"][kind], "words": "a square, " * (at % 5),
            "picture": f"pictures/{at}.png", "price": None if at == 45 else 10.5 * kind + at / 7, "size": at % 4,
            "brand": None if at == 46 else ["1", "true", "Ärger"][(at + at // 7) % 3], "kind": CLASSES[kind],
            "many": [name for name in "xyz" if (at + ord(name)) % 3], "score": 100 + 5 * kind,
            "part": "train" if at < 40 else "val",
        })  # fmt: skip
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "table.yaml").write_text(YAML)
    return Made(root, rows)


@pytest.fixture(scope="session")
def model(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ModelRef]:
    """Trains a small model of the table, or returns it: model("all") reads everything, model("text") text alone."""
    tiny = {"text_encoder": "tiny-bert", "lock_text": False}
    both = {**tiny, "image_encoder": "tiny-cnn", "lock_image": False}
    kinds: dict[str, dict[str, Any]] = {
        "all": {"family": "fusion", "model": {**both, "modalities": "text+image+numeric+categorical"}},
        "text": {"family": "text", "model": tiny},
        "numbers": {"family": "fusion", "model": {**tiny, "modalities": "text+numeric+categorical"}},
        "many": {"family": "text", "model": tiny, "target": "many", "objective": "val_ap_micro"},
        "score": {"family": "text", "model": tiny, "target": "score", "objective": "val_rmse"},
        "image": {"family": "image", "model": {"image_encoder": "tiny-cnn", "lock_image": False}},
    }

    def get(name: str) -> ModelRef:
        if name not in made.models:
            config = TrialConfig(
                **kinds[name], dataset="table", data_dir=str(made.folder), epochs=2, batch_size=8, image_size=16,
                max_text_len=16, precision="fp32",
            )  # fmt: skip
            folder = tmp_path_factory.mktemp("trained") / name
            train(config, folder=folder)
            made.models[name] = ModelRef(folder)
        return made.models[name]

    return get
