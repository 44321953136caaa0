"""What the layers of a model attend to: the weights of every attention in a forward, and which token is what.

Fused kernels give no weights, so transformers' models run their eager attention meanwhile. H heads, T tokens of a
sequence that attends to itself, N tokens that attend to M others, L tokens of a text, P cells of a picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainables.batch import Batch
    from trainables.trained import Trained

_LAYER = re.compile(r"^(.*?\.?(?:layer|layers|\w+_layers))\.(\d+)\.")


@dataclass(frozen=True)
class Weights:
    """Of one attention.

    Attributes:
        path: of its module in the model.
        maps_HNM: each row sums to 1.
    """

    path: str
    maps_HNM: np.ndarray


@dataclass(frozen=True)
class Stack:
    """Layers of a sequence that attends to itself.

    Attributes:
        name: 'text', 'image' or 'joint'; 'text-2' of layers above others.
        layers: (H, T, T) of each, the lowest first.
        words: position -> index of the token of the text.
        cells: (P,) positions of the picture's cells, in reading order.
    """

    name: str
    layers: list[np.ndarray]
    words: dict[int, int]
    cells: np.ndarray


def weights(trained: Trained, batch: Batch) -> list[Weights]:
    """Of every attention in the forward of a single raw sample, in the order of execution."""
    import torch

    with recording(trained.model) as found, torch.inference_mode():
        trained.model(batch)
    return found


def rollout(layers: list[np.ndarray]) -> np.ndarray:
    """(T, T): what each token is of those that came in (Abnar and Zuidema 2020).

    The product over layers of (A + I) / 2, A the mean over the heads, rows made to sum to 1, the highest layer first.
    A token that joined behind a layer is itself there.
    """
    size = len(layers[-1][0])
    product = np.eye(size)
    for maps_HTT in layers:
        mean = np.eye(size)
        mean[: maps_HTT.shape[1], : maps_HTT.shape[1]] = maps_HTT.astype(np.float64).mean(axis=0)
        mixed = (mean + np.eye(size)) / 2
        product = mixed / mixed.sum(axis=1, keepdims=True) @ product
    return product


def stacks(trained: Trained, batch: Batch) -> list[Stack]:
    """The stacks of self-attention of a model on a sample, and which of their tokens is what."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for one in weights(trained, batch):
        place = _LAYER.match(one.path)
        is_square = one.maps_HNM.shape[1] == one.maps_HNM.shape[2]
        if place is not None and is_square and not place[1].startswith(("cross_layers", "connections")):
            found.setdefault(place[1], {}).setdefault(int(place[2]), one.maps_HNM)
    made = []
    for prefix, layers in found.items():
        ordered = [layers[number] for number in sorted(layers)]
        places = _places(trained, batch, prefix, len(ordered[-1][0]))
        if places is not None:
            twice = sum(stack.name.partition("-")[0] == places[0] for stack in made)
            name = f"{places[0]}-{twice + 1}" if twice else places[0]  # locked layers, and those above them
            made.append(Stack(name, ordered, places[1], places[2]))
    return made


def _places(trained: Trained, batch: Batch, prefix: str, size: int) -> tuple[str, dict[int, int], np.ndarray] | None:
    """Name, words and cells of a stack of ``size`` tokens; None of one whose first token nobody pools."""
    family, nothing = trained.config.family, np.zeros(0, np.int64)
    length = 0 if batch.input_ids is None else batch.input_ids.shape[1]
    whole_text = {at: at for at in range(length)}
    if prefix.startswith("text.encoder") or (prefix.startswith("ports.text") and "encoder" in prefix):
        return "text", whole_text, nothing
    if prefix.startswith(("image.encoder", "ports.image", "image_model")):
        num = _square(size - 1)
        return "image", {}, 1 + np.arange(num)
    if family in ("flava", "mmbv") and prefix.startswith("text_model"):
        return "text", whole_text, nothing
    if family == "flava" and prefix.startswith("joint_model"):  # its own [CLS], the picture's, cells, words
        first = size - length
        return "joint", {first + at: at for at in range(length)}, np.arange(2, first)
    if family == "vilt":  # words, the picture's [CLS], cells
        return "joint", whole_text, np.arange(length + 1, size)
    if family in ("mmbt", "lit_tirg"):  # [CLS], cells, [SEP], words without their own first
        first = size - (length - 1)
        return "joint", {first + at: 1 + at for at in range(length - 1)}, np.arange(1, first - 1)
    if family == "vilbert" and prefix == "text_layers":
        return "text", whole_text, nothing
    if family == "vilbert" and trained.config.model.architecture == "vilbert":  # the whole picture, then cells
        return "image", {}, np.arange(1, size)
    if family == "fusion" and prefix.startswith("joint"):
        return "joint", *_of_modalities(trained, size, length)
    return None


