"""Under which licences the parts of a model are, as installed packages and notices state them; nothing is guessed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

UNKNOWN = "unknown"
_CLASSIFIER = "License :: "


def licence_of(package: str) -> str:
    """What an installed package states: its expression, its field, or its classifiers."""
    try:
        told = metadata(package)
    except PackageNotFoundError:
        return UNKNOWN
    fields = [field.strip() for key in ("License-Expression", "License") for field in told.get_all(key) or []]
    for field in fields:
        if field and field.upper() != "UNKNOWN" and "\n" not in field:
            return field
    names = [line.rpartition(" :: ")[2] for line in told.get_all("Classifier") or [] if line.startswith(_CLASSIFIER)]
    return ", ".join(names) or UNKNOWN


def encoder_licence(name: str) -> str:
    """Of an encoder's weights, by its name (see :mod:`trainables.encoders.weights`)."""
    from trainables.encoders.architectures import draws_weights
    from trainables.encoders.weights import is_packaged

    if draws_weights(name):
        return "none: it was drawn at random"
    if is_packaged(name):
        return licence_of(name)
    return f"{UNKNOWN}: see https://huggingface.co/{name}" if is_of_hub(name) else UNKNOWN


def is_of_hub(name: str) -> bool:
    """Whether an encoder is a name on Hugging Face's hub."""
    from trainables.encoders.architectures import draws_weights
    from trainables.encoders.weights import is_packaged

    is_here = draws_weights(name) or is_packaged(name) or Path(name).is_dir()
    return not is_here and not name.startswith(("torchvision/", ".", "/", "~"))


def dataset_licence(name: str) -> str:
    """What the notice of an embedded dataset says, on one line; others are unknown."""
    from trainables.data.formats import DATASETS, dataset_module

    if name not in DATASETS or not dataset_module(name).IS_EMBEDDED:
        return UNKNOWN
    file = dataset_module(name).sources(None)[0]
    notice = file.with_name("NOTICE")
    if not notice.is_file():
        return UNKNOWN
    said: list[str] = []
    is_its = False
    for line in notice.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(" "):
            is_its = file.name in line
        elif is_its and line.strip() and not line.strip().startswith("sha256"):
            said.append(line.strip())
    return " ".join(said) or UNKNOWN
