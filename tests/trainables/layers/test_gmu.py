import numpy as np
import pytest
import torch
from torch import nn

from trainables.layers.gmu import Gmu
from trainables.layers.mlp import mlp


def test_gmu_against_numpy():
    model = Gmu(image_dim=4, text_dim=3, dim=5)
    image, text = torch.randn(6, 4), torch.randn(6, 3)
    w_v, w_t, w_z = (weight.detach().double().numpy() for weight in (p for p in model.parameters()))
    v, t = image.double().numpy(), text.double().numpy()
    z = 1 / (1 + np.exp(-np.concatenate([v, t], axis=1) @ w_z.T))
    expected = z * np.tanh(v @ w_v.T) + (1 - z) * np.tanh(t @ w_t.T)
    assert model(image, text).detach().numpy() == pytest.approx(expected, abs=1e-6)


def test_gmu_gate_chooses_between_the_modalities():
    model = Gmu(image_dim=2, text_dim=2, dim=2)
    image, text = torch.rand(3, 2) + 0.5, torch.rand(3, 2) + 0.5
    with torch.no_grad():
        model.gate.weight.fill_(1e3)  # all inputs positive: z = 1
        assert torch.equal(model(image, text), model.image(image).tanh())
        model.gate.weight.fill_(-1e3)
        assert torch.equal(model(image, text), model.text(text).tanh())


def test_gmu_has_no_biases():
    model = Gmu(image_dim=4, text_dim=3, dim=5)
    assert sum(parameter.numel() for parameter in model.parameters()) == 4 * 5 + 3 * 5 + (4 + 3) * 5
    assert (model(torch.zeros(2, 4), torch.zeros(2, 3)) == 0).all()


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_mlp_layers(depth):
    model = mlp(7, 5, 2, depth=depth, dropout=0.25)
    layers = [nn.Linear, nn.GELU, nn.Dropout] * depth if depth else [nn.Dropout]
    assert [type(layer) for layer in model] == [*layers, nn.Linear]
    assert model(torch.zeros(4, 7)).shape == (4, 2)
    widths = [7, *[5] * depth, 2]
    expected = sum(a * b + b for a, b in zip(widths, widths[1:], strict=False))
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    assert all(layer.p == 0.25 for layer in model if isinstance(layer, nn.Dropout))
