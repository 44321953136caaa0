"""Debian packages: one-line descriptions, sizes, kinds and dependencies of 7,889 programs, embedded in this package.

Built by ``scripts/build_debpkg.py`` from Debian's package index; split 70/10/20 by source package. The maintaining
team names the section and is no feature. Section 'education' has 17 packages and is no class: those have no section.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.reading.folder import no_folder
from trainables.data.reading.parquet import open_parquet
from trainables.data.reading.table import Neighbours, Table
from trainables.data.reading.targets import multiclass, multilabel

SUMMARY = "7,889 programs: description, numbers, categories, dependencies; 23 sections or 52 tags (debtags)"
IS_EMBEDDED = True
TARGETS = {"section": "multiclass", "debtags": "multilabel"}

_FOLDER = Path(__file__).parents[1] / "embedded"
_FILES = (_FOLDER / "debpkg.parquet", _FOLDER / "debpkg_edges.parquet")
_NUMERIC = ("installed_size", "size", "n_depends", "n_suggests", "n_recommends", "n_homepage")  # kB, bytes, counts
_CATEGORICAL = ("priority", "arch")


def sources(data_dir: str | None) -> list[Path]:
    """The packages and their dependencies.

    Raises:
        ValueError: a data folder was given.
    """
    no_folder("debpkg", data_dir)
    return list(_FILES)


def read(data_dir: str | None) -> Table:
    """All rows in file order.

    Raises:
        ValueError: a data folder was given.
    """
    packages, edges = map(_rows, sources(data_dir))
    return Table(
        ids=packages["id"],
        split=np.array(packages["split"], "<U5"),
        texts=packages["text"],
        targets={
            "section": multiclass([None if name == "education" else name for name in packages["label"]]),
            "debtags": multilabel([tags or None for tags in packages["tags"]]),
        },
        numeric=np.stack([np.array(packages[name], np.float64) for name in _NUMERIC], axis=1),
        numeric_names=_NUMERIC,
        categorical={name: packages[name] for name in _CATEGORICAL},
        graphs={"dependencies": _dependencies(packages["id"], edges["src"], edges["dst"])},
    )


def _dependencies(ids: list[str], sources: list[str], targets: list[str]) -> Neighbours:
    """A node is a package that others depend on, in the order of names."""
    names = sorted(set(targets))
    node, row = ({name: at for at, name in enumerate(known)} for known in (names, ids))
    edges = sorted((row[source], node[target]) for source, target in zip(sources, targets, strict=True))
    counts = np.bincount([source for source, _ in edges], minlength=len(ids))
    return Neighbours(
        nodes=np.array([target for _, target in edges], np.int64),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        num_nodes=len(names),
    )


def _rows(path: Path) -> dict[str, list[Any]]:
    with open_parquet(path) as file:
        return file.read().to_pydict()
