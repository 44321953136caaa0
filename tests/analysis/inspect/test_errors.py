"""Mistakes of a few rows, written down by hand."""

import numpy as np
import pytest

from analysis.inspect.errors import by_pair, mistakes
from trainables.task import Task

CLASSES = ("a", "b", "c")


def test_the_most_confident_come_first_and_pairs_are_counted():
    scores = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.9, 0.0], [0.0, 0.55, 0.45], [0.3, 0.3, 0.4]])
    found = mistakes(np.array([0, 0, 0, 2, 0]), scores, Task("multiclass", CLASSES))
    assert found[["at", "true", "predicted"]].values.tolist() == [
        [2, "a", "b"], [1, "a", "b"], [3, "c", "b"], [4, "a", "c"]
    ]  # fmt: skip
    assert found["confidence"].tolist() == [0.9, 0.7, 0.55, 0.4]
    found.insert(0, "id", [f"row {at}" for at in found["at"]])
    pairs = by_pair(found)
    assert pairs.drop(columns="confidence").to_numpy().tolist()[0] == ["a", "b", 2, "row 2"]
    assert pairs["confidence"].tolist() == pytest.approx([0.8, 0.4, 0.55])
    assert sum(pairs["mistakes"]) == 4


def test_of_several_classes_one_said_too_much_or_too_little():
    scores = np.array([[0.9, 0.2, 0.4], [0.3, 0.8, 0.5]])
    labels = np.array([[1, 1, 0], [0, 0, 1]])
    found = mistakes(labels, scores, Task("multilabel", CLASSES))
    assert found[["at", "true", "predicted"]].values.tolist() == [
        [0, "b", "none of it"], [1, "none of it", "b"], [1, "c", "none of it"]
    ]  # fmt: skip
    assert found["confidence"].tolist() == pytest.approx([0.8, 0.8, 0.5])


def test_of_numbers_the_farthest():
    found = mistakes(np.array([1.0, 2.0, 3.0]), np.array([1.5, 2.0, 1.0]), Task("regression"))
    assert found["at"].tolist() == [2, 0, 1] and found["error"].tolist() == [2.0, 0.5, 0.0]


def test_nothing_wrong_is_an_empty_table():
    assert mistakes(np.array([1]), np.array([[0.1, 0.8, 0.1]]), Task("multiclass", CLASSES)).empty
