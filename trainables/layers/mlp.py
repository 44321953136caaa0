"""The multilayer perceptron behind fusion, heads, encoders and decoders."""

from __future__ import annotations

from torch import nn


def mlp(in_dim: int, hidden: int, out_dim: int, *, depth: int, dropout: float = 0.0) -> nn.Sequential:
    """``depth`` hidden layers of Linear-GELU-Dropout, then a Linear; ``depth`` 0 is one Linear.

    Args:
        in_dim: features that come in.
        hidden: width of every hidden layer.
        out_dim: features that go out.
        depth: number of hidden layers, 0 or more.
        dropout: share of hidden features dropped in training, in [0, 1).
    """
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(in_dim, hidden), nn.GELU(), nn.Dropout(dropout)]
        in_dim = hidden
    return nn.Sequential(*layers, nn.Linear(in_dim, out_dim))
