import json

import numpy as np
import pytest

from trainables.data.reading.listtext import holds_objects, list_of

LISTS = (["Drama", "Comedy"], ["it's", 'say "hi"'], ["a, b", "c]"], ["1"], [], ["caf\u00e9", "\\"])


@pytest.mark.parametrize("items", LISTS)
def test_what_python_and_json_write_comes_back(items):
    assert list_of(str(items)) == list_of(json.dumps(items)) == list_of(json.dumps(items, ensure_ascii=False)) == items
    if items:
        assert list_of(str(tuple(items))) == list_of(str(dict.fromkeys(items).keys())[10:-1]) == items


def test_what_numpy_prints():
    assert list_of(str(np.array(["Drama", "Sci-Fi"], object))) == ["Drama", "Sci-Fi"]


@pytest.mark.parametrize(
    "text, items",
    [
        ("[Drama, Comedy]", ["Drama", "Comedy"]),
        ("[Drama]", ["Drama"]),
        ("{Drama,Sci Fi}", ["Drama", "Sci Fi"]),
        ("{}", []),
        ("()", []),
        ("set()", []),
        ("[ ]", []),
        ("[1, 2.0, 3]", ["1", "2", "3"]),
        ("['a',]", ["a"]),
        ("[null, \"a\"]", ["", "a"]),
        ("['a'\n 'b']", ["a", "b"]),
    ],
)  # fmt: skip
def test_other_spellings(text, items):
    assert list_of(text) == items


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "Drama",
        "Drama, Comedy",
        "[Drama",
        "(Drama)",
        "(a, b)",
        "{'a': 1}",
        "['a', ['b']]",
        "[a] and [b]",
        "['a",
    ],
)
def test_what_is_no_list(text):
    assert list_of(text) is None


def test_lists_of_objects():
    assert holds_objects("[{'id': 18, 'name': 'Drama'}]") and list_of("[{'id': 18, 'name': 'Drama'}]") is None
    assert not holds_objects("['{']")
