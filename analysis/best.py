"""Ranks trials, compares families, and exports the best trial as a config that ``mmtune train`` takes.

Only a trial that ended well can be best: COMPLETE, or PRUNED or PAUSED (its checkpoint is as good as its score). A tie
goes to the trial that cost less, then to the earlier one.
"""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from analysis.studies import Paths, choose_objective, load_studies, study_cost, study_folders
from mmtune import records
from trainables.files import write_atomic
from trainables.metrics import objective_names

USABLE = (records.COMPLETE, records.PRUNED, records.PAUSED)
SINGLE_MODALITY = ("text", "image")  # the families that a multimodal one has to beat
GAIN = "gain_over_best_single_modality"
MEAN, SD = "_mean", "_sd"  # over seeds


def usable_trials(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The COMPLETE, PRUNED and PAUSED trials that have a finite number in each of ``columns``."""
    keep = table["state"].isin(USABLE)
    for column in columns:
        keep &= numbers(table, column).map(math.isfinite)
    return table.loc[keep]


def rank_trials(table: pd.DataFrame, metric: str, mode: str) -> pd.DataFrame:
    """All trials, best first, with a ``rank`` column in front; trials that cannot be best follow without a rank."""
    order = pd.DataFrame(
        {
            "is_unranked": ~table.index.isin(usable_trials(table, metric).index),
            "value": numbers(table, metric) * (-1 if mode == "max" else 1),
            "device_seconds": numbers(table, "device_seconds"),
            "number": table["trial"].map(records.trial_number),
            "study": table["study"],
        },
        index=table.index,
    ).sort_values(["is_unranked", "value", "device_seconds", "number", "study"])
    ranked = table.loc[order.index].copy()
    unranked = order["is_unranked"].to_list()
    ranks = [None if out else place for place, out in enumerate(unranked, start=1)]
    ranked.insert(0, "rank", pd.array(ranks, dtype="Int64"))
    return ranked


def best_trial(table: pd.DataFrame, metric: str, mode: str) -> pd.Series:
    """The row of the best trial.

    Raises:
        ValueError: no COMPLETE, PRUNED or PAUSED trial has a finite value of the metric.
    """
    if usable_trials(table, metric).empty:
        studies = ", ".join(dict.fromkeys(table["study"]))
        states = ", ".join(f"{count} {state}" for state, count in table["state"].value_counts().items())
        known = [name for name in table.columns if name in objective_names() and name != metric]
        other = "" if metric in table else f"; reported: {', '.join(known) or 'nothing'}"
        raise ValueError(f"{studies}: no finished trial with a finite {metric} yet ({states or 'no trial'}{other})")
    return rank_trials(table, metric, mode).iloc[0].drop("rank")


def best_by_family(table: pd.DataFrame, metric: str, mode: str) -> pd.DataFrame:
    """One row a family that was or may be sampled, best family first.

    Columns: family, trials (number, 0 of one that was never sampled), study, trial and epochs of its best trial, the
    metric, device_seconds of that trial, seeds (how many ended trials have its parameters, the seed aside), mean and
    standard deviation (ddof = 1; missing of a single seed) of the metric over these, total_device_hours of the family's
    trials in whatever state, and how far the metric is better than the best of the families text and image (negative:
    worse; missing unless both have a value).
    """
    rows = []
    for family in sorted({*table["family"], *table.attrs.get("families", ())}):
        trials = table.loc[table["family"] == family]
        row = {"family": family, "trials": len(trials)}
        if not usable_trials(trials, metric).empty:
            best = best_trial(trials, metric, mode)
            row |= {name: best.get(name) for name in ("study", "trial", "epochs", metric, "device_seconds")}
            repeated = numbers(same_params(usable_trials(trials, metric), best), metric)
            row |= {"seeds": len(repeated), metric + MEAN: repeated.mean(), metric + SD: repeated.std(ddof=1)}
        row["total_device_hours"] = numbers(trials, "device_hours").sum()
        rows.append(row)
    columns = ["family", "trials", "study", "trial", "epochs", metric, "device_seconds", "seeds", metric + MEAN]
    columns += [metric + SD, "total_device_hours"]
    kinds = {metric: "float64", metric + MEAN: "float64", metric + SD: "float64", "epochs": "Int64", "seeds": "Int64"}
    families = pd.DataFrame(rows, columns=list(dict.fromkeys(columns))).astype(kinds)
    sign = 1 if mode == "max" else -1
    singles = families.loc[families["family"].isin(SINGLE_MODALITY), metric].dropna() * sign
    is_comparable = len(singles) == len(SINGLE_MODALITY)
    families[GAIN] = families[metric] * sign - singles.max() if is_comparable else math.nan
    return families.sort_values([metric, "family"], ascending=[mode == "min", True], ignore_index=True)


def same_params(trials: pd.DataFrame, row: pd.Series) -> pd.DataFrame:
    """Those of ``trials`` that have the family, the study and all parameters of ``row``, the seed aside."""
    is_same = pd.Series(True, index=trials.index)
    for name in ("study", "family", *(name for name in trials.attrs.get("params", ()) if name != "seed")):
        column, value = trials[name], row.at[name]
        is_same &= column.isna() if pd.isna(value) else column.eq(value).fillna(False)
    return trials.loc[is_same]


def export_best(paths: Paths, out: str | Path, metric: str | None = None) -> pd.Series:
    """Writes the best trial's config, ready for ``mmtune train``, and returns the trial's row.

    Args:
        paths: one study or several; the best is taken over all.
        out: the YAML file to write, replaced as a whole.
        metric: None takes the studies' first objective.

    Raises:
        ValueError: not a study, nothing finished yet, no config of the trial, or studies that cannot be
            ranked together.
    """
    metric, mode = choose_objective(paths, metric)
    row = best_trial(load_studies(paths), metric, mode)
    write_atomic(Path(out), best_yaml(paths, row, metric, mode, Path(out).name))
    return row


def best_yaml(paths: Paths, row: pd.Series, metric: str, mode: str, name: str) -> str:
    """The text of a trial's config.yaml under comments that say where it is from and how to train it.

    Raises:
        ValueError: the trial's config.yaml is missing.
    """
    folders = study_folders(paths)
    config = folders[row.at["study"]].trial(row.at["trial"]) / "config.yaml"
    if not config.is_file():
        raise ValueError(f"{config}: missing, so trial {row['trial']} cannot be exported")
    hours = math.fsum(study_cost(folder.root).device_hours for folder in folders.values())
    header = [
        f"Best of {', '.join(folders)}.",
        f"  mmtune train {name}",
        f"study: {row['study']}",
        f"trial: {row['trial']} ({row['state']})",
        f"{metric}: {float(row.at[metric])!r} ({mode}) at epoch {row['best_epoch']} of {row['epochs']}",
        f"cost: {row['device_seconds']:.1f} device_seconds; the search took {hours:.4g} device_hours in all",
    ]
    comments = "".join(f"# {' '.join(line.splitlines())}\n" for line in header)
    return comments + config.read_text(encoding="utf-8")


def numbers(table: pd.DataFrame, column: str) -> pd.Series:
    """A column as floats, NaN where a trial has none; all NaN if there is no such column."""
    if column not in table:
        return pd.Series(math.nan, index=table.index, dtype="float64")
    return table.loc[:, column].astype("float64")
