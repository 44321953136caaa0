"""MovieLens as top-K recommendation: which films will a user watch? Leave one out, 99 sampled candidates.

A row is a user and a film. Of each user the last rating is test, the one before validation, the others train (He et
al. 2017); beside a held-out film stand 99 that the user never rated, beside a training film 4 that the user did not
rate in training. ``movielens_top_full`` has all films as candidates, ``movielens_top_time`` is split by time. The graph
is there in three forms, all of the training part and without the row itself: ids, neighbours, and latent factors;
beside them is graph ``knowledge``, what RecBole's triples say of the film.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import numpy as np

from trainables.data.formats.movielens import rated_before, read_ratings, sources_of
from trainables.data.reading.candidates import COLD, TRAIN, by_time, latent_factors, leave_one_out, offers
from trainables.data.reading.knowledge import film_graphs, of_rows
from trainables.data.reading.movielens_files import User
from trainables.data.reading.table import SPLITS, ImageFiles, Table, Target
from trainables.data.reading.targets import regression
from trainables.task import Task
from trainables.topk import SEPARATOR

SUMMARY = "MovieLens as top-K recommendation, leave one out, 99 sampled candidates; interaction, or rating"
IS_EMBEDDED = False
TARGETS = {"interaction": "multiclass", "rating": "regression"}

CANDIDATES = 99  # beside the held-out films
_NAME = "movielens_top"
_FACTORS = 8
_MOST_ROWS = 20_000_000


def read_top(
    name: str, data_dir: str | None, *, split: Literal["leave_one_out", "time"], num_candidates: int | None
) -> Table:
    """The table of one of the three datasets.

    Args:
        name: of the dataset.
        data_dir: its folder.
        split: how interactions are held out.
        num_candidates: that a user has beside the held-out films; None: all films that the user did not rate before.

    Raises:
        ValueError: as for :func:`sources_of`, files that cannot be read, nothing that could be held out, or more rows
            than fit.
    """
    rows, movies, known, said = read_ratings(name, data_dir)
    film_names, film = np.unique(rows.column("movie"), return_inverse=True)
    user_names, user = np.unique(rows.column("user"), return_inverse=True)
    seconds = np.array(rows.column("seconds"))
    try:
        part = (leave_one_out if split == "leave_one_out" else by_time)(user, seconds, film)
    except ValueError as error:
        raise ValueError(f"dataset {name}: {rows.root}: {error}") from None
    if not (part > 0).any():
        raise ValueError(f"dataset {name}: {rows.root}: no user has three ratings, of which two could be held out")
    if num_candidates is None and 2 * len(user_names) * len(film_names) > _MOST_ROWS:
        raise ValueError(
            f"dataset {name}: {len(user_names):,} users times {len(film_names):,} films are too many rows; "
            "take movielens_top, whose candidates are sampled"
        )
    users: list[str] = user_names.tolist()
    found = offers(user, film, part, num_items=len(film_names), names=users, num_candidates=num_candidates)
    factors = latent_factors(user, film, part, found, num_items=len(film_names), size=_FACTORS)
    who, films = user[found.sources], [*film_names.tolist()]
    splits = np.array(SPLITS)[found.parts]
    first = {name: at for at, name in reversed([*enumerate(rows.column("movie"))])}  # a row of each film
    text = [rows.texts[first[id]] or "" for id in films]
    poster = [rows.images[first[id]] for id in films]
    items = found.items.tolist()
    numeric = {"year": np.array([movies[id].year for id in films])[found.items]}
    columns: dict[str, list[str | None]] = {
        "user": [users[at] for at in who.tolist()],
        "movie": [films[at] for at in items],
    }
    if known:
        people = [known.get(id, User()) for id in users]
        numeric["user_age"] = np.array([one.age for one in people])[who]
        for key in ("gender", "occupation", "region"):
            values = [getattr(one, key) for one in people]
            columns[f"user_{key}"] = [values[at] for at in who.tolist()]
    numeric = {key: values for key, values in numeric.items() if not all(map(math.isnan, values))}
    for at in range(_FACTORS):
        numeric[f"user_factor_{at + 1}"], numeric[f"item_factor_{at + 1}"] = factors.users[:, at], factors.items[:, at]
    numeric["factor_score"] = factors.scores
    num_cold = int((part == COLD).sum())
    history = rated_before(rows.column("user"), rows.column("movie"), seconds, part == TRAIN)
    cold = f"{num_cold:,} held-out ratings are of users or films that training does not have, and are left out"
    stars = np.array(rows.column("stars"), np.float64)[found.sources]
    return Table(
        ids=[
            f"{users[at]}@{SPLITS[where]}{SEPARATOR}{films[item]}"
            for at, where, item in zip(who.tolist(), found.parts.tolist(), items, strict=True)
        ],
        split=splits,
        texts=[text[at] for at in items],
        images=ImageFiles(rows.root, [str(poster[at]) for at in items]) if poster[0] is not None else None,
        numeric=np.stack([*numeric.values()], axis=1),
        numeric_names=tuple(numeric),
        categorical=columns,
        graphs=film_graphs(of_rows(history, found.sources), found.items, films, said),
        targets={
            "interaction": Target(
                task=Task("multiclass", ("no", "yes"), is_ranking=True),
                labels=found.is_positive.astype(np.int64),
                is_labelled=np.ones(len(items), bool),
            ),
            "rating": regression(np.where(found.is_positive, stars, np.nan)),
        },
        problems=rows.problems,
        notes=[*rows.notes, *([cold] if num_cold else [])],
    )


sources = partial(sources_of, _NAME)
read = partial(read_top, _NAME, split="leave_one_out", num_candidates=CANDIDATES)
