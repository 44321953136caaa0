import numpy as np
import torch

from trainables.layers.product_of_experts import product_of_experts


def density(x: np.ndarray, mean: float, logvar: float) -> np.ndarray:
    return np.exp(-0.5 * (x - mean) ** 2 / np.exp(logvar)) / np.sqrt(2 * np.pi * np.exp(logvar))


def test_the_product_of_the_densities_on_a_grid():
    grid = np.linspace(-30, 30, 60_001)
    means, logvars = [[1.5, -0.3, 4.0], [0.0, 2.0, 0.5]], [[-1.0, 0.7, 1.2], [2.0, -3.0, 0.0]]
    mean_BZ, logvar_BZ = product_of_experts(
        torch.tensor(means, dtype=torch.float64).T[..., None], torch.tensor(logvars, dtype=torch.float64).T[..., None]
    )
    assert mean_BZ.shape == (2, 1)
    for row in range(2):
        weight = density(grid, 0.0, 0.0)
        for mean, logvar in zip(means[row], logvars[row], strict=True):
            weight = weight * density(grid, mean, logvar)
        weight /= weight.sum()
        expected = (weight * grid).sum()
        np.testing.assert_allclose(mean_BZ[row, 0], expected, rtol=1e-6)
        np.testing.assert_allclose(logvar_BZ[row, 0].exp(), (weight * (grid - expected) ** 2).sum(), rtol=1e-6)


def test_no_expert_leaves_the_prior_and_a_vague_one_changes_nothing():
    mean, logvar = product_of_experts(torch.zeros(0, 2, 3), torch.zeros(0, 2, 3))
    assert mean.equal(torch.zeros(2, 3)) and logvar.equal(torch.zeros(2, 3))
    generator = torch.Generator().manual_seed(0)
    means, logvars = torch.randn(2, 3, 2, 4, generator=generator)
    sure = product_of_experts(means[:2], logvars[:2])
    vague = product_of_experts(means, torch.cat([logvars[:2], torch.full((1, 2, 4), 60.0)]))
    for one, other in zip(sure, vague, strict=True):
        torch.testing.assert_close(one, other)


def test_one_expert_meets_the_prior_half_way():
    mean, logvar = product_of_experts(torch.full((1, 1, 1), 3.0), torch.zeros(1, 1, 1))
    assert mean.item() == 1.5 and logvar.exp().item() == 0.5


def test_the_order_of_experts_is_nothing():
    means, logvars = torch.randn(2, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    for one, other in zip(product_of_experts(means, logvars), product_of_experts(means.flip(0), logvars.flip(0)),
                          strict=True):  # fmt: skip
        torch.testing.assert_close(one, other)
