"""The MovieLens releases: films, users and ratings from any of their layouts.

ml-100k (``u.data``), ml-1m and ml-10m (``ratings.dat``), ml-20m and later (``ratings.csv``), and RecBole's copies
(``*.inter``), with the triples of a knowledge graph in ``*.kg`` and its films in ``*.link``. Posters
(``posters/ID.jpg``) and plots (``plots.csv`` with columns movieId and plot) are extras.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from trainables.data.reading.cells import composed, plain_id
from trainables.data.reading.fields import BadRow
from trainables.data.reading.folder import missing
from trainables.data.reading.lines import read_lines
from trainables.data.reading.rows import Rows
from trainables.data.reading.textfiles import Note, csv_rows, separated_lines

_LAYOUTS = (
    "u.data, u.item, u.genre, u.user (100k)",
    "ratings.dat, movies.dat, users.dat (1M; 10M has no users)",
    "ratings.csv, movies.csv (20M and later)",
    "*.inter, *.item, *.user (RecBole; *.kg and *.link beside them)",
)
_FILES = {
    "100k": {"ratings": "u.data", "movies": "u.item", "genres": "u.genre", "users": "u.user"},
    "dat": {"ratings": "ratings.dat", "movies": "movies.dat", "users": "users.dat"},
    "csv": {"ratings": "ratings.csv", "movies": "movies.csv"},
    "recbole": {
        "ratings": "*.inter", "movies": "*.item", "users": "*.user", "triples": "*.kg", "entities": "*.link",
    },
}  # fmt: skip
_OPTIONAL = ("users", "triples", "entities")
_RATING = ("userId", "movieId", "rating", "timestamp")
_YEAR = re.compile(r"\((\d{4})[^()]*\)\s*$")
_OCCUPATIONS = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)  # fmt: skip


@dataclass(frozen=True)
class Movie:
    title: str
    year: float  # NaN where it is not known
    genres: tuple[str, ...]
    file: Path
    line: int


@dataclass(frozen=True)
class User:
    age: float = math.nan  # years; in ml-1m the lower end of a bracket
    gender: str | None = None
    occupation: str | None = None
    region: str | None = None  # first character of the postal code


@dataclass(frozen=True)
class Rating:
    user: str
    movie: str
    stars: float
    seconds: int  # since 1970
    line: int


@dataclass(frozen=True)
class MovieLens:
    """One release in its folder; what cannot be used becomes a problem of ``rows``.

    Attributes:
        samples: which file's lines are the samples, 'ratings' or 'movies'.
    """

    dataset: str
    root: Path
    rows: Rows = field(repr=False)
    samples: str = "ratings"

    @cached_property
    def layout(self) -> tuple[str, dict[str, Path]]:
        """Its kind and its files.

        Raises:
            ValueError: no known layout, or a file of it is missing.
        """
        for kind, names in _FILES.items():
            paths = {use: path for use, name in names.items() if (path := self._one(name)) is not None}
            if "ratings" not in paths:
                continue
            for use, name in names.items():
                if use not in paths and use not in _OPTIONAL:
                    raise missing(self.dataset, self.root, name, _LAYOUTS)
            if ("triples" in paths) != ("entities" in paths):
                raise missing(self.dataset, self.root, names["entities" if "triples" in paths else "triples"], _LAYOUTS)
            return kind, paths
        raise missing(self.dataset, self.root, "u.data, ratings.dat, ratings.csv or *.inter", _LAYOUTS)

    def _one(self, name: str) -> Path | None:
        found = sorted(self.root.glob(name))
        return found[0] if found else None

    @property
    def plots_file(self) -> Path | None:
        path = self.root / "plots.csv"
        return path if path.exists() else None

    @cached_property
    def has_posters(self) -> bool:
        return (self.root / "posters").is_dir()

    def movies(self) -> Iterator[tuple[str, Movie]]:
        """Ids and films in file order. A later line with the same id is a problem."""
        kind, paths = self.layout
        seen: set[str] = set()
        for line, id, title, year, genres in getattr(self, f"_movies_{kind}")(paths):
            id = plain_id(id.strip())
            with self._at("movies", line, id=id):
                if not id or id in seen:
                    raise BadRow(f"film {id} was there before" if id else "no id")
                seen.add(id)
                match = _YEAR.search(title)
                year = year if year is not None else float(match[1]) if match else math.nan
                yield id, Movie(title.strip(), year, genres, paths["movies"], line)

    def users(self) -> dict[str, User]:
        """By id; nobody where a release says nothing about them."""
        kind, paths = self.layout
        if "users" not in paths or kind == "csv":
            return {}
        found = {}
        for line, id, age, gender, occupation, code in self._user_lines(kind, paths["users"]):
            with self.rows.at(paths["users"], line):
                found[plain_id(id.strip())] = User(
                    _number(age, "age"), gender or None, occupation or None, code[:1] or None
                )
        return found

    def ratings(self) -> Iterator[Rating]:
        """In file order."""
        kind, paths = self.layout
        path = paths["ratings"]
        for line, fields in self._rating_lines(kind, path):
            user, movie, stars, seconds = (plain_id(fields[0].strip()), plain_id(fields[1].strip()), *fields[2:])
            with self._at("ratings", line, id=f"{user}-{movie}"):
                value = _number(stars, "rating")
                if not 0.5 <= value <= 5:
                    raise BadRow(f"rating {stars!r} is not within 0.5 and 5")
                yield Rating(user, movie, value, int(_number(seconds, "timestamp")), line)

    def said_of(self) -> dict[str, frozenset[str]]:
        """Film -> what the triples of a knowledge graph say of it: a relation and the entity at its other end.

        ``>`` stands between them where the film is the head, ``<`` where it is the tail. Empty without triples.
        """
        _, paths = self.layout
        if "triples" not in paths:
            return {}
        said: dict[str, set[str]] = defaultdict(set)  # by entity
        for _, row in self._recbole("triples", ("head_id", "relation_id", "tail_id")):
            head, relation, tail = (composed(row[name].strip()) for name in ("head_id", "relation_id", "tail_id"))
            said[head].add(f"{relation}>{tail}")
            said[tail].add(f"{relation}<{head}")
        of_films = {}
        for line, row in self._recbole("entities", ("item_id", "entity_id")):
            film = plain_id(row["item_id"].strip())
            with self.rows.at(paths["entities"], line):
                if film in of_films:
                    raise BadRow(f"film {film} was there before")
                of_films[film] = frozenset(said.get(composed(row["entity_id"].strip()), ()))
        return of_films

    def plots(self) -> dict[str, str]:
        """Film -> plot; empty without a file of plots."""
        if self.plots_file is None:
            return {}
        lines = csv_rows(self.plots_file, self.rows.note, required=("movieId", "plot"), remark=self.rows.remark)
        return {plain_id(row["movieId"].strip()): row["plot"].strip() for _, row in lines}

    def poster(self, id: str) -> str | None:
        """A film's file; None without a folder of posters.

        Raises:
            BadRow: there is a folder, and none of the film.
        """
        if not self.has_posters:
            return None
        name = self.rows.pictures.first(f"posters/{id}")
        if name is None:
            raise BadRow(f"no picture posters/{id}.jpg: the film and its ratings are left out")
        return name

    def _at(self, use: str, line: int, *, id: str | None = None) -> Rows:
        path = self.layout[1][use]
        return self.rows.sample(path, line, id=id or None) if use == self.samples else self.rows.at(path, line)

    def _note(self, use: str) -> Note:
        return self.rows.lost() if use == self.samples else self.rows.note

    # --- one method a layout ------------------------------------------------------------------------
    def _movies_100k(self, paths: dict[str, Path]) -> Iterator[tuple[int, str, str, float | None, tuple[str, ...]]]:
        lines = separated_lines(paths["genres"], self.rows.note, separator="|", num_fields=2, encoding="latin-1")
        genres = [name for _, name in sorted((_number(number, "genre"), name) for _, (name, number) in lines)]
        width = 5 + len(genres)
        for line, fields in separated_lines(
            paths["movies"], self._note("movies"), separator="|", num_fields=width, encoding="latin-1"
        ):
            flags = zip(genres, fields[5:], strict=True)
            yield (
                line,
                fields[0],
                fields[1],
                None,
                tuple(name for name, flag in flags if flag == "1" and name != "unknown"),
            )

    def _movies_dat(self, paths: dict[str, Path]) -> Iterator[tuple[int, str, str, float | None, tuple[str, ...]]]:
        path = paths["movies"]
        for line, (id, title, genres) in separated_lines(
            path, self._note("movies"), separator="::", num_fields=3, encoding=_encoding(path)
        ):
            yield line, id, title, None, _genres(genres, "|")

    def _movies_csv(self, paths: dict[str, Path]) -> Iterator[tuple[int, str, str, float | None, tuple[str, ...]]]:
        for line, row in csv_rows(paths["movies"], self._note("movies"), required=("movieId", "title", "genres")):
            yield line, row["movieId"], row["title"], None, _genres(row["genres"], "|")

    def _movies_recbole(self, paths: dict[str, Path]) -> Iterator[tuple[int, str, str, float | None, tuple[str, ...]]]:
        for line, row in self._recbole("movies", ("item_id", "movie_title", "class")):
            year = row.get("release_year", "")
            yield (
                line,
                row["item_id"],
                row["movie_title"],
                float(year) if year.isdigit() else None,
                _genres(row["class"], " "),
            )

    def _user_lines(self, kind: str, path: Path) -> Iterator[tuple[int, str, str, str, str, str]]:
        """(line, id, age, gender, occupation, postal code)."""
        if kind == "recbole":
            for line, row in self._recbole("users", ("user_id", "age", "gender", "occupation", "zip_code")):
                yield line, row["user_id"], row["age"], row["gender"], row["occupation"], row["zip_code"]
        elif kind == "100k":
            for line, fields in separated_lines(path, self.rows.note, separator="|", num_fields=5, encoding="latin-1"):
                id, age, gender, occupation, code = fields
                yield line, id, age, gender, occupation, code
        else:
            for line, fields in separated_lines(path, self.rows.note, separator="::", num_fields=5, encoding="latin-1"):
                id, gender, age, job, code = fields
                is_known = job.isdigit() and int(job) < len(_OCCUPATIONS)
                yield line, id, age, gender, _OCCUPATIONS[int(job)] if is_known else job, code

    def _rating_lines(self, kind: str, path: Path) -> Iterator[tuple[int, tuple[str, str, str, str]]]:
        if kind == "csv":
            for line, row in csv_rows(
                path, self._note("ratings"), required=("userId", "movieId", "rating", "timestamp")
            ):
                yield line, (row["userId"], row["movieId"], row["rating"], row["timestamp"])
        elif kind == "recbole":
            for line, row in self._recbole("ratings", ("user_id", "item_id", "rating", "timestamp")):
                yield line, (row["user_id"], row["item_id"], row["rating"], row["timestamp"])
        else:
            separator = "\t" if kind == "100k" else "::"
            for line, fields in separated_lines(path, self._note("ratings"), separator=separator, num_fields=4):
                yield line, (fields[0], fields[1], fields[2], fields[3])

    def _recbole(self, use: str, needed: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
        """Rows of a file whose header is ``name:type`` between tabs and whose fields are not quoted."""
        path = self.layout[1][use]
        lines = read_lines(path)
        header = [name.split(":")[0] for name in next(lines, (1, b""))[1].decode("utf-8", "replace").split("\t")]
        for name in needed:
            if name not in header:
                raise ValueError(f"{path} line 1: no column '{name}'. Known: {', '.join(header)}")
        for line, data in lines:
            with self._at(use, line):
                fields = data.decode("utf-8", "replace").split("\t")
                if len(fields) != len(header):
                    raise BadRow(f"{len(fields)} fields, not {len(header)}")
                yield line, dict(zip(header, fields, strict=True))


def _genres(text: str, separator: str) -> tuple[str, ...]:
    names = (composed(name.strip()) for name in text.split(separator)) if "(no genres listed)" not in text else ()
    return tuple(dict.fromkeys(name for name in names if name and name != "unknown"))


def _encoding(path: Path) -> str:
    """ml-1m is in Latin-1, ml-10m in UTF-8."""
    try:
        path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise BadRow(f"{what} {text!r} is no number") from None
    if not math.isfinite(value):
        raise BadRow(f"{what} {text!r} is no number")
    return value
