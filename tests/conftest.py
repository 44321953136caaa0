"""One cache for the whole run, outside the user's own, and no network."""

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """A fresh cache folder, or the one that $MMTUNE_CACHE names."""
    root = os.environ.setdefault("MMTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return root
