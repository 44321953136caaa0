"""Tables as people read them: a header and rows of strings, for a terminal or HTML to lay out."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.best import GAIN, MEAN, SD, best_by_family, rank_trials, usable_trials
from analysis.devices import warning, with_device
from analysis.figures import trial_label
from analysis.fronts import best_under_budget, cheapest_within_delta, front_share, knee
from analysis.pareto import EXTRA, marginal_cost, pareto_front
from mmtune import records
from trainables.metrics import objective_names

Table = tuple[list[str], list[list[str]]]


def study_table(table: pd.DataFrame, metric: str, mode: str, limit: int | None = None) -> Table:
    """Trials, best first: rank, trial, state, family, epochs, the metric, device_seconds and params.

    Args:
        table: what ``load_studies`` returns.
        metric: ranks the trials.
        mode: of the metric, 'max' or 'min'.
        limit: at most so many rows; None shows all.
    """
    header = list(dict.fromkeys(["rank", "trial", "state", "family", "epochs", metric, "device_seconds", "params"]))
    header = with_device(header, table)
    ranked = rank_trials(table, metric, mode).iloc[:limit]
    return header, _rows(ranked.assign(params=ranked.apply(_params, axis=1, args=(table,))), header, table)


def family_table(table: pd.DataFrame, metric: str, mode: str, limit: int | None = None) -> Table:
    """Families, best first: number of trials, the best one with its metric and cost, and the cost of all.

    A family that was never sampled has a row too. Mean and standard deviation over seeds are shown where some best
    configuration ran on several. The gain over the best single modality is shown where the families text and image both
    have a value.
    """
    families = best_by_family(table, metric, mode)
    header = list(dict.fromkeys(["family", "trials", "trial", metric, "device_seconds", "total_device_hours"]))
    if any(families["seeds"].dropna() > 1):
        header.insert(header.index("device_seconds"), "mean ± sd (seeds)")
        families["mean ± sd (seeds)"] = families.apply(_over_seeds, axis=1, args=(metric,))
    header += [GAIN] if families.loc[:, GAIN].notna().any() else []
    return header, _rows(families.iloc[:limit], header, table)


def pareto_table(
    table: pd.DataFrame,
    metric: str,
    mode: str,
    limit: int | None = None,
    *,
    cost: str | Sequence[str] = "device_seconds",
) -> Table:
    """The Pareto front, cheapest first; of one cost with what 0.01 more of the metric cost since the row above.

    Raises:
        ValueError: an unknown metric or cost, or one of them twice.
    """
    costs = [cost] if isinstance(cost, str) else list(cost)
    front = pareto_front(table, metric, costs, mode=mode)
    header = ["trial", "state", "family", "epochs", metric, *costs]
    if len(costs) == 1:
        priced = f"{EXTRA} ({records.COSTS[costs[0]].unit})"
        header.append(priced)
        front = marginal_cost(front, metric, costs[0])
        front = front.assign(**{priced: [shown(EXTRA, value) for value in front[EXTRA]]})
    header = with_device(list(dict.fromkeys(header)), front)
    return header, _rows(front.iloc[:limit], header, table)


def front_notes(table: pd.DataFrame, metric: str, mode: str, cost: str | Sequence[str]) -> list[str]:
    """What each cost of a front is and whether its devices compare, its knee and its volume; a line each."""
    costs = [cost] if isinstance(cost, str) else list(cost)
    lines = [cost_note(table, metric, name) for name in costs]
    at, share = knee(table, metric, costs, mode=mode), front_share(table, metric, costs, mode=mode)
    if at is not None:
        lines.append(f"knee: {_at(at, table, metric, costs)}, where the front bends most")
    if not math.isnan(share):
        lines.append(f"hypervolume: {share:.3f} of the box between the best and the worst value of each axis")
    return lines


def choice_notes(
    table: pd.DataFrame, metric: str, mode: str, cost: str, *, under: float | None = None, within: float | None = None
) -> list[str]:
    """The best trial at a cost of at most ``under``, and the cheapest at most ``within`` worse than the best.

    Raises:
        ValueError: an unknown metric or cost.
    """
    lines, unit = [], records.COSTS[cost].unit
    if under is not None:
        best = best_under_budget(table, metric, cost, under, mode=mode)
        said = "no trial" if best is None else _at(best, table, metric, [cost])
        lines.append(f"best with {cost} of at most {under:g} {unit}: {said}")
    if within is not None:
        cheapest = cheapest_within_delta(table, metric, cost, within, mode=mode)
        said = "no trial" if cheapest is None else _at(cheapest, table, metric, [cost])
        lines.append(f"cheapest within {within:g} of the best {metric}: {said}")
    return lines


def cost_note(table: pd.DataFrame, metric: str, cost: str) -> str:
    """What the cost of a front is, and whether the devices of its trials compare."""
    note = warning(usable_trials(table, metric, cost), cost)
    return f"{cost}: {records.COSTS[cost].about}" + ("" if note is None else f". Caution: {note}")


def shown_table(table: pd.DataFrame) -> Table:
    """A data frame as people read it."""
    return [*map(str, table.columns)], [
        [shown(str(name), value) for name, value in zip(table.columns, row, strict=True)]
        for row in table.itertuples(index=False)
    ]


def shown(name: str, value: Any) -> str:
    """A value of column ``name`` as text; "" if missing."""
    if pd.isna(value):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, float):
        return str(value)
    if name == GAIN:
        return f"{value:+.4f}"
    if name in objective_names():
        return f"{value:.4f}"
    if name.endswith("_seconds"):
        return f"{value:.1f}"
    if name == EXTRA:
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
    return f"{value:.3g}"


def html_table(table: Table) -> str:
    """A table as HTML, every cell escaped."""
    header, rows = table
    head = "".join(f"<th>{escaped(name)}</th>" for name in header)
    lines = [
        "<tr>" + "".join(_cell(name, cell) for name, cell in zip(header, row, strict=True)) + "</tr>" for row in rows
    ]
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody>\n</table>"


def escaped(value: object) -> str:
    """Text as HTML shows it, whatever is in it."""
    return html.escape(str(value))


def _cell(name: str, cell: str) -> str:
    is_number = cell.lstrip("+-")[:1].isdigit()
    kind = "params" if name == "params" else "number" if is_number else ""
    return f'<td class="{kind}">{escaped(cell)}</td>' if kind else f"<td>{escaped(cell)}</td>"


def _rows(table: pd.DataFrame, header: list[str], studies: pd.DataFrame) -> list[list[str]]:
    rows = []
    for _, row in table.iterrows():
        cells = {name: shown(name, row.get(name)) for name in header}
        if cells["trial"]:
            cells["trial"] = trial_label(row, studies)
        rows.append(list(cells.values()))
    return rows


def _at(row: pd.Series, table: pd.DataFrame, metric: str, costs: Sequence[str]) -> str:
    """'t0007 (text), val_accuracy 0.8123 for 12.3 s'."""
    prices = ", ".join(f"{shown(cost, row.at[cost])} {records.COSTS[cost].unit}" for cost in costs)
    return f"{trial_label(row, table)} ({row['family']}), {metric} {shown(metric, row.at[metric])} for {prices}"


def _over_seeds(row: pd.Series, metric: str) -> str:
    """'0.8123 ± 0.0045 (5)', the mean over the seeds of a family's best configuration; "" of a single seed."""
    if row.at["seeds"] is pd.NA or row.at["seeds"] < 2:
        return ""
    return f"{shown(metric, row[metric + MEAN])} ± {shown(metric, row[metric + SD])} ({row['seeds']})"


def _params(row: pd.Series, table: pd.DataFrame) -> str:
    texts = {name: shown(name, row[name]) for name in table.attrs.get("params", ())}
    return " ".join(f"{name}={text}" for name, text in texts.items() if text)
