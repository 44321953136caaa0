import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from trainables.layers.vae import active_units, annealed, kl_to_prior, sample


def gaussians(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    mean, logvar = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    return mean, logvar


def test_kl_is_that_of_torch_distributions():
    mean, logvar = gaussians(2, 4, 3)
    expected = kl_divergence(Normal(mean, (0.5 * logvar).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_to_prior(mean, logvar), expected.sum(dim=-1).mean(dim=0))
    assert kl_to_prior(torch.zeros(1, 4, 3), torch.zeros(1, 4, 3)).tolist() == [0.0] * 4


def test_the_mean_kl_of_components_is_above_that_of_their_mixture():
    """KL is convex, so training on the mean of the components' KL keeps a lower bound."""
    mean, logvar = gaussians(2, 1, 1)
    grid = torch.linspace(-15, 15, 30_001, dtype=torch.float64)
    parts = [Normal(one, math.exp(0.5 * other)) for one, other in zip(mean.flatten(), logvar.flatten(), strict=True)]
    mixture = torch.stack([part.log_prob(grid).exp() for part in parts]).mean(dim=0)
    exact = torch.trapezoid(mixture * (mixture.log() - Normal(0.0, 1.0).log_prob(grid)), grid)
    assert 0 < exact < kl_to_prior(mean, logvar).item()


def test_free_bits_are_a_floor_for_each_dimension_of_each_sample():
    mean = torch.tensor([[[0.0, 1.0, 2.0], [0.2, 0.0, 0.0]]])  # with variance 1 the KL is mean^2 / 2
    kl = kl_to_prior(mean, torch.zeros(1, 2, 3), free_bits=0.1)
    assert kl.tolist() == pytest.approx([0.1 + 0.5 + 2.0, 0.1 + 0.1 + 0.1])
    leaf = mean.clone().requires_grad_()
    kl_to_prior(leaf, torch.zeros(1, 2, 3), free_bits=0.1).mean().backward()
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [[[0.0, 0.5, 1.0], [0.0, 0.0, 0.0]]]  # nothing pulls at what is below


def test_free_bits_add_up_over_micro_batches():
    mean, logvar = gaussians(1, 6, 3)
    parts = [kl_to_prior(mean[:, part], logvar[:, part], free_bits=0.3) for part in (slice(0, 2), slice(2, 6))]
    whole = kl_to_prior(mean, logvar, free_bits=0.3)
    torch.testing.assert_close(whole.mean(), (2 * parts[0].mean() + 4 * parts[1].mean()) / 6)


def test_samples_have_the_moments_of_the_mixture():
    mean_K, std_K = torch.tensor([-2.0, 1.0, 4.0]), torch.tensor([0.5, 1.0, 0.1])
    torch.manual_seed(0)
    num = 200_000
    z = sample(mean_K[:, None, None].expand(3, num, 1), 2 * std_K.log()[:, None, None].expand(3, num, 1))
    assert z.shape == (num, 1)
    assert z.mean().item() == pytest.approx(1.0, abs=0.02)
    second = (mean_K.square() + std_K.square()).mean().item()
    assert z.square().mean().item() == pytest.approx(second, rel=0.01)
    near = [((z - centre).abs() < 3 * std).float().mean().item() for centre, std in ((-2.0, 0.5), (4.0, 0.1))]
    assert near == pytest.approx([1 / 3, 1 / 3], abs=0.03)


def test_a_sample_moves_with_mean_and_deviation():
    mean, logvar = (value.requires_grad_() for value in gaussians(1, 4, 3))
    torch.manual_seed(0)
    z = sample(mean, logvar)
    z.sum().backward()
    assert mean.grad is not None and logvar.grad is not None
    torch.testing.assert_close(mean.grad, torch.ones(1, 4, 3))
    torch.testing.assert_close(logvar.grad[0], (z - mean[0]) / 2)  # d/dv of exp(v / 2) eps


def test_beta_by_epoch():
    def run(schedule, anneal_epochs, epochs=9):
        return [annealed(2.0, schedule=schedule, anneal_epochs=anneal_epochs, passed=e) for e in range(epochs)]

    assert run("constant", 3) == [2.0] * 9
    assert run("linear", 4) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0]
    assert run("linear", 1) == [0.0] + [2.0] * 8
    assert run("cyclical", 2) == [0.0, 1.0, 2.0, 2.0, 0.0, 1.0, 2.0, 2.0, 0.0]
    assert run("cyclical", 1, epochs=4) == [0.0, 2.0, 0.0, 2.0]


def test_beta_by_step():
    """Five steps an epoch: beta rises by the same amount in each, within epochs and between them."""

    def run(schedule, steps):
        return [annealed(3.0, schedule=schedule, anneal_epochs=2, passed=step / 5) for step in range(steps)]

    climb = [0.3 * step for step in range(10)]
    assert run("linear", 15) == pytest.approx([*climb, *[3.0] * 5])
    assert run("cyclical", 25) == pytest.approx([*climb, *[3.0] * 10, *climb[:5]])
    assert run("constant", 15) == [3.0] * 15


def test_active_units_vary_over_the_rows():
    row = torch.arange(8.0)
    mean_NZ = torch.stack([row, torch.full((8,), 3.0), 0.05 * (-1) ** row, 0.2 * (-1) ** row], dim=1)
    assert mean_NZ.var(dim=0, correction=0).tolist() == pytest.approx([5.25, 0.0, 0.0025, 0.04], abs=1e-6)
    assert active_units(mean_NZ) == 2 and active_units(mean_NZ, threshold=1e-4) == 3
    assert active_units(mean_NZ[:1]) == 0
