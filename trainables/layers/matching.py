"""How well images and texts find each other: recall at K both ways over all rows of a split
(docs/methods.md#image_to_text_recall_at_k).

Letters: N rows, Q queries, D width of the joint space.
"""

from __future__ import annotations

import torch
from torch import Tensor

_AT = (1, 5, 10)
_SAME = 1e-5  # cosines nearer to 1 are of one text, whatever its padding
_TIED = 1e-12  # cosines nearer to each other are equal: products of equal rows differ in their last digits by place
_CHUNK = 1024  # rows compared at once


def matching_recalls(image_ND: Tensor, text_ND: Tensor) -> dict[str, float | int]:
    """Recall at 1, 5 and 10 in both directions, and among how many different texts.

    Rows with the same text are one text: an image has found its own where that text is found, and a text where one of
    its images is. Of equal cosines the wrong ones come first.

    Args:
        image_ND: of each row.
        text_ND: of each row, in the same space; neither need have length 1.
    """
    image_ND, text_ND = (part.double() / part.double().norm(dim=1, keepdim=True) for part in (image_ND, text_ND))
    rows = torch.arange(len(text_ND))
    group_N = torch.cat([(part @ text_ND.T > 1 - _SAME).int().argmax(dim=1) for part in text_ND.split(_CHUNK)])
    is_first_N = group_N == rows
    texts_KD, texts_K = text_ND[is_first_N], rows[is_first_N]
    found: dict[str, float | int] = {}
    to_text = _ranks(image_ND, group_N, texts_KD, texts_K)
    to_image = _ranks(texts_KD, texts_K, image_ND, group_N)
    for direction, rank_Q in (("image_to_text", to_text), ("text_to_image", to_image)):
        found |= {f"{direction}_recall_at_{k}": float((rank_Q <= k).double().mean()) for k in _AT}
    return found | {"different_texts": len(texts_K)}


def _ranks(query_QD: Tensor, group_Q: Tensor, target_KD: Tensor, group_K: Tensor) -> Tensor:
    """(Q,) the place of the nearest target of a query's own group, from 1."""
    parts = []
    for queries, groups in zip(query_QD.split(_CHUNK), group_Q.split(_CHUNK), strict=True):
        cosine = queries @ target_KD.T
        is_own = groups[:, None] == group_K
        best = cosine.masked_fill(~is_own, -2.0).amax(dim=1, keepdim=True)
        parts.append(1 + ((cosine >= best - _TIED) & ~is_own).sum(dim=1))
    return torch.cat(parts)
