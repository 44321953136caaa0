"""What a knowledge graph says of films, as neighbours of rows."""

import numpy as np

from trainables.data.reading.knowledge import film_graphs, of_rows
from trainables.data.reading.table import Neighbours

HISTORY = Neighbours(np.array([2, 0, 1]), np.array([0, 1, 1, 3]), 3)
SAID = {"a": frozenset({"by>x", "of>y", "alone>z"}), "b": frozenset({"by>x"}), "c": frozenset({"of>y", "by>x"})}


def lists(graph):
    return [graph.nodes[start:end].tolist() for start, end in zip(graph.offsets, graph.offsets[1:], strict=False)]


def test_what_films_share_are_nodes():
    """The most common first; what one film has alone tells no more than the film."""
    graphs = film_graphs(HISTORY, np.array([2, 1, 0]), ["a", "b", "c", "unsaid"], SAID)
    assert list(graphs) == ["history", "knowledge", "both"] and graphs["history"] is HISTORY
    assert lists(graphs["knowledge"]) == [[0, 1], [0], [0, 1]] and graphs["knowledge"].num_nodes == 2
    assert lists(graphs["both"]) == [[2, 3, 4], [3], [0, 1, 3, 4]] and graphs["both"].num_nodes == 5
    assert graphs["both"].nodes.dtype == graphs["both"].offsets.dtype == np.int64


def test_a_film_has_the_most_common_of_many():
    said = {"a": frozenset(f"n{at:02}" for at in range(40)), "b": frozenset(f"n{at:02}" for at in range(40))}
    said["c"] = frozenset(["n39"])
    knowledge = film_graphs(HISTORY, np.array([0, 1, 2]), ["a", "b", "c"], said)["knowledge"]
    assert lists(knowledge) == [[*range(32)], [*range(32)], [0]]  # 0 is n39, which three have


def test_where_nothing_is_said_there_is_history_alone():
    for said in ({}, {"a": frozenset(["x>y"]), "b": frozenset()}):
        assert list(film_graphs(HISTORY, np.array([0, 1, 1]), ["a", "b"], said)) == ["history"]


def test_rows_can_be_there_several_times():
    assert lists(of_rows(HISTORY, np.array([2, 2, 1, 0]))) == [[0, 1], [0, 1], [], [2]]
