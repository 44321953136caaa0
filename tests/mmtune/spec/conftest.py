from __future__ import annotations

from functools import partial

import cases
import pytest
import transformers
from spec_files import use_stand_ins

from trainables.encoders.architectures import ARCHITECTURES, RESNETS
from trainables.encoders.tokenizers import special_ids_at
from trainables.families import FAMILIES


@pytest.fixture
def stand_ins(monkeypatch):
    """A few families and datasets instead of the real ones."""
    use_stand_ins(monkeypatch)


@pytest.fixture
def small_hub(monkeypatch):
    """The families' stand-ins for names on a hub; a name without one fails: there is no hub in tests."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for family in FAMILIES:
        for name, (kind, fields) in getattr(cases.of(family), "STAND_INS", {}).items():
            make = partial(getattr(transformers, f"{kind}Config"), **fields)
            monkeypatch.setitem(ARCHITECTURES, name, make)
    monkeypatch.setitem(RESNETS, "torchvision/resnet152", ("Bottleneck", (1, 1, 1, 1)))
    special_ids_at.cache_clear()  # what the process remembers of the real ones, and then of these
    yield
    special_ids_at.cache_clear()
