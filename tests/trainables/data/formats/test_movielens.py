import math

import numpy as np
import pytest
from disk import by_id, classes, png, with_those_left_out, write_files

from trainables.data.formats import movielens, movielens_movies
from trainables.data.formats.movielens import rated_before

GENRES = ("unknown", "Action", "Comedy", "Drama")
# id -> title, genres; the accent is one byte in Latin-1 and two in UTF-8
MOVIES = {
    "1": ("Toy Story (1995)", ("Comedy",)),
    "2": ("American President, The (1995)", ("Comedy", "Drama")),
    "3": ("Am\u00e9lie (2001)", ("Drama",)),
    "4": ("unknown", ()),
}
# user, film, rating, seconds
RATINGS = [
    (str(user), str(1 + (user + at) % 4), (1, 3, 4, 5)[(user * at) % 4], 1000 + 10 * at)
    for user in range(1, 31)
    for at in range(3)
]


def genres(names, separator, none=""):
    return separator.join(names) or none


def write_100k(folder):
    """Bars and tabs, Latin-1, genres as flags."""
    items = ""
    for id, (title, names) in MOVIES.items():
        flags = [str(int(genre in (names or ("unknown",)))) for genre in GENRES]
        items += "|".join([id, title, "01-Jan-1995", "", "http://x", *flags]) + "\n"
    write_files(
        folder,
        {
            "u.data": "".join("\t".join(map(str, row)) + "\n" for row in RATINGS),
            "u.item": items.encode("latin-1"),
            "u.genre": "".join(f"{name}|{number}\n" for number, name in enumerate(GENRES)) + "\n",
            "u.user": "".join(f"{user}|{20 + user}|F|writer|T8H1N\n" for user in range(1, 31)),
        },
    )


def write_1m(folder, encoding="latin-1"):
    """Double colons; occupations and ages by code."""
    write_files(
        folder,
        {
            "ratings.dat": "".join("::".join(map(str, row)) + "\n" for row in RATINGS),
            "movies.dat": "".join(
                f"{id}::{title}::{genres(names, '|', '(no genres listed)')}\n" for id, (title, names) in MOVIES.items()
            ).encode(encoding),
            "users.dat": "".join(f"{user}::F::25::20::T8H1N\n" for user in range(1, 31)),
        },
    )


def write_10m(folder):
    """As 1M in UTF-8, without users."""
    write_1m(folder, "utf-8")
    (folder / "users.dat").unlink()


def write_csv(folder):
    """20M and later: headers, quotes, halves of stars."""
    write_files(
        folder,
        {
            "ratings.csv": "userId,movieId,rating,timestamp\n"
            + "".join(f"{user},{movie},{stars}.0,{seconds}\r\n" for user, movie, stars, seconds in RATINGS),
            "movies.csv": "movieId,title,genres\n"
            + "".join(
                f'{id},"{title}",{genres(names, "|", "(no genres listed)")}\n' for id, (title, names) in MOVIES.items()
            ),
            "tags.csv": "not read",
        },
    )


TRIPLES = (
    ("m.toy", "film.film.language", "m.english"),
    ("m.president", "film.film.language", "m.english"),
    ("m.ryan", "film.writer.film", "m.toy"),
    ("m.ryan", "film.writer.film", "m.amelie"),
    ("m.toy", "film.film.sequel", "m.toy2"),
    ("m.elsewhere", "film.film.language", "m.english"),
)


def write_recbole(folder):
    """RecBole's copy: name:type in the header, the year in a column of its own."""
    write_files(
        folder,
        {
            "ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
            + "".join("\t".join(map(str, row)) + "\n" for row in RATINGS),
            "ml-100k.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
            + "".join(
                "\t".join([id, title.partition(" (")[0], title[-5:-1] * ("(" in title), genres(names, " ", "unknown")])
                + "\n"
                for id, (title, names) in MOVIES.items()
            ),
            "ml-100k.kg": "head_id:token\trelation_id:token\ttail_id:token\n"
            + "".join("\t".join(triple) + "\n" for triple in TRIPLES),
            "ml-100k.link": "item_id:token\tentity_id:token\n1\tm.toy\n2\tm.president\n3\tm.amelie\n",
            "ml-100k.user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
            + "".join(f"{user}\t{20 + user}\tF\twriter\tT8H1N\n" for user in range(1, 31)),
        },
    )


LAYOUTS = {"100k": write_100k, "1m": write_1m, "10m": write_10m, "csv": write_csv, "recbole": write_recbole}
write = write_1m


