"""Regions with a place: the cells of an image grid, or what an object detector found (docs/methods.md#vilbert).

Letters: B samples, P = s x s cells in reading order or P regions that were found, R = P + 1 regions with the whole
image, G features.
"""

from __future__ import annotations

import numpy as np
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


def packed_regions(features_PG: np.ndarray, boxes_P4: np.ndarray) -> np.ndarray:
    """Features, box and a one side by side, (P, G + 5) float16: a row of zeros is none; see :func:`unpacked_regions`.

    Args:
        features_PG: of the regions.
        boxes_P4: [x1, y1, x2, y2] of each in shares of the image's width and height.
    """
    ones_P1 = np.ones((len(features_PG), 1), np.float32)
    with np.errstate(over="ignore"):  # infinity is the caller's to see
        return np.concatenate([features_PG, boxes_P4, ones_P1], axis=1).astype(np.float16)


def unpacked_regions(packed_BPX: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features (B, P, G), boxes (B, P, 4), and a mask (B, P) of 1 where there is a region."""
    return packed_BPX[..., :-5], packed_BPX[..., -5:-1], packed_BPX[..., -1]


def placed_regions(image_BPX: Tensor, *, are_found: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """ViLBERT's regions, the whole image first: features (B, R, G), places (R, 5) or (B, R, 5), and a mask (B, R)
    where a picture may have fewer.

    Args:
        image_BPX: cells of a grid, (B, P, G), or found regions as :func:`packed_regions` lays them out.
        are_found: whether they are the latter.

    Raises:
        ValueError: the cells form no square.
    """
    if not are_found:
        return with_whole_image(image_BPX), grid_locations(image_BPX.shape[1], device=image_BPX.device), None
    features_BPG, boxes_BP4, mask_BP = unpacked_regions(image_BPX)
    whole_B15 = boxes_BP4.new_tensor([0, 0, 1, 1, 1]).expand(len(boxes_BP4), 1, 5)
    return (
        torch.cat([mean_region(features_BPG, mask_BP), features_BPG], dim=1),
        torch.cat([whole_B15, with_area(boxes_BP4)], dim=1),
        torch.cat([mask_BP.new_ones(len(mask_BP), 1), mask_BP], dim=1),
    )


def mean_region(features_BPG: Tensor, mask_BP: Tensor) -> Tensor:
    """The mean of the regions that there are, (B, 1, G); zeros where there are none."""
    total_B1G = (features_BPG * mask_BP.unsqueeze(2)).sum(dim=1, keepdim=True)
    return total_B1G / mask_BP.sum(dim=1).clamp(min=1)[:, None, None]


def with_area(boxes_BP4: Tensor) -> Tensor:
    """[x1, y1, x2, y2, share of the area]: (B, P, 5)."""
    sides_BP2 = boxes_BP4[..., 2:] - boxes_BP4[..., :2]
    return torch.cat([boxes_BP4, sides_BP2.prod(dim=-1, keepdim=True)], dim=-1)
