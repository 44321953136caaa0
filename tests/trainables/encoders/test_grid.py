import pytest
import torch

from trainables.encoders.grid import pool_grid


def test_pool_grid_averages_cells():
    tokens = torch.arange(16.0).view(1, 16, 1)  # a 4 x 4 map, row by row
    assert pool_grid(tokens, num_tokens=1).flatten().tolist() == [7.5]
    assert pool_grid(tokens, num_tokens=2).flatten().tolist() == [3.5, 11.5]  # upper and lower half
    assert pool_grid(tokens, num_tokens=4).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert pool_grid(tokens, num_tokens=16).equal(tokens)
    for num_tokens in range(1, 10):
        assert pool_grid(tokens, num_tokens=num_tokens).shape == (1, num_tokens, 1)
    with pytest.raises(ValueError, match="11 is neither 1 to 9 nor a square number"):
        pool_grid(tokens, num_tokens=11)
    with pytest.raises(ValueError, match="15 image tokens form no square grid"):
        pool_grid(tokens[:, 1:], num_tokens=4)
