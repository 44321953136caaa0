"""Grad-CAM by hand on a net of two layers, and what its maps are made of."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from analysis.inspect.asking import Asked, repeated
from analysis.inspect.cam import METHODS, Seen, by_cell, cam
from trainables.batch import Batch, ModelOutput
from trainables.task import Task


class TwoLayers(nn.Module):
    """ReLU(conv), mean over the places, linear."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(4, 3)

    def forward(self, batch):
        return ModelOutput(logits=self.head(self.conv(batch.pixel_values / 255).mean(dim=(2, 3))))


def asked(model, *, size=8):
    rng = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (1, 3, size, size), generator=rng, dtype=torch.uint8)
    config, task = SimpleNamespace(family="image"), Task("multiclass", ("a", "b", "c"))
    batch = Batch(pixel_values=pixels, labels=torch.zeros(1, dtype=torch.int64), ids=["x"])
    trained = SimpleNamespace(model=model.eval(), config=config, task=task)
    target = int(model(batch).logits.argmax())
    return Asked(trained, batch, target, 0.0)  # pyright: ignore[reportArgumentType]


def by_hand(model, pixels, target):
    """alpha_k = the mean gradient of the logit, here W_ck / (h w); the map is ReLU(sum of alpha_k A_k), from 0 to 1."""
    with torch.no_grad():
        maps_Khw = model.conv(pixels / 255)[0]
        places = maps_Khw[0].numel()
        alpha_K = model.head.weight[target] / places
        found = torch.relu((alpha_K[:, None, None] * maps_Khw).sum(dim=0)).numpy()
    return (found - found.min()) / (found.max() - found.min())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["GradCAM", "HiResCAM"])  # of a mean and a linear layer both are the same
def test_grad_cam_by_hand(kind):
    model = TwoLayers()
    given = asked(model)
    found, shape = cam(given, Seen(model.conv), kind)
    assert shape == (8, 8)
    wanted = by_hand(model, given.batch.pixel_values, given.target)
    np.testing.assert_allclose(found / found.max(), wanted, atol=1e-5)  # its scale has 1e-7 besides, twice
    assert all(parameter.grad is None for parameter in model.parameters())


def test_nothing_of_the_model_changes_and_frozen_layers_pass_gradients():
    model = TwoLayers()
    plain, _ = cam(asked(model), Seen(model.conv), "GradCAM")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.requires_grad_(False)
    for kind in METHODS.values():
        found, _ = cam(asked(model), Seen(model.conv), kind)
        assert found.shape == (8, 8) and 0 <= found.min() <= found.max() <= 1
    np.testing.assert_allclose(cam(asked(model), Seen(model.conv), "GradCAM")[0], plain, atol=1e-6)
    assert all((before[name] == value).all() for name, value in model.state_dict().items())


def test_patches_among_states():
    states = torch.arange(2 * 7 * 3).reshape(2, 7, 3)  # [CLS], 2 x 2 patches, two more
    found = Seen(nn.Identity(), (2, 2), 1).map(states)
    assert found.shape == (2, 3, 2, 2) and found[1, 2].tolist() == [[26, 29], [32, 35]]
    assert torch.equal(Seen(nn.Identity(), (2, 2), -6).map(states), found)
    assert torch.equal(found[:, :, 0, 1], states[:, 2])  # in reading order


def test_cells_are_means_in_reading_order():
    values = np.arange(16.0).reshape(4, 4)
    assert by_cell(values, (2, 2)).tolist() == [2.5, 4.5, 10.5, 12.5]
    assert by_cell(np.arange(9.0).reshape(3, 3), (1, 3)).tolist() == [3, 4, 5]


def test_cells_that_are_away_are_grey():
    model = TwoLayers()
    given = asked(model)
    there = np.array([[True] * 4, [False] * 4, [True, False, False, False]])
    found = given.without_cells(there, (2, 2))
    pixels = repeated(given.batch, 3).pixel_values.clone()
    pixels[1], pixels[2, :, 4:], pixels[2, :, :, 4:] = 128, 128, 128
    wanted = model(Batch(pixel_values=pixels, labels=torch.zeros(3), ids=[""] * 3)).logits.softmax(dim=1)
    np.testing.assert_allclose(found, wanted[:, given.target].detach().numpy(), rtol=1e-5)
