import torch

from trainables.encoders.text import pool_text


def test_pool_text():
    states = torch.tensor([[[1.0], [3.0], [100.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pool_text(states, mask, pool="mean").tolist() == [[2.0]]
    assert pool_text(states, mask, pool="cls").tolist() == [[1.0]]
    assert pool_text(states, torch.zeros_like(mask), pool="mean").tolist() == [[0.0]]
