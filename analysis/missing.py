"""What models are worth without one of their modalities: the layout of Monter-Aldana et al. 2023, table 4.

A row is a family and what it was given, a column a variant of UDA. Everything comes of what ``mmtune test --without``
wrote into the folders of trials.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.best import best_trial, same_params, usable_trials
from analysis.studies import Paths, load_studies, study_folders
from analysis.tables import Table
from analysis.uda import MODE, VIEWS, with_uda
from mmtune import records
from trainables.modelfolder import FACTS, read_facts

_WITHOUT = re.compile(r"without (\w+) \((.*)\)")
_VARIANTS = {
    ("none", "both"): "Base", ("aug", "both"): "Aug", ("fixed", "both"): "Fixed UDA",
    ("dynamic", "both"): "Dynamic UDA", ("dynamic", "text"): "Dynamic Text", ("dynamic", "image"): "Dynamic Image",
}  # fmt: skip
_SPLITS = ("test", "val")


def missing_modalities(paths: Paths, metric: str, mode: str) -> pd.DataFrame:
    """A row a family, input, variant and metric: dataset, family, input, variant, split, metric, value, sd, models.

    ``value`` is the mean over the tested models that differ in their seed alone, ``sd`` their standard deviation
    (ddof = 1, missing of one). Of each family and variant that is the best configuration on validation that was tested
    without a modality; on the test split where there is one, else on validation. ``input`` is what is left, and how the
    rest was taken away. The metric is the given one and, where it is a micro or macro mean, the other of the two. Empty
    where nothing was tested.
    """
    table = load_studies(paths)
    folders = study_folders(paths)
    usable = usable_trials(with_uda(paths, table), metric)
    kinds = [_variant(*pair) for pair in zip(usable[MODE], usable[VIEWS], strict=True)]
    tests = [_test(folders[study].trial(trial)) for study, trial in zip(usable["study"], usable["trial"], strict=True)]
    usable = usable.assign(variant=kinds)
    tested = usable.loc[[test is not None for test in tests]]
    found = {at: test for at, test in zip(usable.index, tests, strict=True) if test is not None}
    rows = []
    for (family, variant), trials in tested.groupby(["family", "variant"], sort=True):  # pyright: ignore[reportGeneralTypeIssues]
        best = best_trial(trials, metric, mode)
        split, dataset, results = found[best.name]
        same = [found[at][2] for at in same_params(trials, best).index if found[at][:2] == (split, dataset)]
        for given, values in results.items():
            for name in _metrics(metric, values):
                cells = pd.Series([other[given][name] for other in same if given in other], dtype=float)
                row = {"dataset": dataset, "family": family, "input": given, "variant": variant, "split": split}
                rows.append(
                    row | {"metric": name, "value": cells.mean(), "sd": cells.std(ddof=1), "models": len(cells)}
                )
    columns = ["dataset", "family", "input", "variant", "split", "metric", "value", "sd", "models"]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def missing_table(rows: pd.DataFrame) -> Table:
    """:func:`missing_modalities` as table 4 has it: a line a family and input, a column a variant of UDA."""
    variants = [name for name in [*_VARIANTS.values(), *rows["variant"]] if name in set(rows["variant"])]
    variants = list(dict.fromkeys(variants))
    metrics = "/".join(dict.fromkeys(rows["metric"]))
    lines = []
    for (dataset, family, given), own in rows.groupby(["dataset", "family", "input"], sort=False):  # pyright: ignore[reportGeneralTypeIssues]
        cells = ["/".join(_cell(row) for row in own.to_dict("records") if row["variant"] == name) for name in variants]
        lines.append([f"{dataset} ({own['split'].iloc[0]})", family, given, *cells])
    return ["dataset", "family", f"input: {metrics}", *variants], lines


def _cell(row: dict[str, Any]) -> str:
    return f"{row['value']:.4f}" + ("" if math.isnan(row["sd"]) else f"±{row['sd']:.4f}")


def _variant(kind: str, views: str) -> str:
    return _VARIANTS.get((kind, "both" if kind == "none" else views), f"{kind} {views}")


def _metrics(metric: str, values: dict[str, Any]) -> list[str]:
    """The metric, macro before micro where both are there."""
    name = metric.removeprefix("val_")
    pair = [name.replace("micro", "macro"), name.replace("macro", "micro")]
    return [known for known in dict.fromkeys(pair) if known in values]


def _test(folder: Path) -> tuple[str, str, dict[str, dict[str, float]]] | None:
    """Split, dataset, and the metrics by input of a trial that was tested without some modality; all of it last."""
    for split in _SPLITS:
        file = folder / records.TESTS / split / "metrics.json"
        if file.is_file() and (folder / FACTS).is_file():
            said = json.loads(file.read_text(encoding="utf-8"))
            reads = read_facts(folder).modalities
            parts, whole = {}, {}
            for title, values in said["results"].items():
                without = _WITHOUT.fullmatch(title)
                if without is None:
                    whole = {"all": values}
                else:
                    left = " ".join(name for name in reads if name != without[1])
                    parts[f"{left} alone ({without[1]} {without[2]})"] = values
            if parts:
                return split, str(said["dataset"]), dict(sorted(parts.items())) | whole
    return None
