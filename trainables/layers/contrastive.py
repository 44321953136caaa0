"""The symmetric InfoNCE loss over the rows of a whole optimiser step, whichever ranks they are on.

van den Oord et al. 2018 (https://arxiv.org/abs/1807.03748), eq. 4; symmetric as in Radford et al. 2021
(https://arxiv.org/abs/2103.00020), figure 3. See docs/methods.md#contrastive.

Letters: B rows of this rank, N rows of all ranks, D width of the joint space.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.layers.across_ranks import gathered, gathered_with_gradient, row_counts, rows_before


def info_nce(image_BD: Tensor, text_BD: Tensor, scale: Tensor, key_B: Tensor, *, hardness: float = 0.0) -> Tensor:
    """The mean of both directions' cross-entropy: which of the N texts is this image's, and which image this text's.

    A sample is a candidate once, as its first row: its other rows (augmented copies) are neither right nor wrong.
    The gradient reaches every rank's embeddings.

    Args:
        image_BD: unit vectors.
        text_BD: unit vectors, row by row of the same samples.
        scale: what cosines are multiplied by, one over the temperature.
        key_B: which sample each row is of, see :func:`trainables.layers.across_ranks.sample_keys`.
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
    counts = row_counts(image_BD)
    own_B = torch.arange(len(key_B), device=key_B.device) + rows_before(counts)
    key_N = gathered(key_B, counts)
    number_N = torch.arange(len(key_N), device=key_N.device)
    is_first_N = (key_N[:, None] == key_N).int().argmax(dim=1) == number_N
    is_open_BN = (is_first_N & (key_B[:, None] != key_N)) | (own_B[:, None] == number_N)

    def loss_B(query_BD: Tensor, candidates_BD: Tensor) -> Tensor:
        cosine_BN = query_BD @ gathered_with_gradient(candidates_BD, counts).T
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
