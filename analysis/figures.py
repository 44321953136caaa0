"""How all pictures look: fonts, colours of families, units, linear or logarithmic axes. Drawn with Agg, no display.

A family has the same colour and marker in every picture of a report (Okabe & Ito's palette, told apart by the
colour-blind), then the markers change. matplotlib is imported inside functions: it takes half a second.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.devices import kinds, warning
from mmtune import records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6D31", "#7F7F7F")
MARKERS = ("o", "s", "^", "D")
INK = "0.2"
LABELS = {
    "device_seconds": "Device time of the trial, shared caches left out",
    "device_seconds_alone": "Device time of the trial by itself, its caches included",
    "cumulative_device_seconds": "Device time spent so far",
    "wall_seconds": "Wall time of the trial",
    "peak_memory_gib": "Peak memory (GiB)",
    "inference_ms_per_sample": "Inference time per sample, 32 at once (ms)",
    "inference_ms_single": "Inference time of one sample (ms)",
    "num_parameters": "Parameters, locked ones included",
    "num_trainable": "Trainable parameters",
    "epochs": "Epochs trained",
    "epoch": "Epoch",
}
CAPITALS = {"f1": "F1", "ap": "AP", "auroc": "AUROC", "rmse": "RMSE", "mae": "MAE"}


@dataclass(frozen=True)
class Style:
    """Colour and marker of one family."""

    colour: str
    marker: str


@dataclass(frozen=True)
class Unit:
    """What one step of an axis is worth in the column's own unit, and how the axis says so."""

    size: float = 1.0
    suffix: str = ""


def family_styles(table: pd.DataFrame) -> dict[str, Style]:
    """A style for each family of the table, by the families' sorted names."""
    families = sorted(table["family"].unique())
    return {
        family: Style(COLOURS[i % len(COLOURS)], MARKERS[i // len(COLOURS) % len(MARKERS)])
        for i, family in enumerate(families)
    }


def new_figure(columns: int, *, shares_y: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure with ``columns`` panels side by side, which share their y axis or have one each."""
    from analysis.shownfigure import ShownFigure

    figure = ShownFigure(figsize=(7.2, 4.4) if columns == 1 else (5.0 * columns, 4.4), dpi=130, layout="constrained")
    panels = figure.subplots(1, columns, squeeze=False, sharey=shares_y)[0]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(INK)
        axes.grid(color="0.92", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=9, colors=INK)
        axes.xaxis.label.set_size(10)
        axes.yaxis.label.set_size(10)
    return figure, list(panels)


def table_figure(table: tuple[list[str], list[list[str]]]) -> Figure:
    """A table as a picture: header and rows of strings, columns as wide as what is in them, ruled as books do."""
    from analysis.shownfigure import ShownFigure

    header, rows = table
    lines = [header, *rows]
    widths = [0.078 * max(len(str(line[at])) for line in lines) + 0.25 for at in range(len(header))]
    width, height = sum(widths), 0.27 * len(lines) + 0.2
    figure = ShownFigure(figsize=(width, height), dpi=130)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    for number, line in enumerate(lines):
        x, y = 0.1, 0.1 + 0.27 * number + 0.135
        weight = "bold" if number == 0 else "normal"
        for cell, own in zip(line, widths, strict=True):
            axes.text(x, y, plain(str(cell)), fontsize=9, color=INK, va="center", weight=weight)
            x += own
    for y in (0.1, 0.37, height - 0.1):
        axes.plot((0.05, width - 0.05), (y, y), color=INK, linewidth=0.8)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    return drawn(figure, "png")


def drawn(figure: Figure, kind: str) -> bytes:
    """The figure as a file of a kind, 'png' or 'svg'."""
    import matplotlib

    out = io.BytesIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "mmtune"}):  # ids that do not change
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a box stands for it
        figure.savefig(out, format=kind, metadata={"Software": None} if kind == "png" else {"Date": None})
    return out.getvalue()


def unit_of(column: str, values: pd.Series) -> Unit:
    """The unit in which these values read well."""
    largest = values.max()
    if column.endswith("seconds"):
        return Unit(3600, " (h)") if largest > 3 * 3600 else Unit(1, " (s)")
    if column.startswith("num_") and largest >= 1e6:
        return Unit(1e6, " (millions)")
    return Unit()


def axis_label(column: str, unit: Unit = Unit()) -> str:  # noqa: B008 (frozen)
    """'Validation accuracy' for val_accuracy, 'Wall time of the trial (s)' for wall_seconds."""
    if column in LABELS:
        return LABELS[column] + unit.suffix
    words = column.removeprefix("val_").split("_")
    text = " ".join(CAPITALS.get(word, word) for word in words)
    text = f"Validation {text}" if column.startswith("val_") else text[:1].upper() + text[1:]
    return plain(text) + unit.suffix


def device_label(column: str, unit: Unit, trials: pd.DataFrame) -> str:
    """:func:`axis_label`, and a second line where the trials' devices do not compare."""
    label = axis_label(column, unit)
    if warning(trials, column) is None:
        return label
    return f"{label}\n" + plain(f"of devices that do not compare: {', '.join(kinds(trials))}")


def scale_x(axes: Axes, values: np.ndarray) -> None:
    """Logarithmic if the values span more than a factor of ten, with ticks that read as plain numbers."""
    from matplotlib import ticker

    values = values[np.isfinite(values)]
    if not len(values) or values.min() <= 0 or values.max() <= 10 * values.min():
        return
    axes.set_xscale("log")
    decades = math.log10(values.max() / values.min())
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0) if decades < 3.5 else (1.0,)))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())


def plain(text: str) -> str:
    """Text on one line that matplotlib shows as it is: a dollar sign would start a formula."""
    return re.sub(r"[\x00-\x1f\x7f]", " ", text).replace("$", r"\$")


def legend(figure: Figure, entries: list[tuple[Any, str]]) -> None:
    """A legend to the right of all panels, where it hides nothing."""
    handles, labels = zip(*entries, strict=True)
    figure.legend(
        handles, [plain(label) for label in labels], loc="outside right upper", frameon=False, fontsize=9,
        labelcolor=INK, handlelength=2.2,
    )  # fmt: skip


def trial_label(row: pd.Series, table: pd.DataFrame) -> str:
    """'t0007', or 'study/t0007' in a table of several studies."""
    return f"{row['study']}/{row['trial']}" if len(set(table["study"])) > 1 else str(row["trial"])


def trial_labels(rows: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """:func:`trial_label` of each row."""
    if len(set(table["study"])) < 2:
        return rows["trial"].astype(str).to_list()
    return [f"{study}/{trial}" for study, trial in zip(rows["study"], rows["trial"], strict=True)]


def is_pruned(table: pd.DataFrame) -> pd.Series:
    """Booleans: drawn hollow."""
    return table.loc[:, "state"].isin((records.PRUNED, records.PAUSED))
