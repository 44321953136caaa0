"""MovieLens (Harper and Konstan 2015), any release: who rated which film how, with titles, and plots and posters
where a folder has them.

A row is a rating; split 80/10/10 by the hash of user and film, whatever the release. The text is title, genres and
plot. Graph ``history``: the films that the row's user rated in the training part, the latest 20 without the row itself
(the implicit feedback of SVD++; Koren 2008). Graph ``knowledge``: what RecBole's triples say of the row's film. Among
the numbers are latent factors of the training ratings. One row a film is dataset ``movielens_movies``.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainables.data.reading.factors import RatingFactors, rating_factors
from trainables.data.reading.fields import BadRow
from trainables.data.reading.folder import data_folder
from trainables.data.reading.knowledge import film_graphs
from trainables.data.reading.movielens_files import Movie, MovieLens, User
from trainables.data.reading.rows import Rows
from trainables.data.reading.splits import hash_split
from trainables.data.reading.table import Neighbours, Table
from trainables.data.reading.targets import multiclass, regression

SUMMARY = "ratings of films by users, with title, attributes and graph; 0.5 to 5 (rating) or low, medium, high"
IS_EMBEDDED = False
TARGETS = {"rating": "regression", "rating_class": "multiclass"}

_NAME = "movielens"
_CLASSES = ("low", "medium", "high")  # below 3, below 4, the rest
_LATEST = 20  # neighbours at most
_FACTORS = 8
_CHUNK = 1_000_000  # rows whose neighbours are looked up together


def sources(data_dir: str | None) -> list[Path]:
    """The release's tables, and the plots.

    Raises:
        ValueError: no folder, or no known layout in it.
    """
    return sources_of(_NAME, data_dir)


def sources_of(name: str, data_dir: str | None) -> list[Path]:
    """The same of a dataset ``name`` that is made of the ratings."""
    root = data_folder(name, data_dir)
    release = MovieLens(name, root, Rows(name, root))
    return [*release.layout[1].values(), *([release.plots_file] if release.plots_file else [])]


def read(data_dir: str | None) -> Table:
    """All ratings of known films; where there are posters, of films that have one.

    Raises:
        ValueError: as for :func:`sources`, or a file that cannot be read at all.
    """
    rows, movies, users, said = read_ratings(_NAME, data_dir)
    split = hash_split(rows.ids)
    is_train = split == "train"
    rated_by, rated, stars = rows.column("user"), rows.column("movie"), rows.column("stars")
    film_names, film = np.unique(rated, return_inverse=True)
    user = np.unique(rated_by, return_inverse=True)[1]
    numeric = {"year": np.array([movies[id].year for id in rated])}
    categorical = {"user": rated_by, "movie": rated}
    if users:
        known = [users.get(id, User()) for id in rated_by]
        numeric["user_age"] = np.array([one.age for one in known])
        for name in ("gender", "occupation", "region"):
            categorical[f"user_{name}"] = [getattr(one, name) for one in known]
    numeric |= _factors(rating_factors(user, film, np.array(stars, np.float64), is_train, size=_FACTORS))
    history = rated_before(rated_by, rated, np.array(rows.column("seconds")), is_train)
    return rows.table(
        {"rating": regression(stars), "rating_class": multiclass([_bucket(value) for value in stars], _CLASSES)},
        split=split,
        numeric={name: values for name, values in numeric.items() if not np.isnan(values).all()},
        categorical=categorical,
        graphs=film_graphs(history, film, film_names.tolist(), said),
    )


class Ratings(NamedTuple):
    """A release.

    Attributes:
        rows: the ratings, with columns user, movie, stars and seconds.
        movies: what is known of films.
        users: and of users.
        said: and what a knowledge graph says of films.
    """

    rows: Rows
    movies: dict[str, Movie]
    users: dict[str, User]
    said: dict[str, frozenset[str]]


def read_ratings(name: str, data_dir: str | None) -> Ratings:
    """The ratings that are there.

    Args:
        name: of the dataset, for messages.
        data_dir: its folder.

    Raises:
        ValueError: as :func:`read`.
    """
    root = data_folder(name, data_dir)
    rows = Rows(name, root)
    release = MovieLens(name, root, rows)
    path = release.layout[1]["ratings"]
    movies, users, plots, said = dict(release.movies()), release.users(), release.plots(), release.said_of()
    posters: dict[str, str | None] = {}
    for id, movie in movies.items():
        with rows.at(movie.file, movie.line):
            posters[id] = release.poster(id)
    texts = {id: rating_text(movie, plots.get(id, "")) for id, movie in movies.items()}
    user_ids: dict[str, str] = {}  # one string each, however many ratings
    movie_ids = {id: id for id in movies}
    for rating in release.ratings():
        with rows.sample(path, rating.line, id=f"{rating.user}-{rating.movie}"):
            if rating.movie not in movies:
                raise BadRow(f"film {rating.movie} is not in {release.layout[1]['movies'].name}")
            if rating.movie not in posters:
                rows.leave(f"no picture posters/{rating.movie}.jpg")  # a problem of the film
                continue
            rows.add(
                id=f"{rating.user}-{rating.movie}",
                text=texts[rating.movie],
                image=posters[rating.movie],
                user=user_ids.setdefault(rating.user, rating.user),
                movie=movie_ids[rating.movie],
                stars=rating.stars,
                seconds=rating.seconds,
            )
    rows.check()
    return Ratings(rows, movies, users, said)


def rating_text(movie: Movie, plot: str) -> str:
    """Title, genres and plot."""
    return ". ".join(part for part in (movie.title, ", ".join(movie.genres), plot) if part)


def _factors(found: RatingFactors) -> dict[str, np.ndarray]:
    columns = {}
    for side, values in (("user", found.users), ("item", found.items)):
        columns |= {f"{side}_factor_{at + 1}": values[:, at] for at in range(_FACTORS)}
        columns[f"{side}_bias"] = values[:, _FACTORS]
    return {**columns, "factor_score": found.scores}


def _bucket(stars: float) -> str:
    return _CLASSES[0 if stars < 3 else 1 if stars < 4 else 2]


def rated_before(
    users: list[str], movies: list[str], seconds: np.ndarray, is_train: np.ndarray, latest: int = _LATEST
) -> Neighbours:
    """For each row the films of its user's training rows without the row itself, at most ``latest``, newest first.

    Args:
        users: (N,) who.
        movies: (N,) what.
        seconds: (N,) when; of ratings at the same time the film's place among the films decides.
        is_train: (N,) bool.
    """
    names, film = np.unique(movies, return_inverse=True)
    everybody, user = np.unique(users, return_inverse=True)
    train = np.flatnonzero(is_train)
    order = train[np.lexsort((film[train], -seconds[train], user[train]))]
    first = np.searchsorted(user[order], np.arange(len(everybody)))
    place = np.arange(len(order)) - first[user[order]]
    is_kept = place <= latest  # one more than needed: a row does not see itself
    history = np.full((len(everybody), latest + 1), -1, np.int64)
    history[user[order[is_kept]], place[is_kept]] = order[is_kept]
    nodes, counts = [], []
    for start in range(0, len(users), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(users)))
        candidates = history[user[rows]]
        is_used = (candidates >= 0) & (candidates != rows[:, None])
        is_used &= np.cumsum(is_used, axis=1) <= latest
        nodes.append(film[candidates[is_used]])
        counts.append(is_used.sum(axis=1))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    return Neighbours(nodes=np.concatenate(nodes).astype(np.int64), offsets=offsets, num_nodes=len(names))
