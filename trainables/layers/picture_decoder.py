"""A small picture from a latent, and what it is compared with (docs/methods.md#picture-decoder).

Letters: B samples, Z latent dimensions, H x W pixels given, S pixels a side decoded.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_BEGIN, _WIDEST, _NARROWEST = 4, 128, 16  # pixels a side, and channels


class PictureDecoder(nn.Module):
    """Latents (B, Z) in, pictures (B, 3, S, S) between about -1 and 1 out.

    A Linear gives 4 x 4 cells of 128 channels; each stage doubles the side by repeating cells, so that no grid shows as
    behind transposed convolutions, and halves the channels, down to 16, by a 3 x 3 convolution.

    Args:
        z: Z.
        size: S, 4 times a power of two.
    """

    def __init__(self, z: int, size: int) -> None:
        super().__init__()
        self.start = nn.Linear(z, _WIDEST * _BEGIN * _BEGIN)
        stages: list[nn.Module] = []
        side, channels = _BEGIN, _WIDEST
        while side < size:
            fewer = max(_NARROWEST, channels // 2)
            stages += [nn.GELU(), nn.Upsample(scale_factor=2), nn.Conv2d(channels, fewer, 3, padding=1)]
            side, channels = 2 * side, fewer
        assert side == size, f"{size} is not {_BEGIN} times a power of two"
        self.stages = nn.Sequential(*stages, nn.GELU(), nn.Conv2d(channels, 3, 3, padding=1))

    def forward(self, z_BZ: Tensor) -> Tensor:
        """See the class."""
        return self.stages(self.start(z_BZ).unflatten(1, (_WIDEST, _BEGIN, _BEGIN)))


def thumbnails(pixels_B3HW: Tensor, size: int) -> Tensor:
    """Pictures of ``size`` pixels a side, each pixel the mean of those that it stands for, from -1 to 1.

    Args:
        pixels_B3HW: 0 to 255.
        size: S, H and W at most.
    """
    return F.adaptive_avg_pool2d(pixels_B3HW.to(torch.float32), size) / 127.5 - 1
