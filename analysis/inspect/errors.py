"""The most confident mistakes, and which class is taken for which. N samples, C classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.inspect.subject import NotApplicable, Subject
from analysis.preview import write_samples
from trainables.task import Task

PACKAGES = ()
_NONE = "none of it"


def inspect(subject: Subject) -> list[str]:
    """Writes errors.csv, error_pairs.csv and a picture of one sample for each of the commonest pairs.

    Raises:
        NotApplicable: nothing is wrong.
    """
    found = mistakes(subject.labels, subject.scores, subject.trained.task)
    if found.empty:
        raise NotApplicable(f"all {len(subject.rows)} rows are right")
    found.insert(0, "id", [subject.ids[at] for at in found["at"]])
    subject.write_table("errors", found.drop(columns="at"))
    if "error" in found:
        _draw(subject, found.head(subject.num_shown), f"The largest errors of {len(subject.rows)} rows")
        return [f"largest error {found['error'].iloc[0]:.4g}, of {found['id'].iloc[0]}"]
    pairs = by_pair(found)
    subject.write_table("error_pairs", pairs)
    counts = pairs.loc[:, ["true", "predicted", "mistakes"]]
    chosen = found.drop_duplicates(["true", "predicted"]).merge(counts, how="left")
    chosen = chosen.sort_values("mistakes", ascending=False, kind="stable").head(subject.num_shown)
    said, top = f"{len(found)} mistakes in {len(subject.rows)} rows", pairs.iloc[0]
    _draw(subject, chosen, said)
    return [f"{said}; the commonest: {top['true']} taken for {top['predicted']}, {top['mistakes']} times"]


def mistakes(labels: np.ndarray, scores: np.ndarray, task: Task) -> pd.DataFrame:
    """A row a mistake, the most confident first: at (its place in the rows), true, predicted, confidence.

    Of a multi-label task a mistake is of a sample and a class: a class that it does not have ('none of it' is true) or
    one that it has and is not said to; confidence is the probability of what was said. Of a regression the columns are
    at, true, predicted and error (absolute), for every row.

    Args:
        labels: (N,) or (N, C).
        scores: (N, C) probabilities, or (N,) numbers.
        task: what they are of.
    """
    if task.kind == "regression":
        table = pd.DataFrame({"at": np.arange(len(labels)), "true": labels, "predicted": scores})
        return table.assign(error=(table["true"] - table["predicted"]).abs()).sort_values(
            "error", ascending=False, kind="stable", ignore_index=True
        )
    names = np.array(task.classes, object)
    if task.kind == "multiclass":
        said = scores.argmax(axis=1)
        at = np.flatnonzero(said != labels)
        table = pd.DataFrame({"at": at, "true": names[labels[at]], "predicted": names[said[at]]})
        table["confidence"] = scores[at, said[at]]
    else:
        at, which = np.nonzero((scores > 0.5) != (labels > 0.5))
        has = labels[at, which] > 0.5
        table = pd.DataFrame({"at": at, "true": np.where(has, names[which], _NONE)})
        table["predicted"] = np.where(has, _NONE, names[which])
        table["confidence"] = np.where(has, 1 - scores[at, which], scores[at, which])
    return table.sort_values("confidence", ascending=False, kind="stable", ignore_index=True)


def by_pair(found: pd.DataFrame) -> pd.DataFrame:
    """A row a pair of classes, the commonest first: true, predicted, mistakes, mean confidence, id of the first."""
    groups = found.groupby(["true", "predicted"], sort=True)
    table = groups.agg(mistakes=("at", "size"), confidence=("confidence", "mean"), most_confident=("id", "first"))
    return table.reset_index().sort_values("mistakes", ascending=False, kind="stable", ignore_index=True)


def _draw(subject: Subject, shown: pd.DataFrame, title: str) -> None:
    """A line a mistake: picture, text, and what was said."""
    places, path = list(shown["at"]), subject.folder / f"errors.{subject.kind}"
    texts, pictures = [subject.text(at) for at in places], [subject.picture(at) for at in places]
    told = [_told(row) for row in shown.to_dict("records")]
    write_samples(texts, pictures, told, path, title=title)
    subject.files.append(path)


def _told(row: dict[str, Any]) -> list[str]:
    if "error" in row:
        return [str(row["id"]), f"is {row['true']:.5g}, said {row['predicted']:.5g}"]
    said = f"said {row['predicted']}: {row['confidence']:.3f}"
    return [str(row["id"]), f"is {row['true']}", said, f"{row['mistakes']} mistakes of this pair"]
