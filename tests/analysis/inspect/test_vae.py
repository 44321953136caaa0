"""Correlations against numpy, walks and fits by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from analysis.inspect.vae import Latents, correlations, fit, walk, words_found


def test_correlations_are_numpys_where_values_are_there():
    rng = np.random.default_rng(0)
    means, values = rng.normal(size=(40, 3)), rng.normal(size=(40, 4))
    values[:, 1] = means[:, 2] * -2 + 1
    values[::5, 2] = np.nan
    values[:, 3] = 1.0
    found = correlations(means, values)
    there = ~np.isnan(values[:, 2])
    for z in range(3):
        assert found[z, 0] == pytest.approx(np.corrcoef(means[:, z], values[:, 0])[0, 1])
        assert found[z, 2] == pytest.approx(np.corrcoef(means[there, z], values[there, 2])[0, 1])
    assert found[2, 1] == pytest.approx(-1) and np.isnan(found[:, 3]).all()
    assert np.isnan(correlations(np.ones((5, 1)), values[:5])).all()


def test_a_walk_moves_one_dimension():
    path = walk(np.array([0.5, -1.0, 2.0]), 1)
    assert path[:, 1].tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert (path[:, 0] == 0.5).all() and (path[:, 2] == 2).all()


def test_the_mean_explains_nothing_and_the_truth_all():
    values = np.random.default_rng(0).normal(size=(9, 4))
    mean = np.repeat(values.mean(axis=0)[None], 9, axis=0)
    assert fit(values, mean)["r2"] == pytest.approx(0) and fit(values, values) == {"mse": 0.0, "r2": 1.0}
    assert fit(values, values + 2)["mse"] == pytest.approx(4)
    assert np.isnan(fit(np.ones((3, 2)), np.ones((3, 2)))["r2"])


def test_words_are_found_among_as_many_of_the_likeliest():
    logits = np.array([[5.0, 4.0, 3.0, 2.0], [0.0, 1.0, 2.0, 3.0], [9.0, 9.0, 9.0, 9.0]])
    assert words_found([np.array([0, 2]), np.array([3]), np.array([], int)], logits) == pytest.approx((0.5 + 1) / 2)
    assert np.isnan(words_found([np.array([], int)], logits[:1]))


def test_a_picture_is_turned_back():
    """Channels are last, -1 is black and 1 is full; what lies beyond is cut."""
    vae = SimpleNamespace(config=SimpleNamespace(picture_size=2), kinds={"image": "pixels", "text": "features"})
    found = Latents({}, None, {}, np.array(["shared"]), np.zeros(1), vae)
    picture = found.picture(np.array([-1.0, 1, 0, 3, 1, 1, 1, 1, -9, -1, -1, 0.5]))
    assert picture.tolist() == [[[0, 1, 0], [1, 1, 0]], [[0.5, 1, 0], [1, 1, 0.75]]]
    assert found.shows("image") and not found.shows("text")


def test_a_private_dimension_is_named_and_decoded_by_its_modality_alone():
    """Shared ones first, then each modality's: what a decoder reads is the shared and its own."""
    names = np.repeat(["shared", "text", "image"], [2, 1, 3])
    decoders = {}
    for name, width in (("text", 3), ("image", 5)):
        decoders[name] = torch.nn.Linear(width, width, bias=False)
        torch.nn.init.eye_(decoders[name].weight)
    vae = SimpleNamespace(decoders=decoders)
    found = Latents({}, None, {}, names, np.zeros(6), vae)
    z = np.arange(12, dtype=np.float32).reshape(2, 6)
    assert found.decoded(z, "text").tolist() == z[:, [0, 1, 2]].tolist()
    assert found.decoded(z, "image").tolist() == z[:, [0, 1, 3, 4, 5]].tolist()
    assert [found.label(at) for at in range(6)] == ["z0", "z1", "text 0", "image 0", "image 1", "image 2"]
