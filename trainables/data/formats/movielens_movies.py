"""The films of a MovieLens release: title, plot and poster; genres, several a film.

The text is title and plot, never the genres. Split 80/10/10 by the hash of the film's id, evenly over first genres.
"""

from __future__ import annotations

import math
from pathlib import Path

from trainables.data.reading.fields import BadRow
from trainables.data.reading.folder import data_folder
from trainables.data.reading.movielens_files import MovieLens
from trainables.data.reading.rows import Rows
from trainables.data.reading.splits import hash_split
from trainables.data.reading.table import Table

SUMMARY = "the films of MovieLens, with title, plot and poster; 18 or 19 genres"
IS_EMBEDDED = False
TARGETS = {"genres": "multilabel"}

_NAME = "movielens_movies"


def sources(data_dir: str | None) -> list[Path]:
    """The table of films, and the plots.

    Raises:
        ValueError: no folder, or no known layout in it.
    """
    root = data_folder(_NAME, data_dir)
    release = MovieLens(_NAME, root, Rows(_NAME, root))
    paths = release.layout[1]
    return [
        *(paths[use] for use in ("movies", "genres") if use in paths),
        *([release.plots_file] if release.plots_file else []),
    ]


def read(data_dir: str | None) -> Table:
    """All films; where there are posters, those that have one. Films without a genre are not labelled.

    Raises:
        ValueError: as for :func:`sources`, or a file that cannot be read at all.
    """
    root = data_folder(_NAME, data_dir)
    rows = Rows(_NAME, root)
    release = MovieLens(_NAME, root, rows, samples="movies")
    plots = release.plots()
    for id, movie in release.movies():
        with rows.sample(movie.file, movie.line, id=id):
            if not movie.title:
                raise BadRow("no title")
            text = ". ".join(part for part in (movie.title, plots.get(id, "")) if part)
            rows.add(id=id, text=text, image=release.poster(id), genres=movie.genres or None, year=movie.year)
    rows.check()
    genres, years = rows.sets("genres", rows.column("genres")), rows.column("year")
    return rows.table(
        {"genres": rows.multilabel(genres)},
        split=hash_split(rows.ids, strata=[names[0] if names else None for names in genres]),
        numeric=None if all(map(math.isnan, years)) else {"year": years},
    )
