"""The graphs of rows about films: what their users rated, what a knowledge graph says of the film, or both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from trainables.data.reading.table import Neighbours

_MOST = 32  # things said of a film


def film_graphs(
    history: Neighbours, films: np.ndarray, names: Sequence[str], said: Mapping[str, frozenset[str]]
) -> dict[str, Neighbours]:
    """``history``, and where something is said ``knowledge`` and ``both`` (their nodes side by side).

    A node of ``knowledge`` is what at least two of the films have in common; a film has the 32 most common at most.

    Args:
        history: of N rows.
        films: (N,) of each row its film's place in ``names``.
        names: the films.
        said: of each film what is said of it; see :meth:`MovieLens.said_of`.
    """
    count = Counter(node for name in names for node in said.get(name, ()))
    shared = sorted((node for node, num in count.items() if num > 1), key=lambda node: (-count[node], node))
    if not shared:
        return {"history": history}
    place = {node: at for at, node in enumerate(shared)}
    of_films = [sorted(place[node] for node in said.get(name, ()) if node in place)[:_MOST] for name in names]
    knowledge = of_rows(_neighbours(of_films, len(shared)), films)
    return {"history": history, "knowledge": knowledge, "both": _side_by_side(history, knowledge)}


def of_rows(graph: Neighbours, rows: np.ndarray) -> Neighbours:
    """The neighbours of some rows, in their order; a row can be there several times."""
    counts = np.diff(graph.offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    places = np.repeat(graph.offsets[rows] - offsets[:-1], counts) + np.arange(offsets[-1])
    return Neighbours(nodes=graph.nodes[places], offsets=offsets, num_nodes=graph.num_nodes)


def _neighbours(lists: Sequence[Sequence[int]], num_nodes: int) -> Neighbours:
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in lists])]).astype(np.int64)
    return Neighbours(np.array([node for each in lists for node in each], np.int64), offsets, num_nodes)


def _side_by_side(one: Neighbours, other: Neighbours) -> Neighbours:
    """Each row's neighbours in ``one``, then those in ``other``, whose nodes are numbered after the first's."""
    offsets = one.offsets + other.offsets
    nodes = np.empty(offsets[-1], np.int64)
    is_first = np.arange(len(nodes)) - np.repeat(offsets[:-1], np.diff(offsets))
    is_first = is_first < np.repeat(np.diff(one.offsets), np.diff(offsets))
    nodes[is_first], nodes[~is_first] = one.nodes, other.nodes + one.num_nodes
    return Neighbours(nodes, offsets, one.num_nodes + other.num_nodes)
