"""A search file and study folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mmtune import records
from mmtune.records import StudyFolder
from trainables.files import write_atomic

SEARCH = """\
study: s
family: text
dataset: openclipart
fixed: {epochs: 3, model.text_encoder: tiny-bert, model.lock_text: false}
space:
  optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
budget: {trials: 5}
"""


@pytest.fixture
def tiny() -> str:
    """The config of one trial that trains in a moment."""
    return """\
family: text
dataset: openclipart
epochs: 1
max_train_rows: 64
max_text_len: 8
model: {text_encoder: tiny-bert, lock_text: false}
"""


@pytest.fixture
def search() -> str:
    """The text of a search file of five trials."""
    return SEARCH


@pytest.fixture
def write_study() -> Callable[..., StudyFolder]:
    """Makes a study folder in a folder, with a trial in each of the states given."""

    def write(root: Path, *states: str, name: str = "s") -> StudyFolder:
        folder = StudyFolder(root / name)
        write_atomic(folder.spec, SEARCH)
        info = {"study": "s", "params": ["optim.lr"], "objectives": [{"metric": "val_accuracy", "mode": "max"}]}
        info |= {"max_epochs": 3, "budget": {"trials": 5}, "data_dir": None, "sessions": []}
        records.write_json(folder.info, info)
        rows = [
            {"trial": f"t{i:04d}", "state": state, "epochs": 2, "best_epoch": 1, "optim.lr": 0.001,
             "val_accuracy": 0.5, "wall_seconds": 1.0, "device_seconds": 3.0, "error": None}
            for i, state in enumerate(states)
        ]  # fmt: skip
        if rows:
            write_atomic(folder.trials, records.csv_text(list(rows[0]), rows))
        return folder

    return write
