"""Maps by singular values, silhouettes by hand and by scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics

from analysis.inspect.latent import coordinates, silhouettes
from trainables.task import Task

CLASSES = ("a", "b", "c", "d")


def samples():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [12, 10, 8])
    return rng.normal(size=(30, 5)) + 2 * labels[:, None], labels


def by_definition(values, labels):
    """The silhouette of each sample: a to the others of its class, b to the nearest other class."""
    found = []
    for at, own in enumerate(labels):
        distances = np.sqrt(((values - values[at]) ** 2).sum(axis=1))
        others = np.arange(len(labels)) != at
        a = distances[(labels == own) & others].mean()
        b = min(distances[labels == other].mean() for other in set(labels) - {own})
        found.append((b - a) / max(a, b))
    return np.array(found)


def test_silhouettes_are_of_the_features_by_class():
    values, labels = samples()
    table = silhouettes(values, labels, Task("multiclass", CLASSES)).set_index("class")
    each = by_definition(values, labels)
    assert table.loc["all", "silhouette"] == pytest.approx(sklearn.metrics.silhouette_score(values, labels))
    assert table.loc["all", "silhouette"] == pytest.approx(each.mean())
    assert table.loc["b", "silhouette"] == pytest.approx(each[labels == 1].mean())
    assert dict(table["samples"]) == {"all": 30, "a": 12, "b": 10, "c": 8, "d": 0}
    assert np.isnan(table.loc["d", "silhouette"])


def test_of_several_classes_each_is_against_the_rest():
    values, labels = samples()
    has = np.stack([labels == 0, labels > 0, np.ones(30)], axis=1)
    table = silhouettes(values, has, Task("multilabel", CLASSES[:3])).set_index("class")
    first = by_definition(values, (labels == 0).astype(int)).mean()
    assert table.loc["a", "silhouette"] == pytest.approx(first)
    assert np.isnan(table.loc["c", "silhouette"])  # all have it
    assert table.loc["all", "silhouette"] == pytest.approx((first + table.loc["b", "silhouette"]) / 2)


def test_one_class_and_a_regression_have_none():
    values, _ = samples()
    one = silhouettes(values, np.zeros(30, int), Task("multiclass", CLASSES))
    assert np.isnan(one["silhouette"].to_numpy(float)).all()
    number = silhouettes(values, np.zeros(30), Task("regression"))
    assert np.isnan(number["silhouette"].to_numpy(float)).all()


def test_principal_components_are_singular_vectors():
    values, _ = samples()
    values[:, 3] = 7  # does not vary
    maps = coordinates(values, seed=0)
    scaled = np.delete((values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-12), 3, axis=1)
    left, sizes, _ = np.linalg.svd(scaled, full_matrices=False)
    np.testing.assert_allclose(np.abs(maps["pca"]), np.abs(left * sizes)[:, :2], atol=1e-9)
    assert maps["tsne"].shape == (30, 2) and np.isfinite(maps["tsne"]).all()


def test_neighbours_stay_neighbours_and_a_seed_repeats():
    values, labels = samples()
    values = values + 20 * labels[:, None]
    first, again = (coordinates(values, seed=3)["tsne"] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert sklearn.metrics.silhouette_score(first, labels) > 0.5


def test_features_that_do_not_vary_lie_on_a_point():
    maps = coordinates(np.ones((6, 3)), seed=0)
    np.testing.assert_allclose(maps["pca"], 0)


@pytest.mark.slow
def test_umap_keeps_clouds_apart_and_repeats():
    pytest.importorskip("umap", reason="umap-learn is not installed")
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=(40, 8)), rng.normal(size=(40, 8)) + 12])
    one, other = (coordinates(values, seed=3)["umap"] for _ in range(2))
    assert one.shape == (80, 2) and (one == other).all()
    groups = np.repeat([0, 1], 40)
    assert sklearn.metrics.silhouette_score(one, groups) > 0.7
