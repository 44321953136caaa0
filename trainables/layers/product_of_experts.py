"""Product of Gaussian experts and the standard normal prior (Wu & Goodman 2018, eq. 3; docs/methods.md#posteriors).

Letters: M experts, B samples, Z latent dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor


def product_of_experts(mean_MBZ: Tensor, logvar_MBZ: Tensor) -> tuple[Tensor, Tensor]:
    """N(0, I) times all N(mean, exp(logvar)), normalised: again a Gaussian. A missing expert is left out of M.

    Args:
        mean_MBZ: of the experts, (M, B, Z); M may be 0, which leaves the prior.
        logvar_MBZ: of the experts, (M, B, Z).

    Returns:
        Mean and log variance, (B, Z) each; the variance is never above the prior's 1.
    """
    precision_MBZ = (-logvar_MBZ).exp()
    total_BZ = 1 + precision_MBZ.sum(dim=0)
    return (mean_MBZ * precision_MBZ).sum(dim=0) / total_BZ, -torch.log(total_BZ)
