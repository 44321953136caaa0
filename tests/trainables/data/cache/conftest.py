import io
import sys
import types
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from trainables.data.formats import DATASETS
from trainables.data.reading.dataset import DatasetRef
from trainables.data.reading.table import Table, Target
from trainables.task import Task


@pytest.fixture
def dataset_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., DatasetRef]:
    """``dataset_of(name, texts, images)``: a dataset that lives in its test alone; the second row is of 'val'."""

    def make(name: str, texts: list[str], images: list[bytes] | None = None) -> DatasetRef:
        blank = io.BytesIO()
        Image.new("RGB", (4, 4)).save(blank, "PNG")
        table = Table(
            ids=[f"id-{row}" for row in range(len(texts))],
            split=np.array(["train", "val", *["train"] * (len(texts) - 2)]),
            texts=texts,
            images=images or [blank.getvalue()] * len(texts),
            targets={"x": Target(Task(kind="regression"), np.zeros(len(texts), np.float32), np.ones(len(texts), bool))},
        )
        module: types.ModuleType = types.ModuleType(f"stand_in_{name}")
        vars(module).update(read=lambda data_dir: table, sources=lambda data_dir: [])
        monkeypatch.setitem(DATASETS, name, module.__name__)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return DatasetRef(name)

    return make
