import numpy as np
import pytest
import torch

from trainables.layers.code_losses import bernoulli_loss, category_loss, multinomial_loss


def log_softmax(values):
    return values - np.log(np.exp(values).sum())


def test_categories_by_hand():
    """Columns of 3 and of 5 values; what is missing is left out, a row without any costs nothing."""
    logits = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    codes = torch.tensor([[1, 5], [3, 0], [0, 2], [0, 0]])
    found = category_loss(logits, codes, [3, 5])
    rows = logits.double().numpy()
    three = [
        -log_softmax(row[:3])[code - 1] / np.log(3) if code else np.nan
        for row, (code, _) in zip(rows, codes.tolist(), strict=True)
    ]
    five = [
        -log_softmax(row[3:])[code - 1] / np.log(5) if code else np.nan
        for row, (_, code) in zip(rows, codes.tolist(), strict=True)
    ]
    expected = [(three[0] + five[0]) / 2, three[1], five[2], 0.0]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    assert category_loss(torch.zeros(2, 8), codes[:2], [3, 5]).tolist() == pytest.approx([1.0, 1.0])  # a guess


def test_neighbours_by_hand():
    logits = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    nodes = torch.tensor([[2, 6, 0], [4, 0, 0], [0, 0, 0]])
    log_p = [log_softmax(row) for row in logits.double().numpy()]
    expected = [-(log_p[0][1] + log_p[0][5]) / 2 / np.log(6), -log_p[1][3] / np.log(6), 0.0]
    assert multinomial_loss(logits, nodes).tolist() == pytest.approx(expected, rel=1e-5)
    padded = torch.nn.functional.pad(nodes, (0, 4))
    assert multinomial_loss(logits, padded).equal(multinomial_loss(logits, nodes))
    assert multinomial_loss(torch.zeros(1, 6), nodes[:1]).tolist() == pytest.approx([1.0])


def test_words_that_are_there_or_not_by_hand():
    """A word that occurs twice is there once; zeros lie anywhere among the items."""
    logits = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    items = torch.tensor([[2, 0, 6, 2], [4, 0, 0, 0], [0, 0, 0, 0]])
    p = 1 / (1 + np.exp(-logits.double().numpy()))
    is_there = np.array([[0, 1, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0]])
    entropy = -(is_there * np.log(p[:2]) + (1 - is_there) * np.log(1 - p[:2])).sum(axis=1)
    expected = [entropy[0] / 2 / np.log(6), entropy[1] / np.log(6), 0.0]
    assert bernoulli_loss(logits, items).tolist() == pytest.approx(expected, rel=1e-5)
    guess = torch.full((1, 5000), -np.log(5000.0))
    assert bernoulli_loss(guess, torch.tensor([[3, 7, 9]])).item() == pytest.approx(1, abs=0.05)


def test_a_column_of_one_value_is_no_division_by_zero():
    assert category_loss(torch.randn(2, 1), torch.ones(2, 1, dtype=torch.int64), [1]).tolist() == [0.0, 0.0]