def _of_modalities(trained: Trained, size: int, length: int) -> tuple[dict[int, int], np.ndarray]:
    """Of fusion, intermediate: [CLS], then the tokens of each modality; of others than text and image one."""
    names = trained.modalities
    others = sum(name not in ("text", "image") for name in names)
    num_cells = size - 1 - others - (length if "text" in names else 0)
    at, words, cells = 1, {}, np.zeros(0, np.int64)
    for name in names:
        num = {"text": length, "image": num_cells}.get(name, 1)
        if name == "text":
            words = {at + token: token for token in range(num)}
        elif name == "image":
            cells = at + np.arange(num)
        at += num
    return words, cells


def _square(num: int) -> int:
    """The largest square up to a number: what joined behind a picture's cells is none of them."""
    return int(num**0.5 + 1e-9) ** 2


@contextmanager
def recording(model: nn.Module) -> Iterator[list[Weights]]:
    """While it lasts, whatever attends in ``model`` leaves its weights of the first sample in the list."""
    from torch import nn

    from trainables.layers.co_attention import CoAttention

    found: list[Weights] = []
    configs = {id(config): config for module in model.modules() if (config := _config_of(module)) is not None}
    before = [(config, config._attn_implementation) for config in configs.values()]
    hooks = []
    for path, module in model.named_modules():
        if isinstance(module, CoAttention):
            hooks.append(module.register_forward_pre_hook(partial(_keep_maps, found, path), with_kwargs=True))
        elif isinstance(module, nn.MultiheadAttention):
            hooks.append(module.register_forward_pre_hook(_ask_for_weights, with_kwargs=True))
            hooks.append(module.register_forward_hook(partial(_keep_second, found, path)))
        elif hasattr(module, "query") and isinstance(drop := getattr(module, "dropout", None), nn.Module):
            hooks.append(drop.register_forward_hook(partial(_keep, found, path)))
            hooks.append(module.register_forward_hook(partial(_keep_second, found, path)))
        elif type(module).__name__.endswith("Attention"):
            hooks.append(module.register_forward_hook(partial(_keep_second, found, path)))
    try:
        for config in configs.values():
            config._attn_implementation = "eager"
        yield found
    finally:
        for hook in hooks:
            hook.remove()
        for config, kind in before:
            config._attn_implementation = kind


def _config_of(module: Any) -> Any:
    config = getattr(module, "config", None)
    return config if getattr(config, "_attn_implementation", None) is not None else None


def _ask_for_weights(_: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return args, {**given, "need_weights": True, "average_attn_weights": False}


def _keep_maps(found: list[Weights], path: str, module: Any, args: tuple[Any, ...], given: dict[str, Any]) -> None:
    for name, maps in zip(("text_reads", "image_reads"), module.maps(*args, **given), strict=True):
        found.append(Weights(f"{path}.{name}", maps[0].float().cpu().numpy()))


def _keep_second(found: list[Weights], path: str, _: nn.Module, args: Any, out: Any) -> None:
    if isinstance(out, tuple) and len(out) > 1:
        _keep(found, path, _, args, out[1])


def _keep(found: list[Weights], path: str, _: nn.Module, args: Any, maps: Tensor | None) -> None:
    if maps is not None and getattr(maps, "ndim", 0) == 4:
        found.append(Weights(path, maps[0].float().cpu().numpy()))
