"""Sizes of models that stand in for published ones: as deep, with as many positions, and very narrow."""

from typing import Any

NARROW: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": 12, "num_attention_heads": 2, "intermediate_size": 24
}  # fmt: skip
TEXT = {**NARROW, "vocab_size": 100, "max_position_embeddings": 512}
IMAGE = {**NARROW, "image_size": 224, "patch_size": 32}
