"""Cells of an image grid as regions with a place, where there is no object detector (docs/methods.md#vilbert).

Letters: B samples, P = s x s cells in reading order, R = P + 1 regions, G features.
"""

from __future__ import annotations

import torch
from torch import Tensor


def grid_boxes(num_cells: int, *, device: torch.device | None = None) -> Tensor:
    """Corners [x1, y1, x2, y2] of each cell in shares of the image's width and height: (P, 4).

    Args:
        num_cells: P, a square number.
        device: of the result.

    Raises:
        ValueError: the cells form no square.
    """
    side = round(num_cells**0.5)
    if side * side != num_cells:
        raise ValueError(f"{num_cells} image tokens form no square grid")
    left_P = torch.arange(num_cells, device=device) % side
    top_P = torch.arange(num_cells, device=device) // side
    return torch.stack([left_P, top_P, left_P + 1, top_P + 1], dim=1) / side


def grid_locations(num_cells: int, *, device: torch.device | None = None) -> Tensor:
    """[x1, y1, x2, y2, share of the area] of the whole image, then of each cell: (R, 5); see :func:`grid_boxes`."""
    boxes_P4 = grid_boxes(num_cells, device=device)
    cells_P5 = torch.cat([boxes_P4, torch.full_like(boxes_P4[:, :1], 1 / num_cells)], dim=1)
    return torch.cat([cells_P5.new_tensor([[0, 0, 1, 1, 1]]), cells_P5])


def with_whole_image(cells_BPG: Tensor) -> Tensor:
    """The mean of the cells first, standing for the whole image, then the cells: (B, R, G)."""
    return torch.cat([cells_BPG.mean(dim=1, keepdim=True), cells_BPG], dim=1)
