"""The symmetric InfoNCE loss over the rows of a whole optimiser step, whichever ranks they are on.

van den Oord et al. 2018 (https://arxiv.org/abs/1807.03748), eq. 4; symmetric as in Radford et al. 2021
(https://arxiv.org/abs/2103.00020), figure 3. See docs/methods.md#contrastive.

Letters: B rows of this rank, N rows of all ranks, D width of the joint space.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
import torch.distributed
from torch import Tensor
from torch.nn import functional as F

from trainables.layers.batch_norm import num_ranks


def sample_keys(ids: list[str]) -> Tensor:
    """(B,) int64: the same for the same sample, clean or augmented, on every rank."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return torch.tensor([int.from_bytes(digest, "big", signed=True) for digest in digests], dtype=torch.int64)


def info_nce(image_BD: Tensor, text_BD: Tensor, scale: Tensor, key_B: Tensor, *, hardness: float = 0.0) -> Tensor:
    """The mean of both directions' cross-entropy: which of the N texts is this image's, and which image this text's.

    A sample is a candidate once, as its first row: its other rows (augmented copies) are neither right nor wrong.
    The gradient reaches every rank's embeddings.

    Args:
        image_BD: unit vectors.
        text_BD: unit vectors, row by row of the same samples.
        scale: what cosines are multiplied by, one over the temperature.
        key_B: which sample each row is of, see :func:`sample_keys`.
        hardness: beta of Robinson et al. 2021 (https://arxiv.org/abs/2010.04592), eq. 4: wrong pairs count in
            proportion to exp(beta scale cosine), by one on average; 0 counts all alike.

    Returns:
        (B,) float32, a value a row.
    """
    with torch.autocast(image_BD.device.type, enabled=False):  # cosines times a hundred need their digits
        pair = image_BD.float(), text_BD.float()
        return _info_nce(*pair, scale, key_B, hardness)  # pyright: ignore (loses the signature in torch.compiler.disable)


@torch.compiler.disable
def _info_nce(image_BD: Tensor, text_BD: Tensor, scale: Tensor, key_B: Tensor, hardness: float) -> Tensor:
    counts = _counts(image_BD)
    own_B = torch.arange(len(key_B), device=key_B.device) + sum(counts[: _rank()])
    key_N = _gathered(key_B, counts)
    number_N = torch.arange(len(key_N), device=key_N.device)
    is_first_N = (key_N[:, None] == key_N).int().argmax(dim=1) == number_N
    is_open_BN = (is_first_N & (key_B[:, None] != key_N)) | (own_B[:, None] == number_N)

    def loss_B(query_BD: Tensor, candidates_BD: Tensor) -> Tensor:
        cosine_BN = query_BD @ _Gather.apply(candidates_BD, counts).T  # pyright: ignore (torch types no apply)
        logits_BN = (scale * cosine_BN).masked_fill(~is_open_BN, -torch.inf)
        if hardness > 0:
            is_wrong_BN = is_open_BN & (own_B[:, None] != number_N)
            logits_BN = logits_BN + _log_counts(logits_BN.detach(), is_wrong_BN, hardness)
        return F.cross_entropy(logits_BN, own_B, reduction="none")

    return (loss_B(image_BD, text_BD) + loss_B(text_BD, image_BD)) / 2


def _log_counts(logits_BN: Tensor, is_wrong_BN: Tensor, hardness: float) -> Tensor:
    """Logarithms of how often each wrong candidate counts, by one on average; 0 elsewhere."""
    log_share_BN = (hardness * logits_BN).masked_fill(~is_wrong_BN, -torch.inf).log_softmax(dim=1)
    log_number_B1 = is_wrong_BN.sum(dim=1, keepdim=True).clamp(min=1).log()
    return torch.where(is_wrong_BN, log_share_BN + log_number_B1, torch.zeros_like(logits_BN))


def _rank() -> int:
    return torch.distributed.get_rank() if num_ranks() > 1 else 0


def _counts(rows: Tensor) -> list[int]:
    """How many rows each rank has."""
    if num_ranks() == 1:
        return [len(rows)]
    mine = torch.tensor([len(rows)], device=rows.device)
    every = [torch.empty_like(mine) for _ in range(num_ranks())]
    torch.distributed.all_gather(every, mine)
    return [int(count) for count in every]


def _gathered(rows: Tensor, counts: list[int]) -> Tensor:
    """The rows of all ranks, one rank behind the other."""
    if len(counts) == 1:
        return rows
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    every = [torch.empty_like(padded) for _ in counts]
    torch.distributed.all_gather(every, padded)
    return torch.cat([part[:count] for part, count in zip(every, counts, strict=True)])


class _Gather(torch.autograd.Function):
    """:func:`_gathered`; backwards the sum over ranks of what each wants of this rank's rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        return _gathered(rows, counts).clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        grad, counts = grads[0].clone(memory_format=torch.contiguous_format), ctx.counts
        if len(counts) > 1:
            torch.distributed.all_reduce(grad)
        begin = sum(counts[: _rank()])
        return grad[begin : begin + counts[_rank()]], None
