"""What a comparison found, as tables: candidates, agreement, classes, samples that one model alone gets right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.classes import per_class
from analysis.compare import ALONE, ROLES, WITH, WITHOUT, Comparison
from analysis.paired import is_right
from trainables.files import write_atomic

PRICES = ("device_seconds", "peak_memory_gib", "inference_ms_per_sample", "num_parameters")


def candidate_table(found: Comparison) -> pd.DataFrame:
    """A row a candidate: group, trial, family, modalities, trials, device_seconds of the group, the metric, prices."""
    rows = []
    for role in ROLES:
        if role in found.candidates:
            one = found.candidates[role]
            rows.append(
                {
                    "group": f"{found.modality} alone" if role == ALONE else f"{role} {found.modality}",
                    "trial": one.name,
                    "family": one.row["family"],
                    "modalities": "+".join(one.modalities),
                    "trials": one.trials,
                    "spent_device_seconds": one.spent,
                    found.metric: one.value,
                    **{price: one.row.get(price) for price in PRICES},
                }
            )
    return pd.DataFrame(rows)


def agreement(found: Comparison) -> pd.DataFrame | None:
    """Of the samples that the models without the modality and with it alone get right or wrong: how many there are,
    and how many of them the model with it gets right. None where one of the three is missing, or of a regression.

    The share of those that at least one gets right is what a perfect chooser between the two would reach.
    """
    right = {role: is_right(one.outputs, one.task) for role, one in found.candidates.items()}
    if len(right) < len(ROLES) or right[WITH] is None:
        return None
    without, alone, whole = (np.asarray(right[role]) for role in (WITHOUT, ALONE, WITH))
    cells = {
        "both": without & alone,
        f"only without {found.modality}": without & ~alone,
        f"only {found.modality} alone": ~without & alone,
        "neither": ~without & ~alone,
    }
    rows = [
        {"right": name, "samples": int(cell.sum()), "right_with": int(whole[cell].sum())}
        for name, cell in cells.items()
    ]
    return pd.DataFrame(rows).assign(share=lambda table: table["samples"] / len(found.ids))


def class_gains(found: Comparison) -> pd.DataFrame | None:
    """Per class the F1 without and with the modality, the gain and the support, the largest gain first; None of a
    regression."""
    whole, without = found.candidates[WITH], found.candidates[WITHOUT]
    if whole.task.kind == "regression":
        return None
    tables = [per_class(one.outputs.labels, one.outputs.logits, one.task) for one in (without, whole)]
    f1 = [table["f1"].fillna(0.0) for table in tables]
    gains = pd.DataFrame(
        {"class": tables[0]["class"], "support": tables[0]["support"], "f1_without": f1[0], "f1_with": f1[1]}
    )
    gains["gain"] = gains["f1_with"] - gains["f1_without"]
    return gains.sort_values(["gain", "support"], ascending=False, ignore_index=True)


def won_samples(found: Comparison) -> pd.DataFrame | None:
    """The samples that only the model with the modality gets right: id, label, and what the others said."""
    right = {role: is_right(one.outputs, one.task) for role, one in found.candidates.items()}
    whole = found.candidates[WITH]
    if right[WITH] is None or whole.task.kind != "multiclass":
        return None
    is_won = np.asarray(right[WITH])
    for role, cells in right.items():
        if role != WITH:
            is_won = is_won & ~np.asarray(cells)
    names, rows = np.array(whole.task.classes, object), np.flatnonzero(is_won)
    said = {
        f"said_{role}": names[one.outputs.logits.argmax(axis=1)[rows]]
        for role, one in found.candidates.items()
        if role != WITH
    }
    ids = [found.ids[row] for row in rows]
    return pd.DataFrame({"id": ids, "label": names[whole.outputs.labels[rows]], **said})


def write_comparison(folder: Path, found: Comparison, answer: Sequence[str]) -> None:
    """Writes candidates.csv, agreement.csv, classes.csv and samples.csv, as far as there are such, and compare.json."""
    tables = {
        "candidates": candidate_table(found),
        "agreement": agreement(found),
        "classes": class_gains(found),
        "samples": won_samples(found),
    }
    for name, table in tables.items():
        if table is not None:
            write_atomic(folder / f"{name}.csv", table.to_csv(index=False))
    write_atomic(folder / "compare.json", _json(found, answer))


def _json(found: Comparison, answer: Sequence[str]) -> str:
    candidates = json.loads(str(candidate_table(found).to_json(orient="records")))
    value = {
        "modality": found.modality, "metric": found.metric, "split": found.split, "samples": len(found.ids),
        "gain": asdict(found.gain), "over_alone": None if found.over_alone is None else asdict(found.over_alone),
        "mcnemar_p": found.p_value, "samples_needed": found.needed, "budget_device_seconds": found.budget,
        "over_seeds": None if found.over_seeds is None else asdict(found.over_seeds),
        "interaction": None if found.interaction is None else asdict(found.interaction),
        "candidates": candidates, "answer": [*answer],
    }  # fmt: skip
    return json.dumps(value, indent=2) + "\n"
