"""The sources' figures as parts of a report: those that the studies' own tables give, and what looks into models left.

Nothing is computed of a model here: what ``mmtune inspect`` and ``mmtune figure augmented`` wrote is shown if it is
there.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.drawings import DRAWINGS
from analysis.figures import drawn
from analysis.studies import Paths, study_folders
from analysis.tables import Table, shown_table
from analysis.uda import NotThere

FOLDER = "figures"
_OWN = ("fit", "lambda", "overlay", "ratio")
_MOST_BYTES = 300_000  # of a picture inside of the page
_MOST_ROWS = 20


@dataclass(frozen=True)
class Shown:
    """One picture of the page.

    Attributes:
        name: of the figure.
        about: what it shows.
        source: a data: URL.
        command: that makes it again.
    """

    name: str
    about: str
    source: str
    command: str


def own_pictures(paths: Paths, metric: str, mode: str) -> dict[str, bytes]:
    """The report's files below figures/, PNG and SVG, of the figures for which the studies have the data."""
    found: dict[str, bytes] = {}
    for name in _OWN:
        make = DRAWINGS[name].figure
        assert make is not None
        try:
            figure = make(paths, metric, mode)
        except NotThere:
            continue
        for kind in ("png", "svg"):
            found[f"{FOLDER}/{name}.{kind}"] = drawn(figure, kind)
    return found


def shown_pictures(own: dict[str, bytes], root: Path, models: pd.DataFrame, paths: Paths, names: str) -> list[Shown]:
    """What the page shows, as far as it is not too large for it.

    Args:
        own: of :func:`own_pictures`.
        root: of the report; a ``figures/augmented.png`` that lies there is shown too.
        models: of :func:`analysis.characteristics.model_table`.
        paths: the studies.
        names: of the studies, as a command names them.
    """
    pictures = [(name, content) for name in _OWN if (content := own.get(f"{FOLDER}/{name}.png")) is not None]
    augmented = root / FOLDER / "augmented.png"
    pictures += [("augmented", augmented.read_bytes())] if augmented.is_file() else []
    shown = [
        Shown(name, DRAWINGS[name].about, _url(content), f"mmtune figure {name} {names}")
        for name, content in pictures
        if len(content) <= _MOST_BYTES
    ]
    for model, folder in _inspected(models, paths):
        for file in [folder / "errors.png", *_latent(folder)]:
            if file.is_file() and file.stat().st_size <= _MOST_BYTES:
                name = file.stem.partition("-")[0]
                about = f"{DRAWINGS[name].about}: {model}, {folder.name}"
                command = f"mmtune inspect {model} --what {name} --split {folder.name}"
                shown.append(Shown(name, about, _url(file.read_bytes()), command))
    return shown


def inspected_tables(models: pd.DataFrame, paths: Paths) -> list[tuple[str, Table]]:
    """Caption and table of what inspections of each family's best model found: retrieval, pairs of classes."""
    found = []
    for model, folder in _inspected(models, paths):
        for file, about in (
            ("retrieval.csv", "Retrieval both ways"),
            ("error_pairs.csv", "Mistakes by pair of classes"),
        ):
            if (folder / file).is_file():
                rows = pd.read_csv(folder / file).head(_MOST_ROWS)
                found.append((f"{about}: {model}, {folder.name}", shown_table(rows)))
    return found


def _inspected(models: pd.DataFrame, paths: Paths) -> list[tuple[str, Path]]:
    """STUDY/TRIAL, and the folder of each split that was looked at, of the best model of each family."""
    folders = study_folders(paths)
    return [
        (f"{study}/{trial}", split)
        for study, trial in zip(models["study"], models["trial"], strict=True)
        for split in sorted((folders[study].trial(trial) / "inspected").glob("*"))
    ]


def _latent(folder: Path) -> list[Path]:
    """The map of the joint features, or of those there are."""
    joint = folder / "latent-joint.png"
    return [joint] if joint.is_file() else sorted(folder.glob("latent-*.png"))[:1]


def _url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
