import numpy as np
import pytest
import torch
from torch import nn

from trainables.batch import Batch
from trainables.encoders.joint import joint_config, lengthened, load_joint, pixels, token_ids


def batch(**given) -> Batch:
    return Batch(**given, labels=torch.zeros(1), ids=["a"])


@pytest.mark.parametrize("more", [40, 41, 79, 128, 512])
def test_a_lengthened_table_is_interpolated_linearly(more):
    table = nn.Embedding(40, 3)
    longer = lengthened(table, more)
    old = table.weight.detach().double().numpy()
    places = np.linspace(0, 39, more)
    expected = np.stack([np.interp(places, np.arange(40), old[:, column]) for column in range(3)], axis=1)
    np.testing.assert_allclose(longer.weight.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(longer.weight[[0, -1]], table.weight[[0, -1]])
    assert longer.weight.requires_grad and longer.weight.shape == (more, 3)


def test_twice_the_gaps_keeps_every_old_row():
    table = nn.Embedding(5, 2)
    torch.testing.assert_close(lengthened(table, 9).weight[::2], table.weight)


def test_another_kind_of_model_is_refused():
    for call in (joint_config, load_joint):
        with pytest.raises(ValueError, match="model.encoder: tiny-bert is a bert, here a vilt is needed"):
            call("tiny-bert", kind="vilt", key="model.encoder")


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="text is missing, and this model cannot do without it"):
        token_ids(batch(pixel_values=torch.zeros(1, 3, 8, 8)))
    with pytest.raises(ValueError, match="image is missing, and this model cannot do without it"):
        pixels(batch(input_ids=torch.zeros(1, 2)), patch_size=8)


def test_an_image_must_hold_a_patch():
    small = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    assert pixels(batch(pixel_values=small), patch_size=16) is small
    with pytest.raises(ValueError, match=r"image_size: 16 is smaller than one patch \(32\) of the model"):
        pixels(batch(pixel_values=small), patch_size=32)
