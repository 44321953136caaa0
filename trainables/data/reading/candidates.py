"""Top-K recommendation from interactions: which are held out, and which items each user is offered beside them.

P interactions, U users, I items; users and items are numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trainables.seeds import derive_seed

TRAIN, VAL, TEST, COLD = 0, 1, 2, -1


def leave_one_out(users: np.ndarray, seconds: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(P,) TRAIN, VAL or TEST: of each user with three or more the last is test and the one before validation (He et
    al. 2017); at the same time the item's number decides."""
    part = np.zeros(len(users), np.int64)
    order = np.lexsort((items, seconds, users))
    counts = np.bincount(users)[users[order]]
    ends = np.concatenate([users[order][1:] != users[order][:-1], [True]])
    last = np.flatnonzero(ends & (counts >= 3))
    part[order[last]], part[order[last - 1]] = TEST, VAL
    return part


def by_time(users: np.ndarray, seconds: np.ndarray, items: np.ndarray, *, share: float = 0.1) -> np.ndarray:
    """(P,) TRAIN, VAL, TEST or COLD: the last tenth of all time's interactions is test, the tenth before validation;
    what happens in one second stays together. COLD: held out, of a user or item that training does not have.

    Raises:
        ValueError: too few different times.
    """
    ordered, num = np.sort(seconds), len(seconds)
    begin_val, begin_test = ordered[int(num * (1 - 2 * share))], ordered[int(num * (1 - share))]
    part = np.where(seconds >= begin_test, TEST, np.where(seconds >= begin_val, VAL, TRAIN))
    if len(np.unique(part)) < 3:
        raise ValueError("its ratings are of too few different times to be split by time")
    is_train = part == TRAIN
    is_known = np.isin(users, users[is_train]) & np.isin(items, items[is_train])
    return np.where(is_train | is_known, part, COLD)


class Offers(NamedTuple):
    """Rows of (user, item), N of them.

    Attributes:
        items: (N,).
        parts: (N,) TRAIN, VAL or TEST.
        is_positive: (N,) bool: the user took it.
        sources: (N,) the interaction that a row is, or that it stands beside.
    """

    items: np.ndarray
    parts: np.ndarray
    is_positive: np.ndarray
    sources: np.ndarray


def offers(
    users: np.ndarray,
    items: np.ndarray,
    parts: np.ndarray,
    *,
    num_items: int,
    names: list[str],
    num_candidates: int | None,
    num_negatives: int = 4,
) -> Offers:
    """Every interaction that is not COLD, and beside it items that the user did not take.

    In training ``num_negatives`` an interaction, of those that the user did not take in training: what is held out may
    be among them, as any other item may, so that an item's absence tells nothing. In validation and test
    ``num_candidates`` a user of the items that the user never took; None: all that the user did not take before.
    What is drawn depends on the user's name alone.

    Args:
        users: (P,).
        items: (P,).
        parts: (P,).
        num_items: I.
        names: of the U users.
        num_candidates: beside a user's held-out items, for each split.
        num_negatives: beside each training interaction.
    """
    order = np.argsort(users, kind="stable")
    bounds = np.searchsorted(users[order], np.arange(len(names) + 1))
    found: list[tuple[np.ndarray, int, bool, np.ndarray]] = []
    for user, name in enumerate(names):
        mine = order[bounds[user] : bounds[user + 1]]
        taken, mine_parts, before = items[mine], parts[mine], np.zeros(num_items, bool)
        ever = np.zeros(num_items, bool)
        ever[taken] = True
        for part in (TRAIN, VAL, TEST):
            own = mine[mine_parts == part]
            if len(own) == 0:
                continue
            before[items[own]] = True
            if part != TRAIN and num_candidates is not None:
                pool, number = np.flatnonzero(~ever), num_candidates
            else:
                pool, number = np.flatnonzero(~before), num_negatives * len(own)
            if part == TRAIN or num_candidates is not None:
                rng = np.random.default_rng(derive_seed(1, "offers", name, part))
                pool = rng.choice(pool, min(number, len(pool)), replace=False)
            found.append((items[own], part, True, own))
            found.append((pool, part, False, own[np.arange(len(pool)) % len(own)]))
    sizes = [len(each) for each, *_ in found]
    return Offers(
        np.concatenate([each for each, *_ in found]),
        np.repeat([part for _, part, *_ in found], sizes),
        np.repeat([positive for *_, positive, _ in found], sizes),
        np.concatenate([source for *_, source in found]),
    )


class Factors(NamedTuple):
    """Latent factors of rows.

    Attributes:
        users: (N, D).
        items: (N, D).
        scores: (N,) their product.
    """

    users: np.ndarray
    items: np.ndarray
    scores: np.ndarray


def latent_factors(
    users: np.ndarray, items: np.ndarray, parts: np.ndarray, rows: Offers, *, num_items: int, size: int
) -> Factors:
    """PureSVD (Cremonesi et al. 2010) of who took what in training: an item's factors are the matrix's right singular
    vectors, a user's the sum of the factors of what the user took, without the interaction that the row stands for.

    So a row's factors know nothing of its own label, and rows of all splits are on one scale.

    Args:
        users: (P,) of the interactions.
        items: (P,).
        parts: (P,); TRAIN alone is factorised.
        rows: N rows.
        num_items: I.
        size: D, at most the rank that the matrix can have.
    """
    import torch

    train = np.flatnonzero(parts == TRAIN)
    num_users = int(users.max()) + 1
    places = torch.from_numpy(np.stack([users[train], items[train]]))
    ones, shape = torch.ones(len(train), dtype=torch.float64), (num_users, num_items)
    matrix = torch.sparse_coo_tensor(places, ones, shape, check_invariants=True)
    rank = min(size, num_users, num_items)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        _, _, vectors = torch.svd_lowrank(matrix.coalesce(), q=min(2 * size, num_users, num_items), niter=8)
    factors = vectors[:, :rank].numpy()
    factors = factors * np.sign(factors[np.abs(factors).argmax(axis=0), np.arange(rank)])  # the sign is anybody's
    factors = np.pad(factors, ((0, 0), (0, size - rank)))
    sums = np.zeros((num_users, size))
    np.add.at(sums, users[train], factors[items[train]])
    own = np.where((parts[rows.sources] == TRAIN)[:, None], factors[items[rows.sources]], 0.0)
    of_users, of_items = sums[users[rows.sources]] - own, factors[rows.items]
    return Factors(of_users, of_items, (of_users * of_items).sum(axis=1))
