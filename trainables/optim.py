"""AdamW with a learning rate a part of the model, and the schedule as a function of the step.

See docs/methods.md#optimiser.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import nn

from trainables.config import OptimConfig


def part_of(name: str) -> str:
    """'text', 'image' or 'head': which learning rate a parameter has, by the name it has in the model."""
    first = name.split(".", 1)[0]
    return next((part for part in ("text", "image") if first.startswith(part)), "head")


def layer_depths(model: nn.Module) -> dict[str, int]:
    """For each parameter of a text or image encoder how many of its layers lie above it; 0 for all others.

    Layers are what Hugging Face and torchvision call ``layer.3.``, ``layers.3.`` or ``layer3.``; an encoder's
    embeddings and stem lie below its first, its pooler and final norm above its last.
    """
    layers = {name: _LAYER.search(name) for name, _ in model.named_parameters() if part_of(name) != "head"}
    numbers = {name: int(match[1]) for name, match in layers.items() if match}
    tops: dict[str, int] = {}
    for name, number in numbers.items():
        part = part_of(name)
        tops[part] = max(tops.get(part, 0), number)
    bottoms = {part: min(n for name, n in numbers.items() if part_of(name) == part) for part in tops}
    depths = {}
    for name, _ in model.named_parameters():
        part = part_of(name)
        if name in numbers:
            depths[name] = tops[part] - numbers[name]
        elif part in tops and _BELOW.search(name):
            depths[name] = tops[part] - bottoms[part] + 1
        else:
            depths[name] = 0
    return depths


_LAYER = re.compile(r"(?:^|[._])(?:layers?|blocks)\.?(\d+)\.")
_BELOW = re.compile(r"embed|features\.(?:conv1|bn1)\.|_conv_stem|_bn0|pre_layrnorm")


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over what trains; biases, norms and scalars without weight decay. Each group keeps its ``base_lr``.

    A model with ``lr_mults``, names of parameters to factors, has those on top of their part's.
    """
    own: dict[str, float] = getattr(model, "lr_mults", {})
    multipliers = {"text": config.text_lr_mult, "image": config.image_lr_mult, "head": config.head_lr_mult}
    depths = layer_depths(model) if config.layer_decay < 1 else {}
    groups: dict[tuple[str, int, float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = part_of(name), depths.get(name, 0), own.get(name, 1.0), parameter.ndim > 1
            groups.setdefault(key, []).append(parameter)
    described: list[dict[str, Any]] = []
    for (part, depth, own_mult, is_matrix), parameters in groups.items():
        lr = config.lr * multipliers[part] * own_mult * config.layer_decay**depth
        weight_decay = config.weight_decay if is_matrix else 0.0
        described.append({"params": parameters, "lr": lr, "base_lr": lr, "weight_decay": weight_decay})
    return torch.optim.AdamW(described, betas=(config.beta1, config.beta2), fused=True)


def lr_factor(step: int, *, total: int, config: OptimConfig) -> float:
    """What the base learning rate is multiplied by at optimiser step ``step`` (0-based) of ``total``.

    Linear warm-up over ``warmup_ratio * total`` steps, then linear or cosine to 0, or constant
    (``plateau`` multiplies by its own factor as well).
    """
    warmup = round(config.warmup_ratio * total)
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule in ("constant", "plateau"):
        return 1.0
    progress = (step - warmup) / max(1, total - warmup)
    return 1 - progress if config.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
