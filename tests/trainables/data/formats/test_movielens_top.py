"""Top-K lists of MovieLens: what is held out, what is offered, and that features know nothing of either."""

import numpy as np
import pytest
from disk import by_id, classes, write_files

from trainables.data.formats import movielens_top, movielens_top_full, movielens_top_time
from trainables.data.reading.candidates import TRAIN, Offers, by_time, latent_factors, leave_one_out

NUM_USERS, NUM_FILMS = 25, 40


def ratings():
    """Of each user 5 to 9 films in the order in which they were rated."""
    rng, found = np.random.default_rng(0), []
    for user in range(NUM_USERS):
        films = rng.permutation(NUM_FILMS)[: 5 + user % 5]
        found += [(user, int(film), int(rng.integers(1, 6)), 1000 * at + 7 * user) for at, film in enumerate(films)]
    return found


def write(folder):
    lines = [f"u{user}::f{film}::{stars}::{seconds}\n" for user, film, stars, seconds in ratings()]
    write_files(
        folder,
        {
            "ratings.dat": "".join(lines),
            "movies.dat": "".join(f"f{film}::Film {film} ({1950 + film})::Drama\n" for film in range(NUM_FILMS)),
        },
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("top")
    write(root)
    return str(root)


def rows_of(table):
    """(user, split, film) -> row."""
    parts = [id.replace("@", "/").split("/") for id in table.ids]
    return {(user, split, film): at for at, (user, split, film) in enumerate(parts)}


@pytest.mark.slow
def test_the_last_is_test_and_the_one_before_validation(folder):
    table = movielens_top.read(folder)
    taken = {key for key, at in rows_of(table).items() if table.targets["interaction"].labels[at] == 1}
    expected = set()
    for user in range(NUM_USERS):
        mine = [(seconds, f"f{film}") for who, film, _, seconds in ratings() if who == user]
        films = [film for _, film in sorted(mine)]
        expected |= {(f"u{user}", "test", films[-1]), (f"u{user}", "val", films[-2])}
        expected |= {(f"u{user}", "train", film) for film in films[:-2]}
    assert taken == expected
    stars = {(f"u{user}", f"f{film}"): stars for user, film, stars, _ in ratings()}
    for (user, _, film), at in rows_of(table).items():
        assert classes(table, "rating")[at] == stars.get((user, film)) or table.targets["interaction"].labels[at] == 0
    assert table.targets["rating"].is_labelled.tolist() == (table.targets["interaction"].labels == 1).tolist()


def test_candidates(folder):
    """Sampled ones the user never rated; in full all that the user did not rate before; in training four each."""
    rated = {(f"u{user}", f"f{film}") for user, film, _, _ in ratings()}
    sampled, full = movielens_top.read(folder), movielens_top_full.read(folder)
    for table in (sampled, full):
        rows, labels = rows_of(table), table.targets["interaction"].labels
        for user in (f"u{at}" for at in range(NUM_USERS)):
            of = {split: [key[2] for key in rows if key[:2] == (user, split)] for split in ("train", "val", "test")}
            mine = {film for name, film in rated if name == user}
            trained = {film for film in of["train"] if labels[rows[user, "train", film]] == 1}
            (val,), (test,) = ([f for f in of[split] if labels[rows[user, split, f]] == 1] for split in ("val", "test"))
            assert mine == trained | {val, test}
            assert len(of["train"]) == min(5 * len(trained), NUM_FILMS)
            offered = {split: set(of[split]) - {val if split == "val" else test} for split in ("val", "test")}
            films = {f"f{film}" for film in range(NUM_FILMS)}
            there = {film for _, film in rated}  # a film that nobody rated is none
            if table is sampled:
                assert offered["val"] == offered["test"] == (films & there) - mine
            else:
                assert offered["val"] == there - trained - {val} and offered["test"] == there - trained - {val, test}


def test_what_is_held_out_may_stand_beside_a_training_film(folder):
    """If it could not, an item that is never a negative would give itself away."""
    table = movielens_top.read(folder)
    rows, labels = rows_of(table), table.targets["interaction"].labels
    held_out = {(user, film) for (user, split, film), at in rows.items() if split != "train" and labels[at] == 1}
    beside = {(user, film) for (user, split, film), at in rows.items() if split == "train" and labels[at] == 0}
    share = len(held_out & beside) / len(held_out)
    others = {(f"u{user}", f"f{film}") for user in range(NUM_USERS) for film in range(NUM_FILMS)}
    others -= {(f"u{user}", f"f{film}") for user, film, _, _ in ratings()}
    assert share == pytest.approx(len(others & beside) / len(others), abs=0.15) and 0 < share < 1


def test_by_time_nothing_trains_on_what_comes_later(folder):
    table = movielens_top_time.read(folder)
    when = {(f"u{user}", f"f{film}"): seconds for user, film, _, seconds in ratings()}
    times = {split: [] for split in ("train", "val", "test")}
    for (user, split, film), at in rows_of(table).items():
        if table.targets["interaction"].labels[at] == 1:
            times[split].append(when[user, film])
    assert max(times["train"]) < min(times["val"]) and max(times["val"]) < min(times["test"])
    trained = {key[2] for key, at in rows_of(table).items() if key[1] == "train"}
    labels = table.targets["interaction"].labels
    assert all(key[2] in trained or labels[at] == 0 for key, at in rows_of(table).items())
    users, seconds, films = (np.array(each) for each in ([0, 0, 1, 0, 2, 0], [1, 2, 3, 4, 5, 6], [0, 1, 0, 1, 0, 9]))
    part = by_time(users, seconds, films, share=0.2)
    assert part.tolist() == [0, 0, 0, 1, -1, -1]  # a new user, a new film


@pytest.mark.slow
def test_a_row_and_what_stands_beside_it_see_the_same_history(folder):
    """Else the number of neighbours would be the label. It is the user's other training films."""
    table = movielens_top.read(folder)
    rows, labels, graph = rows_of(table), table.targets["interaction"].labels, table.graph
    films = sorted({f"f{film}" for _, film, _, _ in ratings()})
    sizes = {0: [], 1: []}
    for (user, split, film), at in rows.items():
        seen = {films[node] for node in graph.nodes[graph.offsets[at] : graph.offsets[at + 1]]}
        trained = {key[2] for key, row in rows.items() if key[:2] == (user, "train") and labels[row] == 1}
        assert seen <= trained and len(seen) == len(trained) - (split == "train")
        assert film not in seen or labels[at] == 0
        sizes[labels[at]].append((user, split, len(seen)))
    assert set(sizes[0]) == set(sizes[1])


def test_latent_factors_are_those_of_the_training_matrix():
    """Against numpy's SVD; a training row's own interaction is taken out of its user's sum."""
    rng = np.random.default_rng(3)
    matrix = rng.random((12, 9)) < 0.4
    matrix[:, 0] = True
    users, items = np.nonzero(matrix)
    parts = leave_one_out(users, rng.permutation(len(users)), items)
    rows = Offers(items, parts, np.ones(len(users), bool), np.arange(len(users)))
    found = latent_factors(users, items, parts, rows, num_items=9, size=4)
    train = np.zeros((12, 9))
    train[users[parts == TRAIN], items[parts == TRAIN]] = 1
    _, _, vectors = np.linalg.svd(train)
    projector = vectors[:4].T @ vectors[:4]  # which no sign and no rotation changes
    for row, (user, item) in enumerate(zip(users, items, strict=True)):
        taken = train[user].copy()
        taken[item] = 0
        assert found.scores[row] == pytest.approx((taken @ projector)[item], abs=1e-6)
    assert found.users.shape == found.items.shape == (len(users), 4)


def test_factors_know_nothing_of_what_is_held_out(folder, tmp_path):
    """Other films in validation and test, the same factors."""
    lines, found = ratings(), []
    last = {user: max(seconds for who, _, _, seconds in lines if who == user) for user, *_ in lines}
    taken = {(user, film) for user, film, _, _ in lines}
    for user, film, stars, seconds in lines:
        if seconds == last[user]:
            film = next(other for other in range(NUM_FILMS) if (user, other) not in taken)
        found.append(f"u{user}::f{film}::{stars}::{seconds}\n")
    write(tmp_path)
    write_files(tmp_path, {"ratings.dat": "".join(found)})
    one, other = movielens_top.read(folder), movielens_top.read(str(tmp_path))
    at = [name for name, _ in enumerate(one.numeric_names) if "factor" in one.numeric_names[name]]
    ours, theirs = by_id(one, one.numeric), by_id(other, other.numeric)
    common = [id for id in ours if id in theirs and "@train" in id]
    assert len(common) > 300
    for id in common:
        np.testing.assert_allclose(ours[id][at[-1]], theirs[id][at[-1]], atol=1e-6)


def test_what_cannot_be_held_out_is_said(tmp_path):
    write(tmp_path)
    write_files(tmp_path, {"ratings.dat": "u1::f1::3::5\nu1::f2::3::5\nu2::f1::3::5\n"})
    with pytest.raises(ValueError, match="no user has three ratings, of which two could be held out"):
        movielens_top.read(str(tmp_path))
    with pytest.raises(ValueError, match="too few different times to be split by time"):
        movielens_top_time.read(str(tmp_path))
