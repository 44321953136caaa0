"""Copies of an encoder's files, for a model that goes elsewhere: what :func:`encoder_places` reads them from."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from trainables.encoders.image import torchvision_weights
from trainables.encoders.tokenizers import load_tokenizer
from trainables.encoders.weights import find_weights, load_errors, shared_model

_TORCHVISION = "torchvision/"


def copy_encoder(name: str, folder: Path, *, modalities: Collection[str]) -> Path:
    """Writes the files of a pretrained encoder into ``folder``, which is made.

    Those of a package or a local folder as they are, torchvision's as safetensors, and of a name on a hub the model
    with what prepares its inputs.

    Args:
        name: see :mod:`trainables.encoders.weights`; no architecture without weights.
        folder: where to.
        modalities: what it reads.

    Returns:
        Its place: the folder, or the one file of weights.

    Raises:
        ValueError: it cannot be loaded.
    """
    folder.mkdir(parents=True)
    found = find_weights(name)
    if found is not None and found.is_file():
        return Path(shutil.copyfile(found, folder / found.name))
    if found is not None:
        for file in found.iterdir():
            if file.is_file():
                shutil.copyfile(file, folder / file.name)
    elif name.startswith(_TORCHVISION):
        place = folder / f"{name.removeprefix(_TORCHVISION)}.safetensors"
        with load_errors(f"encoder '{name}'"):
            save_file({key: value.contiguous() for key, value in torchvision_weights(name).items()}, place)
        return place
    else:
        _save_hub_model(name, folder, modalities)
    return folder


def _save_hub_model(name: str, folder: Path, modalities: Collection[str]) -> None:
    model: Any
    model, lacks_pooler = shared_model(name, None)
    kept = {key: value for key, value in model.state_dict().items() if not (lacks_pooler and key.startswith("pooler."))}
    model.save_pretrained(folder, state_dict=kept)
    if "text" in modalities or model.config.model_type == "clip":  # whose zero-shot model reads the classes' names
        load_tokenizer(name, texts=[]).save_pretrained(folder)
    if "image" in modalities:
        from transformers import AutoImageProcessor

        with load_errors(f"image processor of '{name}'"):
            AutoImageProcessor.from_pretrained(name, trust_remote_code=False).save_pretrained(folder)
