"""Encoders of what is neither text nor image: numbers, categories (user and item ids among them), graph neighbours.

Tensor letters: B batch, M numbers, K columns of categories, E neighbours, D width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from trainables.batch import Batch
from trainables.data.reading.scale import FARTHEST

_WIDEST = 64
_NODE_WIDTH = 64


class NumericEncoder(nn.Module):
    """z-scores (B, M), 0 where a value is missing, and one 0/1 feature for each column that had gaps in training.

    z-scores are computed in float64 and cut at ``FARTHEST`` deviations. Nothing here trains.
    """

    mean_M: Tensor
    std_M: Tensor

    def __init__(self, mean: np.ndarray, std: np.ndarray, has_missing: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("mean_M", torch.as_tensor(mean, dtype=torch.float64))
        self.register_buffer("std_M", torch.as_tensor(std, dtype=torch.float64))
        self.gaps = tuple(np.flatnonzero(has_missing).tolist())
        self.width = len(mean) + len(self.gaps)

    def forward(self, batch: Batch) -> Tensor:
        """(B, D)."""
        assert batch.numeric is not None
        z_BM = ((batch.numeric.double() - self.mean_M) / self.std_M).float()
        is_missing_BM = z_BM.isnan()
        values_BM = z_BM.masked_fill(is_missing_BM, 0).clamp(-FARTHEST, FARTHEST)
        return torch.cat([values_BM, is_missing_BM[:, list(self.gaps)].to(values_BM.dtype)], dim=1)


class CategoricalEncoder(nn.Module):
    """One learnt vector for each value of each column, side by side; code 0 (missing, unknown) is the zero vector.

    A column of n codes gets min(64, round(1.6 n^0.56)) features (the rule of fastai's tabular models).
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        widths = [min(_WIDEST, max(1, round(1.6 * size**0.56))) for size in sizes]
        self.tables = nn.ModuleList(
            nn.Embedding(size, width, padding_idx=0) for size, width in zip(sizes, widths, strict=True)
        )
        self.width = sum(widths)

    def forward(self, batch: Batch) -> Tensor:
        """(B, D)."""
        assert batch.categories is not None
        columns = batch.categories.unbind(dim=1)
        return torch.cat([table(codes_B) for table, codes_B in zip(self.tables, columns, strict=True)], dim=1)


class GraphEncoder(nn.Module):
    """Mean of the learnt vectors of a row's neighbours (GraphSAGE's mean aggregator, Hamilton et al. 2017, depth 1).

    A row without neighbours is the zero vector.
    """

    def __init__(self, num_nodes: int) -> None:
        super().__init__()
        self.nodes = nn.Embedding(num_nodes + 1, _NODE_WIDTH, padding_idx=0)
        self.width = _NODE_WIDTH

    def forward(self, batch: Batch) -> Tensor:
        """(B, D)."""
        assert batch.neighbours is not None
        count_B1 = (batch.neighbours > 0).sum(dim=1, keepdim=True).clamp(min=1)
        return self.nodes(batch.neighbours).sum(dim=1) / count_B1
