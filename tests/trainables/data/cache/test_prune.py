"""What is chosen to be deleted from a cache."""

import time
from pathlib import Path

import pytest

from trainables.data.cache.prune import choose_entries
from trainables.data.cache.store import Entry

NOW, DAY = time.time(), 86_400
OLD = Entry("tokens", Path("cache/tokens/abc111"), "old", 10, NOW - 9 * DAY)
NEW = Entry("images", Path("cache/images/abd222"), "new", 20, NOW - DAY)
HALF = Entry("unfinished", Path("cache/images/eee333.tmp-12345678"), "", 5, NOW)


@pytest.mark.parametrize(
    "options, chosen",
    [
        ({}, [HALF]),
        ({"days": 2}, [OLD, HALF]),
        ({"days": 10}, [HALF]),
        ({"days": 0}, [OLD, NEW, HALF]),
        ({"folders": ["abd"]}, [NEW, HALF]),
        ({"folders": ["abc111", "abd"]}, [OLD, NEW, HALF]),
        ({"days": 2, "folders": ["abd222"]}, [OLD, NEW, HALF]),
        ({"everything": True}, [OLD, NEW, HALF]),
    ],
)
def test_what_is_old_named_or_half_built(options, chosen):
    assert choose_entries([OLD, NEW, HALF], **options) == chosen


@pytest.mark.parametrize("name", ["abcd", "tokens", ""])
def test_a_folder_that_is_not_there(name):
    with pytest.raises(ValueError, match=f"^--folder {name}: the cache has no such folder; see: mmtune data list$"):
        choose_entries([OLD, NEW, HALF], folders=["abc", name])
