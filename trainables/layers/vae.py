"""What every Gaussian VAE needs: KL to the prior, sampling, the annealing of beta, active units (docs/methods.md#kl).

Letters: K mixture components (1 of a plain posterior), B samples, N rows, Z latent dimensions.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

BetaSchedule = Literal["constant", "linear", "cyclical"]
_LOGVAR_LIMIT = 10.0


def gaussian(encoder: nn.Module, values_BD: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance, (1, B, Z), in float32: variances span more than half precision does."""
    mean, logvar = encoder(values_BD).float().unsqueeze(0).chunk(2, dim=-1)
    return mean, logvar.clamp(-_LOGVAR_LIMIT, _LOGVAR_LIMIT)


def kl_to_prior(mean_KBZ: Tensor, logvar_KBZ: Tensor, *, free_bits: float = 0.0) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, I)) of each sample, summed over Z (Kingma & Welling 2014, App. B).

    It is averaged over the components of a uniform mixture, an upper bound of the mixture's own KL.

    Args:
        mean_KBZ: posterior means.
        logvar_KBZ: posterior log variances.
        free_bits: nats that each dimension of each sample has for nothing (Kingma et al. 2016; they average over
            the batch first, which would not add up over ranks and micro-batches).

    Returns:
        (B,), in nats; at least Z * free_bits.
    """
    kl_KBZ = 0.5 * (mean_KBZ.square() + logvar_KBZ.exp() - 1 - logvar_KBZ)
    return kl_KBZ.clamp(min=free_bits).sum(dim=2).mean(dim=0)


def sample(mean_KBZ: Tensor, logvar_KBZ: Tensor) -> Tensor:
    """One draw a sample from the uniform mixture of K Gaussians, differentiable in both: (B, Z)."""
    num_components, size, _ = mean_KBZ.shape
    component_B = torch.randint(num_components, (size,), device=mean_KBZ.device)
    row_B = torch.arange(size, device=mean_KBZ.device)
    mean_BZ, logvar_BZ = mean_KBZ[component_B, row_B], logvar_KBZ[component_B, row_B]
    return mean_BZ + (0.5 * logvar_BZ).exp() * torch.randn_like(mean_BZ)


def annealed(beta: float, *, schedule: BetaSchedule, anneal_epochs: int, passed: float) -> float:
    """beta in the step behind ``passed`` epochs, parts of one included.

    'linear' climbs with every step from 0 in the first one of all to ``beta`` in the first of epoch
    anneal_epochs + 1. 'cyclical' climbs in the same way, stays at ``beta`` for as long, and begins again (Fu et
    al. 2019, half of each cycle).
    """
    if schedule == "constant":
        return beta
    at = passed if schedule == "linear" else passed % (2 * anneal_epochs)
    return beta * min(1.0, at / anneal_epochs)


def active_units(mean_NZ: Tensor, *, threshold: float = 0.01) -> int:
    """Latent dimensions whose posterior mean varies over the rows: #{z: Var(mean_z) > threshold}.

    The others have collapsed to the prior (Burda et al. 2016, sec. 5.2).

    Args:
        mean_NZ: posterior means of N rows.
        threshold: of the (population) variance.
    """
    return int((mean_NZ.double().var(dim=0, correction=0) > threshold).sum())
