"""Datasets by name. One file reads one on-disk format; each exports the same names.

``SUMMARY`` (a line for ``mmtune list datasets``), ``IS_EMBEDDED``, ``TARGETS`` (name -> task kind),
``sources(data_dir) -> list[Path]`` (what a fingerprint covers) and ``read(data_dir) -> Table``.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

DATASETS: dict[str, str] = {
    "openclipart": "trainables.data.formats.openclipart",
}


def dataset_module(name: str) -> ModuleType:
    """The module that reads dataset ``name``.

    Raises:
        ValueError: no such dataset.
    """
    if name not in DATASETS:
        raise ValueError(f"dataset '{name}' is unknown. Known: {', '.join(sorted(DATASETS))}")
    return import_module(DATASETS[name])
