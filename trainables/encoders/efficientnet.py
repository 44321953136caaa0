"""EfficientNet-Lite0 (Tan & Le 2019, ICML, and TensorFlow's lite variant: ReLU6, no squeeze-and-excitation).

Up to its last feature map, with the names that published weights have. Paddings are TensorFlow's 'SAME' at 224 pixels,
which the weights were trained with, whatever the picture's size.
Tensor letters: B batch, D channels, h x w cells.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_SIDE = 224
_DROP = 0.2  # of the last block in training; of block i in proportion
_STAGES = (  # blocks, kernel, stride, expansion, channels in and out
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


class _Same(nn.Conv2d):
    """A convolution behind the zeros that 'SAME' puts around pictures of ``side`` pixels."""

    def __init__(self, inner: int, outer: int, kernel: int, *, side: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inner, outer, kernel, stride, groups=groups, bias=False)
        num = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
        before, behind = num // 2, num - num // 2
        self.static_padding = nn.ZeroPad2d((before, behind, before, behind)) if num else nn.Identity()

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(self.static_padding(input))


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, momentum=1 - 0.99, eps=1e-3)


class _Block(nn.Module):
    """Inverted residual: widen, convolve each channel by itself, narrow."""

    def __init__(self, kernel: int, stride: int, expansion: int, inner: int, outer: int, *, side: int) -> None:
        super().__init__()
        wide, self.is_wider = inner * expansion, expansion != 1
        self.has_skip = stride == 1 and inner == outer
        if self.is_wider:
            self._expand_conv = _Same(inner, wide, 1, side=side)
            self._bn0 = _norm(wide)
        self._depthwise_conv = _Same(wide, wide, kernel, side=side, stride=stride, groups=wide)
        self._bn1 = _norm(wide)
        self._project_conv = _Same(wide, outer, 1, side=math.ceil(side / stride))
        self._bn2 = _norm(outer)
        self._swish = nn.ReLU6()

    def forward(self, x_BDhw: Tensor, drop: float) -> Tensor:
        """``drop``: the chance in training that a sample skips the block."""
        inside = self._swish(self._bn0(self._expand_conv(x_BDhw))) if self.is_wider else x_BDhw
        inside = self._bn2(self._project_conv(self._swish(self._bn1(self._depthwise_conv(inside)))))
        if not self.has_skip:
            return inside
        if self.training and drop:
            kept_B = torch.rand([len(inside), 1, 1, 1], dtype=inside.dtype, device=inside.device).add(1 - drop).floor()
            inside = inside / (1 - drop) * kept_B
        return inside + x_BDhw


class EfficientNetLite0(nn.Module):
    """Normalised pixels (B, 3, S, S) to the last feature map (B, 1280, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        side, blocks = math.ceil(_SIDE / 2), list[nn.Module]()
        self._conv_stem = _Same(3, 32, 3, side=_SIDE, stride=2)
        self._bn0 = _norm(32)
        for number, kernel, stride, expansion, inner, outer in _STAGES:
            for at in range(number):
                first = at == 0
                step = stride if first else 1
                blocks.append(_Block(kernel, step, expansion, inner if first else outer, outer, side=side))
                side = math.ceil(side / step)
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _Same(320, 1280, 1, side=side)
        self._bn1 = _norm(1280)
        self._swish = nn.ReLU6()

    def forward(self, x_B3SS: Tensor) -> Tensor:
        """The feature map."""
        x_BDhw = self._swish(self._bn0(self._conv_stem(x_B3SS)))
        for at, block in enumerate(self._blocks):
            x_BDhw = block(x_BDhw, _DROP * (at / len(self._blocks)))
        return self._swish(self._bn1(self._conv_head(x_BDhw)))
