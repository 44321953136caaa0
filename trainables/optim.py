"""AdamW with a learning rate a part of the model, and the schedule as a function of the step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from trainables.config import OptimConfig


def part_of(name: str) -> str:
    """'text', 'image' or 'head': which learning rate a parameter has, by the name it has in the model."""
    first = name.split(".", 1)[0]
    return next((part for part in ("text", "image") if first.startswith(part)), "head")


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over what trains; biases, norms and scalars without weight decay. Each group keeps its ``base_lr``."""
    multipliers = {"text": config.text_lr_mult, "image": config.image_lr_mult, "head": config.head_lr_mult}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((part_of(name), parameter.ndim > 1), []).append(parameter)
    described: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": config.lr * multipliers[part],
            "base_lr": config.lr * multipliers[part],
            "weight_decay": config.weight_decay if is_matrix else 0.0,
        }
        for (part, is_matrix), parameters in groups.items()
    ]
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
