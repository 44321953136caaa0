"""Fewer image tokens: a square grid of them pooled to cells.

Tensor letters: B batch, P image tokens, N cells, D width, h x w the grid.
"""

from __future__ import annotations

from torch import Tensor, nn

_GRIDS = {1: (1, 1), 2: (2, 1), 3: (3, 1), 4: (2, 2), 5: (5, 1), 6: (3, 2), 7: (7, 1), 8: (4, 2), 9: (3, 3)}


def pool_grid(tokens_BPD: Tensor, *, num_tokens: int, is_max: bool = False) -> Tensor:
    """Adaptive average (or maximum) pool of a square token grid to ``num_tokens`` cells (Kiela et al. 2019): (B, N, D).

    Raises:
        ValueError: the tokens form no square, or ``num_tokens`` is neither 1 to 9 nor a square number.
    """
    side = round(tokens_BPD.shape[1] ** 0.5)
    if side * side != tokens_BPD.shape[1]:
        raise ValueError(f"{tokens_BPD.shape[1]} image tokens form no square grid")
    root = round(num_tokens**0.5)
    grid = _GRIDS.get(num_tokens) or ((root, root) if root * root == num_tokens else None)
    if grid is None:
        raise ValueError(f"num_image_tokens: {num_tokens} is neither 1 to 9 nor a square number")
    map_BDhw = tokens_BPD.transpose(1, 2).unflatten(2, (side, side))
    pool = nn.functional.adaptive_max_pool2d if is_max else nn.functional.adaptive_avg_pool2d
    return pool(map_BDhw, grid).flatten(2).transpose(1, 2)  # pyright: ignore[reportAttributeAccessIssue]
