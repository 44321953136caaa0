"""Rows of all ranks in one place, with their gradients: for losses that compare the rows of a whole optimiser step."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from trainables.layers.batch_norm import num_ranks


def sample_keys(ids: list[str]) -> Tensor:
    """(B,) int64: the same for the same sample, clean or augmented, on every rank."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return torch.tensor([int.from_bytes(digest, "big", signed=True) for digest in digests], dtype=torch.int64)


def row_counts(rows: Tensor) -> list[int]:
    """How many rows each rank has."""
    if num_ranks() == 1:
        return [len(rows)]
    mine = torch.tensor([len(rows)], device=rows.device)
    every = [torch.empty_like(mine) for _ in range(num_ranks())]
    torch.distributed.all_gather(every, mine)
    return [int(count) for count in every]


def rows_before(counts: list[int]) -> int:
    """How many rows the ranks before this one have."""
    return sum(counts[: _rank()])


def gathered(rows: Tensor, counts: list[int]) -> Tensor:
    """The rows of all ranks, one rank behind the other; without a gradient."""
    if len(counts) == 1:
        return rows
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    every = [torch.empty_like(padded) for _ in counts]
    torch.distributed.all_gather(every, padded)
    return torch.cat([part[:count] for part, count in zip(every, counts, strict=True)])


def gathered_with_gradient(rows: Tensor, counts: list[int]) -> Tensor:
    """:func:`gathered`; backwards the sum over ranks of what each wants of this rank's rows."""
    return _Gather.apply(rows, counts)  # pyright: ignore (torch types no apply)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        return gathered(rows, counts).clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        grad, counts = grads[0].clone(memory_format=torch.contiguous_format), ctx.counts
        if len(counts) > 1:
            torch.distributed.all_reduce(grad)
        begin = rows_before(counts)
        return grad[begin : begin + counts[_rank()]], None


def _rank() -> int:
    return torch.distributed.get_rank() if num_ranks() > 1 else 0
