import dataclasses

import pytest

from trainables.task import Task


def test_task_counts_its_outputs():
    assert Task("multiclass", ("cat", "dog", "eel")).num_outputs == 3
    assert Task("multilabel", ("cat",)).num_outputs == 1
    assert Task("regression").num_outputs == Task("regression", ("stars",)).num_outputs == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        Task("regression").kind = "multiclass"  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("kind", "classes", "message"),
    [
        ("multiclass", ("cat",), "a multiclass task takes at least 2, got 1"),
        ("multilabel", (), "a multilabel task takes at least 1, got 0"),
        ("regression", ("a", "b"), "a regression task takes at most 1, got 2"),
        ("multilabel", ("cat", "dog", "cat"), "named twice: cat"),
    ],
)
def test_task_refuses(kind, classes, message):
    with pytest.raises(ValueError, match=message):
        Task(kind, classes)
