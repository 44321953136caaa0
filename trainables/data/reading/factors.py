"""Matrix factorisation of ratings with biases, by alternating least squares (Zhou et al. 2008; Koren et al. 2009).

A rating r of user u and item i is guessed as the mean + b_u + c_i + p_u q_i. Each half-step solves the ridge problems

    min over (q_i, c_i): sum_u (r - mean - b_u - c_i - p_u q_i)^2 + lambda n_i (|q_i|^2 + c_i^2)

of all items exactly, or of all users; n_i is the number of ratings. P ratings, D factors, F = D + 1 with the bias.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_STEPS = 15
LAMBDA = 0.15
_CHUNK = 1_000_000


class RatingFactors(NamedTuple):
    """Of N pairs of a user and an item.

    Attributes:
        users: (N, F) factors and, last, the bias.
        items: (N, F).
        scores: (N,) the guessed rating.
    """

    users: np.ndarray
    items: np.ndarray
    scores: np.ndarray


def rating_factors(
    users: np.ndarray, items: np.ndarray, stars: np.ndarray, is_train: np.ndarray, *, size: int, seed: int = 1
) -> RatingFactors:
    """Factors of each rating's user and item, from the training ratings alone.

    Of a training rating both are solved without that rating (in closed form, Sherman and Morrison 1950), so that a row
    does not read its own label; of a user or item that has no other they are 0.

    Args:
        users: (P,) numbers from 0.
        items: (P,) numbers from 0.
        stars: (P,).
        is_train: (P,) bool.
        size: D.
        seed: of the first factors.
    """
    train, counts = np.flatnonzero(is_train), (int(users.max()) + 1, int(items.max()) + 1)
    user, item, mean = users[train], items[train], float(stars[train].mean())
    rest = stars[train].astype(np.float64) - mean
    rng = np.random.default_rng(seed)
    of_users = np.zeros((counts[0], size + 1))
    of_users[:, :size] = rng.normal(0, 0.1, (counts[0], size))
    of_items = np.zeros((counts[1], size + 1))
    for _ in range(_STEPS):
        of_items = ridge(item, of_users[user], rest, counts[1])[0]
        of_users, inverse_u = ridge(user, of_items[item], rest, counts[0])
    last_items, inverse_i = ridge(item, of_users[user], rest, counts[1])
    found_users, found_items = of_users[users], last_items[items]
    found_users[train] = without_own(user, of_items[item], rest, of_users, inverse_u)
    found_items[train] = without_own(item, of_users[user], rest, last_items, inverse_i)
    scores = (found_users[:, :-1] * found_items[:, :-1]).sum(axis=1) + found_users[:, -1] + found_items[:, -1]
    return RatingFactors(found_users, found_items, scores + mean)


def ridge(one: np.ndarray, other_PF: np.ndarray, rest: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """The solutions (num, F) of one side given the other, and the inverse matrices (num, F, F) that gave them.

    Args:
        one: (P,) of each rating the number of the side that is solved.
        other_PF: of each rating the other side's factors and, last, its bias.
        rest: (P,) the ratings without their mean.
        num: how many the solved side has.
    """
    width = other_PF.shape[1]
    features, target = _features(other_PF, rest)
    moments, sides = np.zeros((num, width, width)), np.zeros((num, width))
    for a in range(width):
        sides[:, a] = np.bincount(one, features[:, a] * target, minlength=num)
        for b in range(a, width):
            moments[:, a, b] = moments[:, b, a] = np.bincount(one, features[:, a] * features[:, b], minlength=num)
    counts = np.bincount(one, minlength=num).clip(min=1)
    inverse = np.linalg.inv(moments + LAMBDA * counts[:, None, None] * np.eye(width))
    return np.einsum("nab,nb->na", inverse, sides), inverse


def without_own(
    one: np.ndarray, other_PF: np.ndarray, rest: np.ndarray, solved: np.ndarray, inverse: np.ndarray
) -> np.ndarray:
    """(P, F): what :func:`ridge` would have solved of each rating's side without that rating, with the same lambda.

    Args:
        one: (P,) as there, and so ``other_PF`` and ``rest``.
        other_PF: see there.
        rest: see there.
        solved: what it gave, (num, F).
        inverse: and its matrices.
    """
    found = np.empty_like(other_PF)
    counts = np.bincount(one)
    for start in range(0, len(one), _CHUNK):
        part = slice(start, start + _CHUNK)
        features, target = _features(other_PF[part], rest[part])
        pushed = np.einsum("pab,pb->pa", inverse[one[part]], features)
        leverage = (features * pushed).sum(axis=1)
        error = target - (features * solved[one[part]]).sum(axis=1)
        found[part] = solved[one[part]] - pushed * (error / (1 - leverage))[:, None]
        found[part][counts[one[part]] == 1] = 0.0  # nothing is left but rounding
    return found


def _features(other_PF: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The other side's factors and a 1 for the own bias; what its bias leaves of the ratings."""
    ones = np.ones((len(other_PF), 1))
    return np.concatenate([other_PF[:, :-1], ones], axis=1), rest - other_PF[:, -1]
