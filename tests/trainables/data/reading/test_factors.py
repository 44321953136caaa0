"""Latent factors of ratings: exact solutions, and nothing of what is held out or of a row's own label."""

import numpy as np
import pytest

from trainables.data.reading import factors
from trainables.data.reading.factors import rating_factors


@pytest.fixture(scope="module")
def ratings():
    """(users, items, stars, is_train): 30 users, 20 items, a rank of 2 and biases, little noise."""
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((30, 20)) < 0.6)
    tastes, kinds = rng.normal(size=(30, 2)), rng.normal(size=(20, 2))
    biases = rng.normal(size=30)[users] + rng.normal(size=20)[items]
    stars = 3 + biases + (tastes[users] * kinds[items]).sum(axis=1) + rng.normal(0, 0.01, len(users))
    return users, items, stars, rng.random(len(users)) < 0.8


def guess(ratings, **changes):
    users, items, stars, is_train = ratings
    return rating_factors(users, items, changes.get("stars", stars), is_train, size=2)


def test_held_out_ratings_change_nothing(ratings):
    users, items, stars, is_train = ratings
    one = guess(ratings)
    other = guess(ratings, stars=np.where(is_train, stars, -stars))
    for ours, theirs in zip(one, other, strict=True):
        assert np.array_equal(ours, theirs)
    kept = rating_factors(users[is_train], items[is_train], stars[is_train], np.ones(is_train.sum(), bool), size=2)
    assert np.array_equal(one.scores[is_train], kept.scores)  # nor is who rated what


def test_they_tell_held_out_ratings(ratings):
    _, _, stars, is_train = ratings
    error = (guess(ratings).scores - stars)[~is_train]
    assert error.std() < 0.75 * stars[~is_train].std() and not np.array_equal(error, np.round(error))


def test_a_row_is_solved_without_its_own_rating(ratings):
    """Against ridge regressions from scratch: each without the row, with the ridge of all of the item's rows."""
    users, items, stars, is_train = ratings
    train = np.flatnonzero(is_train)
    found = guess(ratings)
    rng = np.random.default_rng(5)
    other = rng.normal(size=(len(train), 3))
    rest = stars[train] - stars[train].mean()
    solved, inverse = factors.ridge(items[train], other, rest, 20)
    without = factors.without_own(items[train], other, rest, solved, inverse)
    for at in (0, 7, 100):
        mine = np.flatnonzero(items[train] == items[train][at])
        ridge = factors.LAMBDA * len(mine) * np.eye(3)
        for rows, expected in ((mine, solved[items[train][at]]), (mine[mine != at], without[at])):
            x = np.concatenate([other[rows, :2], np.ones((len(rows), 1))], axis=1)
            wanted = np.linalg.solve(x.T @ x + ridge, x.T @ (rest[rows] - other[rows, 2]))
            np.testing.assert_allclose(expected, wanted, atol=1e-10)
    assert found.users.shape == found.items.shape == (len(users), 3)


def test_who_has_no_other_rating_has_no_factors():
    users, items = np.array([0, 0, 1, 1, 2, 3]), np.array([0, 1, 0, 1, 2, 0])
    stars, is_train = np.array([1.0, 5, 2, 4, 5, 3]), np.array([True] * 5 + [False])
    found = rating_factors(users, items, stars, is_train, size=2)
    assert (found.users[4] == 0).all() and (found.items[4] == 0).all()  # its one training rating
    assert (found.users[5] == 0).all() and found.items[5].any()  # a new user
    assert found.scores[4] == stars[:5].mean()
