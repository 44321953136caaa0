from __future__ import annotations

import pytest
from toy_table import clean_table


@pytest.fixture
def clean(tmp_path):
    """A table in which nothing is wrong, its pictures in tmp_path."""
    return clean_table(tmp_path)
