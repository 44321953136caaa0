"""report.html from its template: text is escaped by Jinja, data are JSON, charts are Plotly's, which is inside.

The page opens from a disk and from ``mmtune report --watch``; it asks for nothing else.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import confirm
from analysis.best import numbers, rank_trials, usable_trials
from analysis.classes import per_class, predicted, truth
from analysis.compare import compare, outputs_of, predictions
from analysis.compared import candidate_table
from analysis.figures import axis_label, trial_label, trial_labels
from analysis.missing import missing_table
from analysis.page.pictures import inspected_tables, shown_pictures
from analysis.page.published import beside_own
from analysis.studies import Paths, study_folders
from analysis.tables import Table, cost_note, family_table, pareto_table, shown, shown_table, study_table
from analysis.verdict import answer
from trainables.modelfolder import FACTS, read_facts

NUM_SHOWN = 50  # rows of tables without a script
_MOST_CLASSES = 60  # of the confusion


def render(
    paths: Paths,
    table: pd.DataFrame,
    data: dict[str, Any],
    *,
    metric: str,
    mode: str,
    cost: str,
    best: pd.Series,
    costs: Table,
    plans: pd.DataFrame,
    models: pd.DataFrame,
    missing: pd.DataFrame,
    pictures: dict[str, bytes],
    root: Path,
    config: str,
) -> str:
    """The page.

    Args:
        paths: the studies.
        table: what ``load_studies`` returns of them.
        data: of :func:`analysis.pagedata.page_data`.
        metric: ranks the trials.
        mode: of the metric, 'max' or 'min'.
        cost: of the front that is shown as a table.
        best: the best trial's row.
        costs: what each study took.
        plans: of :func:`analysis.planned.planned_table`.
        models: of :func:`analysis.characteristics.model_table`.
        missing: of :func:`analysis.missing.missing_modalities`.
        pictures: of :func:`analysis.page.pictures.own_pictures`.
        root: of the report.
        config: the text of best.yaml.
    """
    from jinja2 import Environment

    folders = study_folders(paths)
    confirmed = confirm.confirm_table(table, metric, mode)
    comparison, candidates = _comparison(paths, table, metric)
    classes, confusion = _classes(folders[str(best.at["study"])].trial(str(best.at["trial"])))
    failures = _failures(table)
    names = " ".join(shlex.quote(str(folder.root.name)) for folder in folders.values())
    shown_, inspected = shown_pictures(pictures, root, models, paths, names), inspected_tables(models, paths)
    reported = beside_own(table, str(models["dataset"].iloc[0]))
    sections = {
        "overview": "Cost", "finalists": "Finalists" if len(confirmed) else "", "pareto": "Pareto",
        "curves": "Curves", "families": "Families", "comparison": "Comparison" if comparison else "",
        "published": "Published" if reported else "",
        "parameters": "Parameters", "budget": "Budget", "uda": "UDA" if "uda.mode" in table else "",
        "figures": "Figures" if shown_ else "", "missing": "Missing modality" if len(missing) else "",
        "inspected": "Inspected" if inspected else "",
        "classes": "Classes" if classes else "", "failures": "Failures" if failures else "", "trials": "Trials",
        "config": "Config",
    }  # fmt: skip
    environment = Environment(autoescape=True, trim_blocks=True)
    environment.filters["is_number"] = lambda cell: str(cell).lstrip("+-")[:1].isdigit()
    label = trial_label(best, table)
    return environment.from_string(_part("report.html")).render(
        title=", ".join(folders),
        names=names,
        best={
            "label": label, "family": best.at["family"], "value": shown(metric, float(best.at[metric])),
            "epochs": best.at["epochs"], "best_epoch": best.at["best_epoch"],
            "device_seconds": shown("device_seconds", best.at["device_seconds"]),
            "path": shlex.quote(f"{best.at['study']}/{best.at['trial']}"),
        },  # fmt: skip
        metric=metric, metric_label=axis_label(metric), cost=cost, cost_note=cost_note(table, metric, cost),
        sections=[(id, name) for id, name in sections.items() if name],
        answer=comparison[:1] if candidates else [], compared=bool(comparison), comparison=comparison,
        candidates=candidates, costs=costs, plans=shown_table(plans) if len(plans) else None,
        families=family_table(table, metric, mode),
        front=pareto_table(table, metric, mode, NUM_SHOWN, cost=cost),
        trials=study_table(table, metric, mode, NUM_SHOWN),
        finalists=confirm.finalist_table(confirmed, metric) if len(confirmed) else None,
        finalists_note=confirm.confirm_note(confirmed) if len(confirmed) else "",
        published=reported,
        figures=shown_, missing=missing_table(missing) if len(missing) else None, inspected=inspected,
        models=shown_table(models), uda=_uda(table, metric, mode), classes=classes, failures=failures, config=config,
        css=_part("report.css"), js=_part("report.js"), plotly=_plotly(),
        data=_json(data | ({"confusion": confusion} if confusion else {})),
    )  # fmt: skip


def _comparison(paths: Paths, table: pd.DataFrame, metric: str) -> tuple[list[str], Table | None]:
    """What `mmtune compare` says of pictures, or why nothing can be said; nothing where only one family ran."""
    if len(set(usable_trials(table, metric)["family"])) < 2:
        return [], None
    try:
        found = compare(paths, metric=metric)
    except ValueError as error:
        return [f"Cannot be told from these studies: {error}"], None
    return answer(found), shown_table(candidate_table(found))


def _classes(folder: Path) -> tuple[Table | None, dict[str, Any] | None]:
    """Scores of each class on validation, the most frequent first, and which class is taken for which."""
    if not (folder / FACTS).is_file() or not (folder / "predictions.parquet").is_file():
        return None, None
    facts, rows = read_facts(folder), predictions(folder, "val")
    if facts.task.kind == "regression":
        return None, None
    outputs = outputs_of(rows, rows["id"].to_list(), facts)
    scores = per_class(outputs.labels, outputs.logits, facts.task).sort_values(
        "support", ascending=False, kind="stable"
    )
    confusion = None
    if facts.task.kind == "multiclass" and len(facts.task.classes) <= _MOST_CLASSES:
        pairs = truth(outputs.labels, facts.task).T.astype(int) @ predicted(outputs.logits, facts.task).astype(int)
        confusion = {"classes": list(facts.task.classes), "counts": pairs.tolist()}
    return shown_table(scores), confusion


def _failures(table: pd.DataFrame) -> Table | None:
    """First lines of errors, how many trials have each, and the first of these."""
    ended = table.loc[table["error"] != ""]
    first: dict[tuple[str, str], str] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for state, error, name in zip(ended["state"], ended["error"], trial_labels(ended, table), strict=True):
        counts[state, error] += 1
        first.setdefault((state, error), name)
    rows = [[str(count), *key, first[key]] for key, count in counts.most_common(NUM_SHOWN)]
    return (["trials", "state", "error", "first"], rows) if rows else None


def _uda(table: pd.DataFrame, metric: str, mode: str) -> Table | None:
    """The best trial of each mode of UDA."""
    if "uda.mode" not in table:
        return None
    names = [name for name in table.attrs.get("params", ()) if name.startswith("uda.")]
    ranked = rank_trials(usable_trials(table, metric), metric, mode)
    rows = ranked.loc[ranked["uda.mode"].notna()].drop_duplicates(["uda.mode"])
    if rows.empty:
        return None
    counts = Counter(table["uda.mode"])
    said = rows.assign(
        trial=trial_labels(rows, table),
        trials=[counts[kind] for kind in rows["uda.mode"]],
        mean=[numbers(ranked.loc[ranked["uda.mode"] == kind], metric).mean() for kind in rows["uda.mode"]],
    )
    return shown_table(said.loc[:, [*names, "trials", "trial", "family", metric, "mean"]])


def _json(value: Mapping[str, Any]) -> str:
    """JSON that stands inside of a script element: no text in it can end that."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, default=_plain)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value)} is no JSON")


def _part(name: str) -> str:
    return files("analysis.page").joinpath(name).read_text(encoding="utf-8")


def _plotly() -> str:
    return files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
