"""The total correlation of a latent: how far its dimensions are from independent, over all rows of an optimiser step.

Chen et al. 2018 (https://arxiv.org/abs/1802.04942), sec. 3: the KL to the prior is the mutual information of rows and
latents, plus the total correlation, plus each dimension's own KL. See docs/methods.md#total_correlation.

Letters: K mixture components of a posterior, B rows of this rank, N rows of all ranks, Z latent dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainables.layers.across_ranks import gathered, gathered_with_gradient, row_counts


def total_correlation(z_BZ: Tensor, mean_KBZ: Tensor, logvar_KBZ: Tensor, key_B: Tensor) -> Tensor:
    """log q(z) - sum_d log q(z_d) of each draw, q the mixture of the N rows' posteriors.

    Minibatch-weighted sampling (Chen et al., eq. S5) without its constant, (Z - 1) times the logarithm of how many
    rows there are to train on: 0 for one row, and for independent dimensions. A sample is in q once, as its first row.
    The gradient reaches every rank's posteriors.

    Args:
        z_BZ: a draw of each row's posterior.
        mean_KBZ: of the posteriors.
        logvar_KBZ: of the posteriors.
        key_B: which sample each row is of, see :func:`trainables.layers.across_ranks.sample_keys`.

    Returns:
        (B,) float32, in nats; its mean over the rows estimates KL(q(z) || prod_d q(z_d)).
    """
    with torch.autocast(z_BZ.device.type, enabled=False):
        given = z_BZ.float(), mean_KBZ.float(), logvar_KBZ.float()
        return _total_correlation(*given, key_B)  # pyright: ignore (loses the signature in torch.compiler.disable)


@torch.compiler.disable
def _total_correlation(z_BZ: Tensor, mean_KBZ: Tensor, logvar_KBZ: Tensor, key_B: Tensor) -> Tensor:
    counts = row_counts(z_BZ)
    key_N = gathered(key_B, counts)
    is_first_N = (key_N[:, None] == key_N).int().argmax(dim=1) == torch.arange(len(key_N), device=key_N.device)
    posterior_BK = torch.stack([mean_KBZ, logvar_KBZ]).permute(2, 1, 0, 3)  # (B, K, 2, Z)
    posterior_NK = gathered_with_gradient(posterior_BK.contiguous(), counts)[is_first_N]
    mean_MZ, logvar_MZ = posterior_NK.flatten(0, 1).unbind(dim=1)  # M: components of all
    log_q_BMZ = -0.5 * (math.log(2 * math.pi) + logvar_MZ + (z_BZ[:, None] - mean_MZ).square() * (-logvar_MZ).exp())
    log_number = math.log(len(mean_MZ))
    joint_B = log_q_BMZ.sum(dim=2).logsumexp(dim=1) - log_number
    return joint_B - (log_q_BMZ.logsumexp(dim=1) - log_number).sum(dim=1)
