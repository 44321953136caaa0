import dataclasses

import pytest

from trainables.task import Task


def test_task_counts_its_outputs():
    assert Task("multiclass", ("cat", "dog", "eel")).num_outputs == 3
    assert Task("multilabel", ("cat",)).num_outputs == 1
    assert Task("regression").num_outputs == Task("regression", ("stars",)).num_outputs == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        Task("regression").kind = "multiclass"  # pyright: ignore[reportAttributeAccessIssue]


def test_the_positive_class_is_the_second_or_the_one_named():
    task = Task("multiclass", ("ham", "spam"))
    assert task.with_positive(None) is task and task.positive == 1
    assert task.with_positive("ham").positive == 0 and task.with_positive("spam") == task
    with pytest.raises(ValueError, match="positive_class: 'spem' is unknown, did you mean 'spam'"):
        task.with_positive("spem")
    for other in (Task("multiclass", ("a", "b", "c")), Task("multilabel", ("a",)), Task("regression")):
        assert other.with_positive(None) is other
        with pytest.raises(ValueError, match="positive_class: belongs to tasks with two classes"):
            other.with_positive("a")


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
