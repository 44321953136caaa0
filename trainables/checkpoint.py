"""Checkpoints: one safetensors file each, with the JSON state in its header, replaced as a whole.

``last.safetensors`` holds all that exact resume needs: what trains (and the buffers of unlocked modules),
both Adam moments, and in JSON the epoch, the best epoch so far, patience, plateau, scaler and dynamic
lambda, and every report so far. Seeds and orders are functions of (seed, epoch, rank) and need no state.
``best.safetensors`` holds the model alone. Locked modules are in neither: the config names their weights.
Each has a checksum over names, types, shapes, bytes and state: a flipped bit is no checkpoint.
"""

from __future__ import annotations

import errno
import json
import os
import re
import warnings
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from trainables.errors import StorageError
from trainables.files import replacing
from trainables.freezing import locked_names
from trainables.modelfolder import LAST as LAST
from trainables.modelfolder import WEIGHTS

BEST = WEIGHTS
_NO_MATTER = ("data_dir", "checkpoint_every_seconds")  # to what is trained


def save_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Replaces ``path`` as a whole by tensors and their JSON state.

    Raises:
        OSError: it cannot be written; ``path`` is as it was.
    """
    cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(state)
    with replacing(path) as temporary:
        try:
            save_file(cpu, temporary, metadata={"state": text, "checksum": _checksum(cpu, text)})
        except SafetensorError as error:  # which has the system's error in its text alone
            found = re.search(r"os error (\d+)", str(error))
            number = int(found[1]) if found else errno.EIO
            raise OSError(number, os.strerror(number), str(path)) from error


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, and the JSON state.

    Raises:
        ValueError: there is no such file, or it is no checkpoint of ours, or damaged.
        OSError: it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            metadata = file.metadata() or {}
        text, expected = metadata["state"], metadata["checksum"]
    except (FileNotFoundError, SafetensorError, KeyError) as error:
        raise ValueError(f"{path}: not a checkpoint ({error})") from None
    except OSError as error:
        raise OSError(error.errno or errno.EIO, str(error), str(path)) from error
    if _checksum(tensors, text) != expected:
        raise ValueError(f"{path}: not a checkpoint (its checksum is another: it was damaged)")
    return tensors, json.loads(text)


def load_if_whole(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """:func:`load_checkpoint`; None if there is no file, or a damaged one, of which a warning says so.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return load_checkpoint(path)
    except ValueError as error:
        if path.exists():
            warnings.warn(f"{error}; what it held is trained again", stacklevel=2)
        return None


def check_belongs(path: Path, state: dict[str, Any], *, config: dict[str, Any], fingerprint: str) -> None:
    """Refuses the state of a checkpoint that is not of this configuration and these data, wherever they lie.

    Raises:
        ValueError: naming what differs.
    """
    differing = [key for key in _differences(state["config"], config) if key not in _NO_MATTER]
    if differing:
        raise ValueError(f"{path}: belongs to another configuration; different: {', '.join(differing)}")
    if state["data"] != fingerprint:
        raise StorageError(f"{path}: belongs to other data; the files of dataset {config['dataset']} have changed")


def training_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All that going on with training takes, as 'model/...' and 'optimizer/...'."""
    named = {f"model/{name}": value for name, value in model_tensors(model).items()}
    return named | {f"optimizer/{name}": value for name, value in optimizer_tensors(model, optimizer).items()}


def load_training(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts back what :func:`training_tensors` gave.

    Raises:
        ValueError: tensors that do not fit the model.
    """
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}}
    for name, value in tensors.items():
        part, rest = name.split("/", 1)
        parts[part][rest] = value
    load_model(model, parts["model"])
    load_optimizer(model, optimizer, parts["optimizer"])


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of everything but locked modules."""
    locked = locked_names(model)
    return {name: value for name, value in model.state_dict().items() if name not in locked}


def load_model(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Puts back what :func:`model_tensors` gave.

    Raises:
        ValueError: names that are missing or that the model does not have, or other shapes.
    """
    expected = model_tensors(model)
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        raise ValueError(f"checkpoint does not fit the model: missing {missing[:5]}, unknown {unknown[:5]}")
    for name, value in expected.items():
        given = tensors[name].shape
        if given != value.shape:  # copy_ would broadcast it
            raise ValueError(f"checkpoint does not fit the model: {name} is {tuple(given)}, not {tuple(value.shape)}")
    with torch.no_grad():
        for name, value in expected.items():
            value.copy_(tensors[name])


def locked_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of locked modules, which no checkpoint has."""
    locked = locked_names(model)
    return {name: value for name, value in model.state_dict().items() if name in locked}


def load_locked(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Puts some of :func:`locked_tensors` back.

    Raises:
        ValueError: names that are not locked here, or other shapes.
    """
    locked = locked_tensors(model)
    for name, value in tensors.items():
        if name not in locked or locked[name].shape != value.shape:
            raise ValueError(f"the locked {name} {tuple(value.shape)} does not fit the model")
    with torch.no_grad():
        for name, value in tensors.items():
            locked[name].copy_(value)


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's tensors as 'parameter name/state name'."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts back what :func:`optimizer_tensors` gave.

    Moments take their parameter's strides: the fused kernel walks through all of them by memory, and a file
    has lost a channels-last layout. ``step`` lies with the parameter if fused, else on the CPU.
    """
    parameters = dict(model.named_parameters())
    for name, value in tensors.items():
        parameter_name, key = name.rsplit("/", 1)
        parameter = parameters[parameter_name]
        if key == "step":
            device = parameter.device if optimizer.defaults["fused"] else torch.device("cpu")
            optimizer.state[parameter][key] = value.to(device)
        else:
            optimizer.state[parameter][key] = torch.empty_like(parameter, requires_grad=False).copy_(value)


def _checksum(tensors: dict[str, Tensor], text: str) -> str:
    """crc32: several gigabytes a second, which a disk does not write."""
    value = zlib.crc32(text.encode())
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"


def _differences(one: dict[str, Any], other: dict[str, Any], prefix: str = "") -> list[str]:
    out = []
    for key in sorted(one.keys() | other.keys()):
        left, right = one.get(key), other.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            out += _differences(left, right, f"{prefix}{key}.")
        elif left != right:
            out.append(f"{prefix}{key}")
    return out
