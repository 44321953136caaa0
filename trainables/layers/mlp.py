"""The multilayer perceptron behind fusion, heads, encoders and decoders."""

from __future__ import annotations

from torch import nn


def mlp(
    in_dim: int, hidden: int, out_dim: int, *, depth: int, dropout: float = 0.0, activation: type[nn.Module] = nn.GELU
) -> nn.Sequential:
    """``depth`` hidden layers of Linear-GELU-Dropout, then a Linear; ``depth`` 0 is Dropout and one Linear.

    Args:
        in_dim: features that come in.
        hidden: width of every hidden layer.
        out_dim: features that go out.
        depth: number of hidden layers, 0 or more.
        dropout: share of hidden features (with ``depth`` 0 of what comes in) dropped in training, in [0, 1).
        activation: in place of GELU.
    """
    layers: list[nn.Module] = [nn.Dropout(dropout)] if depth == 0 else []
    for _ in range(depth):
        layers += [nn.Linear(in_dim, hidden), activation(), nn.Dropout(dropout)]
        in_dim = hidden
    return nn.Sequential(*layers, nn.Linear(in_dim, out_dim))