@pytest.mark.parametrize("layout", LAYOUTS)
def test_releases_say_the_same(tmp_path, layout):
    LAYOUTS[layout](tmp_path)
    table = movielens.read(str(tmp_path))
    assert table.problems == []
    assert table.ids == [f"{user}-{movie}" for user, movie, _, _ in RATINGS]
    assert classes(table) == [float(stars) for _, _, stars, _ in RATINGS]
    assert classes(table, "rating_class") == [
        {1: "low", 3: "medium", 4: "high", 5: "high"}[stars] for _, _, stars, _ in RATINGS
    ]
    title = "Am\u00e9lie" if layout == "recbole" else "Am\u00e9lie (2001)"
    assert by_id(table, table.texts)["1-3"] == f"{title}. Drama"
    years = {"1": 1995, "2": 1995, "3": 2001, "4": math.nan}
    assert np.array_equal(table.numeric[:, 0], [years[movie] for _, movie, _, _ in RATINGS], equal_nan=True)
    assert table.categorical["user"] == [user for user, _, _, _ in RATINGS]
    if layout in ("100k", "1m", "recbole"):
        assert table.numeric_names[:2] == ("year", "user_age")
        assert table.numeric[0, 1] == (25 if layout == "1m" else 21)
        assert {name: values[0] for name, values in table.categorical.items()} == {
            "user": "1", "movie": "2", "user_gender": "F", "user_occupation": "writer", "user_region": "T",
        }  # fmt: skip
    else:
        assert table.numeric_names[0] == "year" and set(table.categorical) == {"user", "movie"}
    sides = ("user", "item")
    factors = [name for side in sides for name in (*(f"{side}_factor_{at}" for at in range(1, 9)), f"{side}_bias")]
    assert [name for name in table.numeric_names if name not in ("year", "user_age")] == [*factors, "factor_score"]
    assert list(table.graphs) == (["history", "knowledge", "both"] if layout == "recbole" else ["history"])
    movies = movielens_movies.read(str(tmp_path))
    assert movies.ids == ["1", "2", "3", "4"] and movies.problems == []
    assert classes(movies) == [{"Comedy"}, {"Comedy", "Drama"}, {"Drama"}, None]
    assert movies.texts[2] == title  # without the genres, which are its label


def test_triples_are_what_films_have_in_common(tmp_path):
    """Both ends of a triple count; an entity that is no film of the release, and what one film has alone, do not."""
    write_recbole(tmp_path)
    table = movielens.read(str(tmp_path))
    knowledge = table.graphs["knowledge"]
    shared = {"1": {"language", "ryan"}, "2": {"language"}, "3": {"ryan"}, "4": set()}
    names = sorted(("film.film.language>m.english", "film.writer.film<m.ryan"))
    for row, (_, movie, _, _) in enumerate(RATINGS):
        nodes = knowledge.nodes[knowledge.offsets[row] : knowledge.offsets[row + 1]]
        assert {names[node] for node in nodes} == {next(n for n in names if part in n) for part in shared[movie]}
    assert {path.name for path in movielens.sources(str(tmp_path))} >= {"ml-100k.kg", "ml-100k.link"}


def test_what_is_wrong_with_triples_is_said(tmp_path):
    write_recbole(tmp_path)
    with (tmp_path / "ml-100k.kg").open("a") as file:
        file.write("m.toy\tfilm.film.language\n")
    with (tmp_path / "ml-100k.link").open("a") as file:
        file.write("3\tm.other\n")
    assert movielens.read(str(tmp_path)).problems == [
        "ml-100k.kg line 8: 2 fields, not 3",
        "ml-100k.link line 5: film 3 was there before",
    ]
    (tmp_path / "ml-100k.link").unlink()
    with pytest.raises(ValueError, match=r"has no \*.link"):
        movielens.read(str(tmp_path))


def test_a_held_out_rating_changes_no_feature(tmp_path):
    """Its own stars are no feature of it, nor of any other row."""
    write(tmp_path / "one")
    one = movielens.read(str(tmp_path / "one"))
    at = one.split.tolist().index("test")
    changed = [(*row[:2], 6 - row[2] if row == RATINGS[at] else row[2], row[3]) for row in RATINGS]
    assert changed != RATINGS
    write(tmp_path / "other")
    text = "".join("::".join(map(str, row)) + "\n" for row in changed)
    write_files(tmp_path / "other", {"ratings.dat": text})
    other = movielens.read(str(tmp_path / "other"))
    assert classes(one) != classes(other)
    assert np.array_equal(one.numeric, other.numeric, equal_nan=True) and np.isfinite(one.numeric[:, 2:]).all()


def test_splits_are_the_same_in_every_release(tmp_path):
    splits = []
    for layout, writer in LAYOUTS.items():
        writer(tmp_path / layout)
        splits.append(movielens.read(str(tmp_path / layout)).split.tolist())
    assert all(split == splits[0] for split in splits)
    assert [splits[0].count(name) for name in ("train", "val", "test")] == [72, 9, 9]


