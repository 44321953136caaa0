import numpy as np
import pytest
import torch

from trainables.layers.picture_decoder import PictureDecoder, thumbnails


def test_a_pixel_is_the_mean_of_those_that_it_stands_for():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
    expected = pixels.reshape(2, 3, 4, 2, 4, 2).mean(axis=(3, 5)) / 127.5 - 1
    np.testing.assert_allclose(thumbnails(torch.from_numpy(pixels), 4), expected, rtol=1e-5, atol=1e-6)
    whole = thumbnails(torch.from_numpy(pixels), 8)
    np.testing.assert_allclose((whole + 1) * 127.5, pixels, atol=1e-3)
    assert thumbnails(torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1), 1).flatten().tolist() == [-1, 1]


@pytest.mark.parametrize("size", [16, 32, 64])
def test_each_latent_has_a_picture_of_its_own(size):
    torch.manual_seed(0)
    decoder, z = PictureDecoder(5, size), torch.randn(3, 5)
    pictures = decoder(z)
    assert pictures.shape == (3, 3, size, size) and not torch.allclose(pictures[0], pictures[1])
    torch.testing.assert_close(decoder(z[1:2]), pictures[1:2], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_pictures_are_learnt_by_heart():
    """Four pictures with an edge at another place each: far below the variance that a mean picture leaves."""
    torch.manual_seed(0)
    pictures = torch.full((4, 3, 16, 16), -1.0)
    for at in range(4):
        pictures[at, at % 3, :, 3 * at + 2 :] = 1.0
    decoder, z = PictureDecoder(4, 16), torch.eye(4) * 2
    optimizer = torch.optim.Adam(decoder.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (decoder(z) - pictures).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05 < pictures.var(dim=0, correction=0).mean()
