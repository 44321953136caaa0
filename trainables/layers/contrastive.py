"""The symmetric InfoNCE loss over the rows of a whole optimiser step, whichever ranks they are on.

van den Oord et al. 2018 (https://arxiv.org/abs/1807.03748), eq. 4; symmetric as in Radford et al. 2021
(https://arxiv.org/abs/2103.00020), figure 3. See docs/methods.md#contrastive.

Letters: B rows of this rank, N rows of all ranks, D width of the joint space.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.layers.across_ranks import gathered, gathered_with_gradient, row_counts, rows_before

_ODD = 0x5851F42D4C957F2D  # Knuth's multiplier
_MIX = (0x3F58476D1CE4E5B9, 0x14D049BB133111EB)


def info_nce(
    image_BD: Tensor,
    text_BD: Tensor,
    scale: Tensor,
    key_B: Tensor,
    *,
    text_key_B: Tensor | None = None,
    labels: Tensor | None = None,
    same_class: float = 1.0,
    hardness: float = 0.0,
) -> Tensor:
    """The mean of both directions' cross-entropy: which of the N texts is this image's, and which image this text's.

    A sample is a candidate once, as its first row: its other rows (augmented copies) are neither right nor wrong, and
    no more are samples with the same text. The gradient reaches every rank's embeddings.

    Args:
        image_BD: unit vectors.
        text_BD: unit vectors, row by row of the same samples.
        scale: what cosines are multiplied by, one over the temperature.
        key_B: which sample each row is of, see :func:`trainables.layers.across_ranks.sample_keys`.
        text_key_B: which text each row has, see :func:`text_keys`; None: all have different ones.
        labels: classes (B,) or, of several a row, (B, C) with 1 for each; needed where ``same_class`` is above 1.
        same_class: how often a wrong pair counts whose two samples share a class.
        hardness: beta of Robinson et al. 2021 (https://arxiv.org/abs/2010.04592), eq. 4: wrong pairs count in
            proportion to exp(beta scale cosine), by one on average; 0 counts all alike.

    Returns:
        (B,) float32, a value a row.
    """
    with torch.autocast(image_BD.device.type, enabled=False):  # cosines times a hundred need their digits
        args = (image_BD.float(), text_BD.float(), scale, key_B, text_key_B, labels, same_class, hardness)
        return _info_nce(*args)  # pyright: ignore (loses the signature in torch.compiler.disable)


def text_keys(input_ids_BL: Tensor, attention_mask_BL: Tensor) -> Tensor:
    """(B,) int64: the same for the same tokens, however long the padding; of others only by chance (2^-60)."""
    power_L = torch.full((input_ids_BL.shape[1],), _ODD, dtype=torch.int64, device=input_ids_BL.device).cumprod(dim=0)
    values_BL = (input_ids_BL.long() + 1) * power_L  # modulo 2^64
    return (_mixed(values_BL) * (attention_mask_BL > 0)).sum(dim=1)


def _mixed(value: Tensor) -> Tensor:
    """Other bits for each number, so that sums of them are not alike (splitmix64's second round)."""
    for factor in _MIX:
        value = (value ^ ((value >> 31) & 0x1FFFFFFFF)) * factor
    return value


@torch.compiler.disable
def _info_nce(
    image_BD: Tensor,
    text_BD: Tensor,
    scale: Tensor,
    key_B: Tensor,
    text_key_B: Tensor | None,
    labels: Tensor | None,
    same_class: float,
    hardness: float,
) -> Tensor:
    counts = row_counts(image_BD)
    own_B = torch.arange(len(key_B), device=key_B.device) + rows_before(counts)
    key_N = gathered(key_B, counts)
    number_N = torch.arange(len(key_N), device=key_N.device)
    is_first_N = (key_N[:, None] == key_N).int().argmax(dim=1) == number_N
    is_wrong_BN = is_first_N & (key_B[:, None] != key_N)
    if text_key_B is not None:
        is_wrong_BN = is_wrong_BN & (text_key_B[:, None] != gathered(text_key_B, counts))
    is_open_BN = is_wrong_BN | (own_B[:, None] == number_N)
    is_hard_BN = None
    if same_class > 1:
        assert labels is not None
        is_hard_BN = is_wrong_BN & _share_a_class(labels, gathered(labels, counts))

    def loss_B(query_BD: Tensor, candidates_BD: Tensor) -> Tensor:
        cosine_BN = query_BD @ gathered_with_gradient(candidates_BD, counts).T
        logits_BN = (scale * cosine_BN).masked_fill(~is_open_BN, -torch.inf)
        similar_BN = logits_BN.detach()
        if hardness > 0:
            logits_BN = logits_BN + _log_counts(similar_BN, is_wrong_BN, hardness)
        if is_hard_BN is not None:
            logits_BN = logits_BN + math.log(same_class) * is_hard_BN
        return F.cross_entropy(logits_BN, own_B, reduction="none")

    return (loss_B(image_BD, text_BD) + loss_B(text_BD, image_BD)) / 2


def _share_a_class(labels: Tensor, others: Tensor) -> Tensor:
    """(B, N) bool."""
    if labels.ndim == 1:
        return labels[:, None] == others
    return (labels > 0).float() @ (others > 0).float().T > 0


def _log_counts(logits_BN: Tensor, is_wrong_BN: Tensor, hardness: float) -> Tensor:
    """Logarithms of how often each wrong candidate counts, by one on average; 0 elsewhere."""
    log_share_BN = (hardness * logits_BN).masked_fill(~is_wrong_BN, -torch.inf).log_softmax(dim=1)
    log_number_B1 = is_wrong_BN.sum(dim=1, keepdim=True).clamp(min=1).log()
    return torch.where(is_wrong_BN, log_share_BN + log_number_B1, torch.zeros_like(logits_BN))