def test_plots_and_posters(tmp_path):
    write(tmp_path)
    write_files(tmp_path, {f"posters/{id}.{'png' if id == '2' else 'jpg'}": png(int(id)) for id in ("1", "2", "3")})
    write_files(tmp_path, {"plots.csv": 'movieId,plot\n1,"Toys, alive"\n3,\n'})
    table = movielens.read(str(tmp_path))
    kept = [(user, movie) for user, movie, _, _ in RATINGS if movie != "4"]
    assert table.ids == [f"{user}-{movie}" for user, movie in kept]
    assert list(table.images) == [png(int(movie)) for _, movie in kept]
    assert table.texts[table.categorical["movie"].index("1")] == "Toy Story (1995). Comedy. Toys, alive"
    problem = "movies.dat line 4: no picture posters/4.jpg: the film and its ratings are left out"
    assert table.problems == [problem]
    assert with_those_left_out(table) == [f"{user}-{movie}" for user, movie, _, _ in RATINGS]
    assert {one.why for one in table.left_out} == {"no picture posters/4.jpg"}
    movies = movielens_movies.read(str(tmp_path))
    assert (movies.ids, movies.problems) == (["1", "2", "3"], [problem])
    assert with_those_left_out(movies) == ["1", "2", "3", "4"]
    assert movies.texts[0] == "Toy Story (1995). Toys, alive"
    assert [path.name for path in movielens.sources(str(tmp_path))] == [
        "ratings.dat",
        "movies.dat",
        "users.dat",
        "plots.csv",
    ]


def test_what_cannot_be_used_is_listed(tmp_path):
    write(tmp_path)
    with (tmp_path / "ratings.dat").open("a") as file:
        file.write("1::2::5::9\n1::99::5::9\n31::1::6::9\n31::1::nan::9\n31::1::5\n31::1::x::9\n")
    with (tmp_path / "movies.dat").open("a") as file:
        file.write("1::Again::Drama\n5::No genres\n")
    with (tmp_path / "users.dat").open("a") as file:
        file.write("32::F::old::1::9\n")
    table = movielens.read(str(tmp_path))
    assert len(table.ids) == len(RATINGS)
    assert table.problems == [
        "movies.dat line 5: film 1 was there before",
        "movies.dat line 6: 2 fields between '::', not 3",
        "users.dat line 31: age 'old' is no number",
        "ratings.dat line 91: id 1-2 was there before",
        "ratings.dat line 92: film 99 is not in movies.dat",
        "ratings.dat line 93: rating '6' is not within 0.5 and 5",
        "ratings.dat line 94: rating 'nan' is no number",
        "ratings.dat line 95: 3 fields between '::', not 4",
        "ratings.dat line 96: rating 'x' is no number",
    ]
    end = len(RATINGS)
    assert [(one.before, one.id) for one in table.left_out] == [
        (end, "1-2"), (end, "1-99"), (end, "31-1"), (end, "31-1"), (end, "ratings.dat line 95"), (end, "31-1"),
    ]  # fmt: skip


def test_neighbours_are_what_the_user_rated_in_training():
    """Against a slow second implementation."""
    rng = np.random.default_rng(0)
    pairs = sorted({(int(user), int(film)) for user, film in rng.integers(0, [6, 12], (60, 2))})
    rng.shuffle(pairs)
    users, films = [f"u{user}" for user, _ in pairs], [f"f{film:02}" for _, film in pairs]
    seconds, is_train = rng.integers(0, 20, len(pairs)), rng.random(len(pairs)) < 0.7
    graph = rated_before(users, films, seconds, is_train, latest=3)
    names = sorted(set(films))
    assert graph.num_nodes == len(names)
    for row in range(len(pairs)):
        others = [at for at in range(len(pairs)) if users[at] == users[row] and is_train[at] and at != row]
        others.sort(key=lambda at: (-seconds[at], films[at]))
        found = graph.nodes[graph.offsets[row] : graph.offsets[row + 1]]
        assert [names[node] for node in found] == [films[at] for at in others[:3]]


@pytest.mark.parametrize(
    "layout, gone, message",
    [
        ("100k", "u.genre", "has no u.genre. Known layouts"),
        ("csv", "movies.csv", "has no movies.csv"),
        ("1m", "ratings.dat", "has no u.data, ratings.dat, ratings.csv or"),
    ],
)
def test_what_is_missing_is_named(tmp_path, layout, gone, message):
    LAYOUTS[layout](tmp_path)
    (tmp_path / gone).unlink()
    for module in (movielens, movielens_movies):
        with pytest.raises(ValueError, match=message):
            module.read(str(tmp_path))


def test_files_that_are_something_else(tmp_path):
    write_csv(tmp_path)
    write_files(tmp_path, {"ratings.csv": "userId,movieId,stars,timestamp\n"})
    with pytest.raises(ValueError, match="ratings.csv line 1: no column 'rating'. Known: userId"):
        movielens.read(str(tmp_path))
    write_1m(tmp_path / "1m")
    write_files(tmp_path / "1m", {"ratings.dat": "1,1,5,9\n1,2,5,9\n"})
    with pytest.raises(ValueError, match="ratings.dat line 1: 1 fields between '::', not 4"):
        movielens.read(str(tmp_path / "1m"))
