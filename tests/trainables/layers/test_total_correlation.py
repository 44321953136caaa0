import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from trainables.layers.total_correlation import total_correlation


def correlation(z, mean, logvar, key=None):
    """Of tensors without the dimension of components."""
    return total_correlation(z, mean[None], logvar[None], torch.arange(len(z)) if key is None else key)


def test_of_points_it_is_the_bits_that_dimensions_share():
    """Posteriors so narrow that they are points: on the diagonal each dimension says which, at corners none does."""
    narrow = -9.0
    for size in (2, 3, 5):
        diagonal = torch.tensor([[4.0] * size, [-4.0] * size])
        found = correlation(diagonal, diagonal, torch.full_like(diagonal, narrow))
        assert found.tolist() == pytest.approx([(size - 1) * np.log(2)] * 2, rel=1e-5)
        corners = torch.tensor(list(itertools.product([4.0, -4.0], repeat=size)))
        found = correlation(corners, corners, torch.full_like(corners, narrow))
        assert found.tolist() == pytest.approx([0.0] * 2**size, abs=1e-4)


def test_of_one_row_it_is_nothing():
    z, mean, logvar = torch.randn(3, 1, 6, generator=torch.Generator().manual_seed(0))
    assert correlation(z, mean, logvar).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.slow
def test_of_gaussians_it_is_what_their_correlations_say():
    """Means that are N(0, S) and posteriors of variance v make q(z) = N(0, S + v I), whose total correlation is
    -1/2 log det of its correlation matrix."""
    generator = np.random.default_rng(0)
    S, v = np.array([[1.0, 0.8, 0.0], [0.8, 1.5, 0.3], [0.0, 0.3, 0.7]]), 0.2
    mean = generator.multivariate_normal(np.zeros(3), S, size=3000)
    z = mean + np.sqrt(v) * generator.normal(size=mean.shape)
    whole = S + v * np.eye(3)
    expected = -0.5 * np.linalg.slogdet(whole / np.sqrt(np.outer(np.diag(whole), np.diag(whole))))[1]
    given = torch.tensor(mean, dtype=torch.float32)
    found = correlation(torch.tensor(z, dtype=torch.float32), given, torch.full_like(given, np.log(v)))
    assert found.mean().item() == pytest.approx(expected, abs=0.03) and expected > 0.2


def test_components_and_copies_by_hand():
    """Against scipy's densities: rows of two components, of which the last is another row's copy."""
    mean, logvar = torch.randn(2, 2, 4, 3, generator=torch.Generator().manual_seed(1)).double()
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(2)).double()
    found = total_correlation(z, mean, logvar, torch.tensor([7, 8, 9, 8]))
    rows = [(mean[k, n].numpy(), np.exp(0.5 * logvar[k, n].numpy())) for k in range(2) for n in range(3)]
    density = np.array([[stats.norm.pdf(one, *row) for row in rows] for one in z.numpy()])  # (B, 6, 3)
    expected = np.log(density.prod(axis=2).mean(axis=1)) - np.log(density.mean(axis=1)).sum(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_it_is_minibatch_weighted_sampling_without_its_constant():
    """Chen et al. 2018, eq. S5: log q(z) as log 1/(N M) sum of q(z|x) over the M rows of a batch out of N."""
    z, mean, logvar = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(3)).double()
    log_q = stats.norm.logpdf(z.numpy()[:, None], mean.numpy(), np.exp(0.5 * logvar.numpy()))  # (B, M, Z)
    num_rows, size = 700, 5
    joint = np.log(np.exp(log_q.sum(axis=2)).sum(axis=1) / (num_rows * size))
    each = np.log(np.exp(log_q).sum(axis=1) / (num_rows * size)).sum(axis=1)
    np.testing.assert_allclose(correlation(z, mean, logvar) + 3 * np.log(num_rows), joint - each, rtol=1e-5)


def test_half_precision_around_it_takes_no_digits():
    z, mean, logvar = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(3))
    with torch.autocast("cpu", torch.bfloat16):
        inside = correlation(z, mean, logvar)
    assert inside.equal(correlation(z, mean, logvar))
