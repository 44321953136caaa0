"""The additive projection: of an additive model the model itself, of XOR nothing better than chance."""

import numpy as np
import pytest

from mmtune.models.emap import projection


def test_an_additive_model_is_its_own_projection():
    rng = np.random.default_rng(0)
    text, image = rng.normal(size=(30, 4)), rng.normal(size=(30, 4))
    logits = text[None, :, :] + image[:, None, :]
    np.testing.assert_allclose(projection(logits), text + image)


def test_of_xor_nothing_is_left():
    text, image = np.tile([0, 0, 1, 1], 25), np.tile([0, 1, 0, 1], 25)
    logits = np.where((text[None] ^ image[:, None])[..., None] == np.arange(2), 3.0, -3.0)
    np.testing.assert_allclose(projection(logits), 0, atol=1e-12)  # both classes alike: chance


def test_it_is_the_nearest_sum_in_squares():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(8, 8, 1))
    design = np.array(
        [[i == row for row in range(8)] + [j == row for row in range(8)] for i in range(8) for j in range(8)]
    )
    fitted = design @ np.linalg.lstsq(design.astype(float), logits.reshape(-1), rcond=None)[0]
    assert projection(logits)[:, 0] == pytest.approx(fitted.reshape(8, 8).diagonal())
