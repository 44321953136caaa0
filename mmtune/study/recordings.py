"""What the trials of a study were and what they reported, read from its tables once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmtune import records
from mmtune.records import StudyFolder
from mmtune.search.trials import TrialRecord
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
    others: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    """Further metrics and costs after each epoch: the other objectives, where there are several."""

    def report(self, record: TrialRecord, metric: str, seconds: float) -> None:
        """Adds to ``record`` its next epoch, which took so many device-seconds; past the last one that epoch again."""
        at = min(record.epoch, len(self.values) - 1)
        others = {name: values[at] for name, values in self.others.items()}
        record.facts |= others
        record.add({"epoch": record.epoch + 1, metric: self.values[at], **others, "device_seconds": seconds})


def recordings_of(folder: StudyFolder, spec: SearchSpec) -> list[Recording]:
    """The trials of a study that reported an epoch, in the order of their numbers.

    Raises:
        ValueError: there are none, or a value of trials.csv is not in the space.
    """
    metric, *others = (objective.metric for objective in spec.objectives)
    reports: dict[str, dict[int, Mapping[str, Any]]] = {}
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
                    others={name: tuple(row.get(name, _fact(cells, name)) for row in rows) for name in others},
                )
            )
    if not found:
        raise ValueError(f"{folder.root}: no trial has reported an epoch yet")
    return found


def _fact(cells: Mapping[str, str], name: str) -> float | None:
    """What is of the whole trial, such as its parameters."""
    return float(cells[name]) if cells.get(name) else None


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
