"""Mixed precision: which numbers a forward computes in, and the loss scale that fp16 needs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

SMALLEST_SCALE = 1.0  # of the fp16 loss; below it even plain gradients overflow, and no step is ever taken


@dataclass(frozen=True)
class Precision:
    """How a trial computes.

    Attributes:
        autocast: a new context for each forward.
        scaler: scales the loss of fp16, whose gradients would vanish otherwise; None for other types.
    """

    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    scaler: torch.amp.GradScaler | None = None


def choose_precision(name: str, device: torch.device) -> Precision:
    """What ``precision: name`` means on this device; auto: bf16 where a GPU has it, else fp16; fp32 on the CPU.

    Raises:
        ValueError: fp16 without a GPU.
    """
    if name == "auto":
        has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        name = "fp32" if device.type == "cpu" else "bf16" if has_bf16 else "fp16"
    if name == "fp32":
        return Precision()
    if name == "fp16" and device.type == "cpu":
        raise ValueError("precision: fp16 needs a GPU; use auto, bf16 or fp32")
    dtype = torch.bfloat16 if name == "bf16" else torch.float16
    scaler = torch.amp.GradScaler(device.type) if name == "fp16" else None
    return Precision(lambda: torch.autocast(device.type, dtype=dtype), scaler)
