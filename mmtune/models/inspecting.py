"""Looks into a trained model: what ``mmtune inspect`` writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from mmtune.models.inspections import INSPECTIONS
from mmtune.models.reference import ModelRef
from mmtune.storage.additions import upload
from trainables.messages import unknown

KINDS = ("png", "svg")
_PACKAGES = {"sklearn": "scikit-learn", "pytorch_grad_cam": "grad-cam", "captum": "captum"}


@dataclass(frozen=True)
class Inspected:
    """What inspections found.

    Attributes:
        folder: files are there.
        num_rows: how many rows were looked at.
        told: inspection -> lines on what it found.
        refused: inspection -> why it is not applicable.
        files: their names.
        looks: as :attr:`mmtune.models.testing.Tested.looks`.
        notes: what a user should know, a line each.
    """

    folder: Path
    num_rows: int
    told: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    looks: int | None = None
    notes: tuple[str, ...] = ()


def inspect_model(
    ref: ModelRef,
    what: Sequence[str],
    *,
    split: str = "val",
    dataset: str | None = None,
    data_dir: str | None = None,
    rows: int = 1000,
    shown: int = 8,
    seed: int = 0,
    kind: str = "png",
    out: Path | None = None,
    device: str = "auto",
) -> Inspected:
    """Runs inspections of a model on labelled rows and writes what they find.

    Args:
        ref: which model.
        what: names in INSPECTIONS.
        split: 'train', 'val', 'test' or 'all'; a look at its own test split is counted as `mmtune test` does.
        dataset: format of other data; None is that of the training data.
        data_dir: folder of other data.
        rows: at most so many of the split, evenly picked.
        shown: of these, so many are shown one by one.
        seed: of what is drawn: t-SNE's steps, random orders.
        kind: of pictures: 'png' or 'svg'.
        out: folder; None: ``inspected/<split>`` in the model's folder, of other data as of ``mmtune test``.
        device: 'auto', 'cpu' or 'gpu'.

    Raises:
        ValueError: an unknown name, a package that is missing, bad data, or nothing that was asked for is applicable
            (:class:`analysis.inspect.subject.NotApplicable`).
    """
    from analysis.inspect.subject import NotApplicable, Subject
    from mmtune.models.testing import count_look, name_of_rows
    from trainables.answers import labelled
    from trainables.trained import load_trained

    _check(what, kind, rows=rows, shown=shown)
    if out is not None and out.exists() and not out.is_dir():
        raise ValueError(f"--to {out}: is no folder")
    trained = load_trained(ref.folder, device=device)
    given = labelled(trained, split=split, dataset=dataset, data_dir=data_dir)
    folder = ref.folder / "inspected" / name_of_rows(given, split) if out is None else out
    chosen = given.rows[np.unique(np.linspace(0, len(given.rows) - 1, min(rows, len(given.rows))).astype(int))]
    subject = Subject(trained, given, chosen, folder, num_shown=shown, kind=kind, seed=seed)
    told, refused, looks = {}, {}, None
    for name in what:
        row = INSPECTIONS[name]
        try:
            told[name] = getattr(import_module(row.module), row.function)(subject)
            if looks is None and given.is_own and split == "test":
                looks = count_look(ref)
        except NotApplicable as error:
            refused[name] = str(error)
    if not told:
        raise NotApplicable("\n  ".join([f"{ref.name}: nothing to write", *lines_of(refused)]))
    if ref.study is not None:
        upload(folder, ref.study)
    files = [path.name for path in subject.files]
    return Inspected(folder, len(chosen), told, refused, files, looks, given.notes)


def lines_of(refused: dict[str, str]) -> list[str]:
    """'retrieval: not applicable: reason', one each."""
    return [f"{name}: not applicable: {reason}" for name, reason in refused.items()]


def _check(what: Sequence[str], kind: str, *, rows: int, shown: int) -> None:
    if not what:
        raise ValueError(f"--what: is empty; some of {', '.join(INSPECTIONS)}")
    for name in what:
        if name not in INSPECTIONS:
            raise ValueError(f"--what: {unknown(name, tuple(INSPECTIONS))}")
    if kind not in KINDS:
        raise ValueError(f"--format: {unknown(kind, KINDS)}")
    for option, value in (("--rows", rows), ("--shown", shown)):
        if value < 1:
            raise ValueError(f"{option} {value}: is below 1")
    for name in what:
        needed = import_module(INSPECTIONS[name].module).PACKAGES
        missing = [_PACKAGES[package] for package in needed if find_spec(package) is None]
        if missing:
            raise ValueError(f"--what {name} needs {', '.join(missing)}: pip install 'mmtune[inspect]'")
