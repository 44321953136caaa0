"""Exports a trained model: a folder that loads without its data, its encoders installed, or a network; or ONNX.

config.yaml, model.json, best.safetensors and tokenizer.json are those of the trained folder; what the export adds is
listed in trainables/exported.py. The folder is loaded and compared before it gets its name.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.models.card import card, folder_use
from mmtune.models.onnxfolder import check_packages, write_onnx_folder
from mmtune.models.reference import ModelRef
from trainables.exported import CARD, DRAWN, ENCODERS, write_manifest
from trainables.files import write_atomic
from trainables.messages import unknown
from trainables.modelfolder import CONFIG, FACTS, TOKENIZER, WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.trained import Trained

FORMATS = ("folder", "onnx")
_TRAINED = (CONFIG, FACTS, TOKENIZER, WEIGHTS)


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: where.
        num_files: in it.
        num_bytes: of all of them.
        notes: what it needs that is not in the folder.
    """

    folder: Path
    num_files: int
    num_bytes: int
    notes: tuple[str, ...] = ()


def export_model(ref: ModelRef, to: Path, *, format: str = "folder") -> Exported:
    """Writes ``to``, as a whole: after an error or a kill there is none.

    Args:
        ref: which model.
        to: a folder that does not exist yet, or is empty.
        format: one of ``FORMATS``.

    Raises:
        ValueError: an unknown format, something in the way, a model or an encoder that cannot be loaded, or that
            cannot be written in the format.
    """
    if format not in FORMATS:
        raise ValueError(f"--format: {unknown(format, FORMATS)}")
    check_free(to)
    if format == "onnx":
        check_packages()
    from trainables.trained import load_trained

    trained = load_trained(ref.folder, device="cpu")
    with _replacing_folder(to) as folder:
        if format == "onnx":
            use = write_onnx_folder(trained, folder)
        else:
            write_folder(trained, folder)
            use = folder_use(trained)
        write_atomic(folder / CARD, card(ref, trained, name=ref.name, use=use))
    files = [path for path in to.rglob("*") if path.is_file()]
    return Exported(to, len(files), sum(path.stat().st_size for path in files), tuple(_needs(trained)))


def _needs(trained: Trained) -> Iterator[str]:
    if trained.regions is not None:
        yield (
            f"the model reads regions of an object detector, {trained.regions.width} numbers each; their file does not "
            "go along: predict, embed and test take that of new rows with --regions FILE"
        )


def check_free(to: Path) -> None:
    """Refuses to write over anything.

    Raises:
        ValueError: there is something.
    """
    if to.is_dir() and any(to.iterdir()):
        raise ValueError(f"--to {to}: exists and is not empty")
    if to.exists() and not to.is_dir():
        raise ValueError(f"--to {to}: exists and is no folder")


def write_folder(trained: Trained, folder: Path) -> None:
    """Copies of the model's files and of its encoders', and the manifest; loaded and compared.

    Raises:
        ValueError: an encoder that cannot be loaded, or a copy that is not what it was made from.
    """
    from trainables.trained import load_trained

    for name in _TRAINED:
        if (trained.folder / name).is_file():
            shutil.copyfile(trained.folder / name, folder / name)
    places = _copy_encoders(trained, folder)
    _save_drawn(trained, folder)
    write_manifest(folder, encoders=places)
    _check_same(trained, load_trained(folder, device="cpu"))


def _copy_encoders(trained: Trained, folder: Path) -> dict[str, str]:
    """Name -> its place in the folder, of encoders with weights."""
    from trainables.encoders.architectures import draws_weights
    from trainables.encoders.copies import copy_encoder
    from trainables.encoders.weights import encoder_places

    reads: dict[str, list[str]] = {}
    for modality, used in trained.facts.encoders.items():
        if not draws_weights(used.name) and not used.is_regions:
            reads.setdefault(used.name, []).append(modality)
    with encoder_places(trained.places):
        places = {
            name: copy_encoder(name, folder / ENCODERS / modalities[0], modalities=modalities)
            for name, modalities in reads.items()
        }
    return {name: place.relative_to(folder).as_posix() for name, place in places.items()}


def _save_drawn(trained: Trained, folder: Path) -> None:
    """What locked encoders without weights drew: no other version of torch need draw the same."""
    from safetensors.torch import save_file

    from trainables.checkpoint import locked_tensors
    from trainables.encoders.architectures import draws_weights
    from trainables.encoders.port import Port

    encoders = trained.facts.encoders
    if not any(draws_weights(used.name) for used in encoders.values()):
        return
    copied = tuple(
        f"{name}."
        for name, module in trained.model.named_modules()
        if isinstance(module, Port) and module.input.encoder and not draws_weights(module.input.encoder)
    )
    drawn = {
        name: tensor.contiguous().clone()  # tied ones are written twice
        for name, tensor in locked_tensors(trained.model).items()
        if not name.startswith(copied)
    }
    if drawn:
        (folder / DRAWN).parent.mkdir(exist_ok=True)
        save_file(drawn, folder / DRAWN)


def _check_same(trained: Trained, copy: Trained) -> None:
    one, other = _tensors(trained), _tensors(copy)
    different = [name for name, value in one.items() if name not in other or not value.equal(other[name])]
    if different or len(one) != len(other):
        raise ValueError(f"{trained.folder}: its copy is another model (first {different[:1]}); nothing was exported")


def _tensors(trained: Trained) -> dict[str, Tensor]:
    model = trained.model
    return dict(model.state_dict()) | {f"buffer {name}": buffer for name, buffer in model.named_buffers()}


@contextmanager
def _replacing_folder(to: Path) -> Iterator[Path]:
    """A temporary folder beside ``to``, which takes its name at the end, and goes if there was an error."""
    to.parent.mkdir(parents=True, exist_ok=True)
    temporary = to.with_name(f".{to.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        temporary.replace(to)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
