"""One cache for the whole run, outside the user's own, no network, and one thread a process.

On one thread sums add up in the same order everywhere, and small models run several times as fast.
"""

import os
import signal
import sys

import pytest
from hypothesis import settings

for name, examples in (("few", 25), ("thousands", 3000)):
    settings.register_profile(name, max_examples=examples, derandomize=name == "few", deadline=None, database=None)
settings.load_profile("few")

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, after this file; child processes take it over
os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported: a try to reach it takes minutes


signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell began the tests in the background


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """A fresh cache folder, or the one that $MMTUNE_CACHE names."""
    root = os.environ.setdefault("MMTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
    return root


@pytest.fixture(autouse=True)
def one_thread():
    """The number of threads that a training sets stays its own test's."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


LONGEST = (  # files that take more than half a minute, the longest first: at the end one process would wait for them
    "tests/test_readme.py",
    "tests/mmtune/study/test_session.py",
    "tests/mmtune/study/test_faults.py",
    "tests/test_notebook.py",
    "tests/test_python_page.py",
    "tests/trainables/families/test_families_on_ranks.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files first, where several processes share the files."""
    if hasattr(config, "workerinput"):
        rank = {name: at for at, name in enumerate(LONGEST)}
        items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(rank)))
