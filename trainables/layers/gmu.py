"""Gated multimodal unit (Arevalo et al. 2017): a learnt, feature-wise mixture of image and text
(docs/methods.md#gmu).

Letters: B samples, V image features, T text features, D fused features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Gmu(nn.Module):
    """z tanh(W_v image) + (1 - z) tanh(W_t text), with z = sigmoid(W_z [image; text]); no biases."""

    def __init__(self, *, image_dim: int, text_dim: int, dim: int) -> None:
        super().__init__()
        self.image = nn.Linear(image_dim, dim, bias=False)
        self.text = nn.Linear(text_dim, dim, bias=False)
        self.gate = nn.Linear(image_dim + text_dim, dim, bias=False)

    def forward(self, image_BV: Tensor, text_BT: Tensor) -> Tensor:
        """The fused features, (B, D), each in (-1, 1)."""
        gate_BD = self.gate(torch.cat([image_BV, text_BT], dim=1)).sigmoid()
        return gate_BD * self.image(image_BV).tanh() + (1 - gate_BD) * self.text(text_BT).tanh()
