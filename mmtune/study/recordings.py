"""What the trials of a study were and what they reported, read from its tables once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmtune import records
from mmtune.records import StudyFolder
from mmtune.space.domains import Categorical, Domain
from mmtune.space.drawing import assign
from mmtune.space.space import Space
from mmtune.spec.search_spec import SearchSpec


@dataclass(frozen=True)
class Recording:
    """A trial that was trained once."""

    params: Mapping[str, Any]
    values: tuple[float | None, ...]
    """The objective after each epoch; None where it had none."""
    seconds: tuple[float, ...]
    """Device-seconds of each epoch."""
    state: str
    """How it ended."""
    trial: str = ""
    """Its id in the study."""


def recordings_of(folder: StudyFolder, spec: SearchSpec) -> list[Recording]:
    """The trials of a study that reported an epoch, in the order of their numbers.

    Raises:
        ValueError: there are none, or a value of trials.csv is not in the space.
    """
    metric, reports = spec.objectives[0].metric, {}
    for row in records.read_rows(folder.reports):
        reports.setdefault(row["trial"], {}).setdefault(row["epoch"], row)  # of an epoch trained twice the first counts
    found = []
    for cells in sorted(records.read_trials(folder), key=lambda cells: records.trial_number(cells["trial"])):
        rows = [row for _, row in sorted(reports.get(cells["trial"], {}).items())]
        if rows:
            found.append(
                Recording(
                    params=_params(spec.space, cells, f"{folder.trials}, {cells['trial']}"),
                    values=tuple(row.get(metric) for row in rows),
                    seconds=tuple(float(row.get("device_seconds") or 0) for row in rows),
                    state=cells["state"],
                    trial=cells["trial"],
                )
            )
    if not found:
        raise ValueError(f"{folder.root}: no trial has reported an epoch yet")
    return found


def _params(space: Space, cells: Mapping[str, str], where: str) -> dict[str, Any]:
    """The params that a row of trials.csv has."""

    def pick(name: str, domain: Domain, high: Any) -> Any:
        key = name.rpartition("#")[0]
        text = cells.get(key, "")
        if isinstance(domain, Categorical):
            found = [choice for choice in domain.choices if records.cell(records.param_cell(choice)) == text]
            if not found:
                raise ValueError(f"{where}: {key} is '{text}', which is not in the study's space")
            return found[0]
        try:
            return int(text) if domain.is_int else float(text)
        except ValueError:
            raise ValueError(f"{where}: {key} is '{text}', which is no number") from None

    return assign(space, pick)
