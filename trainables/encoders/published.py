"""Weights as the authors of ViLBERT and LXMERT handed them out, read into modules that call things otherwise.

    jiasenlu/vilbert_beta: pytorch_model_*.bin
    MMF: .pth or .ckpt, the same names below 'model'
    airsplay/lxmert: *_LXRT.pth

Whatever a module has must be in the file, in its shape; what the file has beside it is named in a warning. Nothing but
tensors is unpickled. A trained model that is loaded has its weights already: :func:`without_published`.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

KEY = "model.weights"
_READS: ContextVar[bool] = ContextVar("reads_published", default=True)
_UNREADABLE = (  # what torch raises for files that are something else, or not all there
    *(OSError, RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError, AssertionError),
    *(struct.error, pickle.UnpicklingError, SafetensorError),
)
_WRAPPERS = ("module.", "model.", "bert.")

Names = Sequence[tuple[str, str]]

_ALIKE = ((r"text_embeddings\.", "embeddings."), (r"text_layers\.", "encoder.layer."))
_CONNECTION = r"connections\.(\d+)\."
VILBERT_NAMES: Names = (
    *_ALIKE,
    (r"regions\.", "v_embeddings.image_embeddings."),
    (r"places\.", "v_embeddings.image_location_embeddings."),
    (r"region_norm\.0\.", "v_embeddings.LayerNorm."),
    (r"vision_layers\.", "encoder.v_layer."),
    (r"pool_text_stream\.0\.", "t_pooler.dense."),
    (r"pool_image_stream\.0\.", "v_pooler.dense."),
    *(  # 1 is the image there and 2 the text; who reads asks with its own query, and for the other's key and value
        (rf"{_CONNECTION}{stream}_reads\.{ours}\.", rf"encoder.c_layer.\1.{theirs}.")
        for stream, mine, other, short in (("image", 1, 2, "v"), ("text", 2, 1, "t"))
        for ours, theirs in (
            ("query", f"biattention.query{mine}"), ("key", f"biattention.key{other}"),
            ("value", f"biattention.value{other}"), ("out", f"biOutput.dense{mine}"),
            ("out_norm", f"biOutput.LayerNorm{mine}"), (r"feed_forward\.0", f"{short}_intermediate.dense"),
            (r"feed_forward\.2", f"{short}_output.dense"), ("feed_forward_norm", f"{short}_output.LayerNorm"),
        )
    ),
)  # fmt: skip
LXMERT_NAMES: Names = (
    *_ALIKE,
    (r"regions\.", "encoder.visn_fc."),
    (r"vision_layers\.", "encoder.r_layers."),
    (r"cross_layers\.", "encoder.x_layers."),
    (r"pooler\.", "pooler."),
)


@contextmanager
def without_published() -> Iterator[None]:
    """Meanwhile modules are built as if no file were given: their weights come from elsewhere."""
    before = _READS.set(False)
    try:
        yield
    finally:
        _READS.reset(before)


def load_published(model: nn.Module, path: str, *, names: Names, own: tuple[str, ...]) -> None:
    """Copies a file's weights into a model; on the meta device it is only compared.

    Args:
        model: whose parameters are filled.
        path: of the file.
        names: patterns of the model's names, and what they are called in the file; the first that fits is taken.
        own: beginnings of the model's names that no file has, a head's.

    Raises:
        ValueError: the file cannot be read, lacks tensors of the model, or has them in other shapes.
    """
    if not _READS.get():
        return
    given, wanted = _tensors(Path(path).expanduser()), {}
    for name, parameter in model.named_parameters():
        if not name.startswith(own):
            wanted[_renamed(name, names)] = parameter
    _check(path, given, wanted)
    with torch.no_grad():
        for name, parameter in wanted.items():
            if parameter.device.type != "meta":
                parameter.copy_(given[name])
    unused = sorted(given.keys() - wanted.keys())
    if unused:
        warnings.warn(f"{KEY} {path}: {_some(unused)} are not used", stacklevel=2)


def _renamed(name: str, names: Names) -> str:
    for pattern, theirs in names:
        found, times = re.subn(f"^{pattern}", theirs, name)
        if times:
            return found
    raise AssertionError(f"{name} has no published name")


def _check(path: str, given: Mapping[str, Tensor], wanted: Mapping[str, nn.Parameter]) -> None:
    missing = sorted(wanted.keys() - given.keys())
    if missing:
        raise ValueError(
            f"{KEY}: {path} lacks {len(missing)} of {len(wanted)} tensors: {_some(missing)}; it has {len(given)}: "
            f"{_some(sorted(given))}"
        )
    other = [
        f"{name} is {tuple(given[name].shape)} there and {tuple(parameter.shape)} here"
        for name, parameter in wanted.items()
        if given[name].shape != parameter.shape
    ]
    if other:
        raise ValueError(f"{KEY}: {path} is of a model of other sizes: {_some(other)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _tensors(path: Path) -> Mapping[str, Tensor]:
    """Name -> tensor, without what wrappers put before the names."""
    if not path.is_file():
        raise ValueError(f"{KEY}: {path}: no such file")
    stat = path.stat()
    return _read(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1)
def _read(path: Path, size: int, time: int) -> Mapping[str, Tensor]:
    try:
        with torch.device("cpu"), warnings.catch_warnings():  # of pickles that torch did not write
            warnings.simplefilter("ignore", UserWarning)
            found: Any = load_file(path) if path.suffix == ".safetensors" else _load(path)
    except _UNREADABLE as error:
        what = "holds more than tensors, or none" if isinstance(error, pickle.UnpicklingError) else "cannot be read"
        raise ValueError(f"{KEY}: {path} {what}; a file of a state dict is needed") from None
    for name in ("model", "state_dict"):
        found = found[name] if isinstance(found, dict) and isinstance(found.get(name), dict) else found
    given = found.items() if isinstance(found, dict) else ()
    found = {_bare(name): value for name, value in given if isinstance(name, str) and isinstance(value, Tensor)}
    if not found:
        raise ValueError(f"{KEY}: {path} holds no named tensors")
    return found


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:  # of a file from before torch 1.6
        return torch.load(path, map_location="cpu", weights_only=True)


def _bare(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return re.sub(r"LayerNorm\.(gamma|beta)$", lambda found: f"LayerNorm.{_NORM[found[1]]}", name)


_NORM = {"gamma": "weight", "beta": "bias"}
