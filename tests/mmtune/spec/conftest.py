from __future__ import annotations

import pytest
from spec_files import use_stand_ins


@pytest.fixture
def stand_ins(monkeypatch):
    """A few families and datasets instead of the real ones."""
    use_stand_ins(monkeypatch)
