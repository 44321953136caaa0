"""What the cache costs: own time only, waiting told apart, and what a trial used counted once."""

import threading

import pytest

from trainables.data.cache.books import booking
from trainables.data.cache.store import build_once, meta


@pytest.fixture
def clock(tmp_path, monkeypatch):
    """A list whose last number is the time; seconds pass when it changes."""
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[-1])
    return now


def test_a_folder_s_seconds_are_its_own(clock):
    def inner(folder):
        clock.append(clock[-1] + 4)
        return {"about": "words", "rows": 3}

    def outer(folder):
        clock.append(clock[-1] + 1)
        build_once("words", {"name": "inner"}, inner)
        clock.append(clock[-1] + 2)
        return {"about": "tokens", "rows": 5}

    with booking() as book:
        folder = build_once("tokens", {"name": "outer"}, outer)
    assert [(each.what, each.rows, each.seconds) for each in book.fillings] == [("words", 3, 4), ("tokens", 5, 3)]
    assert book.seconds == 7 == clock[-1] and meta(folder)["seconds"] == 3
    assert sum(book.used.values()) == 7
    with booking() as warm:
        build_once("tokens", {"name": "outer"}, outer)
        build_once("words", {"name": "inner"}, inner)
    assert warm.fillings == [] and warm.used == book.used  # what it was made from counts, and counts once


def test_books_may_lie_in_one_another_and_each_hears_all(clock):
    heard = []
    with booking(heard.append) as outer, booking() as inner:
        build_once("things", {}, lambda folder: {"about": "a thing"})
    assert heard == outer.fillings == inner.fillings and heard[0].what == "a thing"


def test_waiting_for_another_is_told_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    has_begun, may_end = threading.Event(), threading.Event()

    def build(folder):
        has_begun.set()
        assert may_end.wait(30)
        return {"about": "a thing"}

    other = threading.Thread(target=build_once, args=("things", {}, build))
    other.start()
    assert has_begun.wait(30)
    timer = threading.Timer(0.3, may_end.set)
    timer.start()
    with booking() as book:
        build_once("things", {}, build)
    other.join()
    waits = [each for each in book.fillings if each.what == "waiting for a thing"]
    assert len(waits) == 1 and waits[0].seconds > 0.2 and waits[0].rows is None
