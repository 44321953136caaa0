"""Figures and tables by name from studies that are there, the papers' among them: a PNG, SVG or CSV file each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from analysis.across import across, across_table
from analysis.characteristics import model_table
from analysis.curves import curves_figure
from analysis.figures import drawn, table_figure
from analysis.missing import missing_modalities, missing_table
from analysis.pareto import pareto_figure
from analysis.studies import Paths, choose_objective, load_studies, study_folders
from analysis.tables import Table, shown_table
from analysis.tidy import csv_text
from analysis.uda import fit_figure, overlay_figure, ratio_figure, regimes_figure
from trainables.files import write_atomic
from trainables.messages import unknown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = (".png", ".svg")
TABLES = (*KINDS, ".csv")


@dataclass(frozen=True)
class Drawing:
    """What ``mmtune figure NAME`` draws.

    Attributes:
        about: in a line.
        figure: of the studies, the metric and its mode; None of a table.
        table: what people read, and all there is for a CSV file; None of a figure.
        is_of_model: it needs a trained model or the data: :mod:`mmtune.models.figures` draws it.
    """

    about: str
    figure: Callable[[Paths, str, str], Figure] | None = None
    table: Callable[[Paths, str | None], tuple[Table, pd.DataFrame]] | None = None
    is_of_model: bool = False


def _missing(paths: Paths, metric: str | None) -> tuple[Table, pd.DataFrame]:
    rows = missing_modalities(paths, *choose_objective(paths, metric))
    if rows.empty:
        raise ValueError(
            f"{', '.join(study_folders(paths))}: no model was tested without a modality; "
            "`mmtune test STUDY --without image --without text` does it"
        )
    return missing_table(rows), rows


def _models(paths: Paths, metric: str | None) -> tuple[Table, pd.DataFrame]:
    name, mode = choose_objective(paths, metric)
    rows = model_table(paths, load_studies(paths), name, mode)
    return shown_table(rows), rows


def _tasks(paths: Paths, metric: str | None) -> tuple[Table, pd.DataFrame]:
    if metric is not None:
        raise ValueError("figure tasks: --metric does not go with it; each study has its own objective")
    rows = across(paths)
    return across_table(rows), rows


DRAWINGS = {
    "pareto": Drawing(
        "the metric against device time, with the front",
        lambda paths, metric, mode: pareto_figure(load_studies(paths), metric, mode=mode),
    ),
    "curves": Drawing(
        "learning curves by epoch and by device time", lambda paths, metric, mode: curves_figure(paths, metric)
    ),
    "fit": Drawing("training and validation by epoch, of the best trial for each mode of UDA", fit_figure),
    "lambda": Drawing("training and validation under a small, a large and a dynamic lambda", regimes_figure),
    "overlay": Drawing("training and validation without UDA (dotted) and with dynamic UDA (solid)", overlay_figure),
    "ratio": Drawing("R of dynamic UDA by epoch, coloured by its case", ratio_figure),
    "missing": Drawing("what models are worth without a modality, by variant of UDA", table=_missing),
    "models": Drawing("size, memory and inference time of each family's best model", table=_models),
    "tasks": Drawing("families across studies of different data", table=_tasks),
    "augmented": Drawing("training rows beside their augmented copies", is_of_model=True),
    "errors": Drawing("the most confident mistakes, by pair of classes", is_of_model=True),
    "retrieval": Drawing("text to picture and back: Recall@1/5/10, MRR, ranks", is_of_model=True),
    "latent": Drawing("the best model's feature space in the plane, by class", is_of_model=True),
}


def drawing(name: str, out: Path) -> Drawing:
    """The drawing of that name, which can be written into ``out``.

    Raises:
        ValueError: an unknown name, or a kind of file that it does not have.
    """
    if name not in DRAWINGS:
        raise ValueError(f"figure {unknown(name, tuple(DRAWINGS))}")
    found = DRAWINGS[name]
    kinds = TABLES if found.table is not None or name == "retrieval" else KINDS
    if out.suffix not in kinds:
        raise ValueError(f"--out: {out} has to end in {', '.join(kinds[:-1])} or {kinds[-1]}")
    return found


def draw(name: str, paths: Paths, out: Path, *, metric: str | None = None) -> None:
    """Writes a figure into ``out``, as a whole.

    Args:
        name: one of DRAWINGS that needs no model.
        paths: one study or several; of the same data, but for ``tasks``.
        out: a .png or .svg file; of a table a .csv too.
        metric: None takes the studies' first objective.

    Raises:
        ValueError: an unknown name or kind of file, or studies without what the figure shows.
    """
    found = drawing(name, out)
    if found.table is not None:
        write_table(*found.table(paths, metric), out)
        return
    assert found.figure is not None
    write_atomic(out, drawn(found.figure(paths, *choose_objective(paths, metric)), out.suffix[1:]))


def write_table(table: Table, rows: pd.DataFrame, out: Path) -> None:
    """Writes a table as a picture, or ``rows``, all there is of it, as CSV."""
    write_atomic(out, csv_text(rows) if out.suffix == ".csv" else drawn(table_figure(table), out.suffix[1:]))
