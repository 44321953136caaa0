"""TIRG: a gated image plus a residual, both computed from image and text (Vo et al. 2019; code google/tirg;
docs/methods.md#tirg).

Letters: B samples, D features of each modality, E = 2 D.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from trainables.layers.batch_norm import BatchNorm

Norm = Literal["batch", "layer", "none"]


class Tirg(nn.Module):
    """w_g sigmoid(gate) * image + w_r residual, from c = [image; text], image first.

    gate = Linear(2D, D)(ReLU(Norm(c))), as in the authors' code; the paper has one more Linear-ReLU.
    residual = Linear(2D, D)(ReLU(Linear(2D, 2D)(ReLU(Norm(c))))), with a Norm of its own.

    Args:
        dim: D.
        norm: 'batch' as published, over the whole batch of a step; 'layer' and 'none' do not depend on the batch.
        gate_layers: Linear layers of the gate: 1 as in the code, 2 as in the paper.
        w_g: initial weight of the gated image; learnt.
        w_r: initial weight of the residual; learnt, but AdamW hardly moves it, so what it starts from counts.
    """

    def __init__(
        self,
        dim: int,
        *,
        norm: Norm = "batch",
        gate_layers: Literal[1, 2] = 1,
        w_g: float = 1.0,
        w_r: float = 10.0,
    ) -> None:
        super().__init__()
        self.gate = _branch(dim, norm=norm, num_layers=gate_layers)
        self.residual = _branch(dim, norm=norm, num_layers=2)
        self.w_g = nn.Parameter(torch.tensor(float(w_g)))
        self.w_r = nn.Parameter(torch.tensor(float(w_r)))

    def forward(self, image_BD: Tensor, text_BD: Tensor) -> Tensor:
        """The fused features, (B, D)."""
        both_BE = torch.cat([image_BD, text_BD], dim=1)
        return self.w_g * self.gate(both_BE).sigmoid() * image_BD + self.w_r * self.residual(both_BE)


def _branch(dim: int, *, norm: Norm, num_layers: int) -> nn.Sequential:
    norms = {"batch": BatchNorm, "layer": nn.LayerNorm, "none": nn.Identity}
    layers: list[nn.Module] = [norms[norm](2 * dim)]
    for _ in range(num_layers - 1):
        layers += [nn.ReLU(), nn.Linear(2 * dim, 2 * dim)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(2 * dim, dim))
