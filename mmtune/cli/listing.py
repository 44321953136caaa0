"""What ``mmtune list`` shows: name -> function that returns a header and rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from mmtune import records

if TYPE_CHECKING:
    from mmtune.search.samplers import SamplerKind
    from mmtune.search.schedulers import SchedulerKind
    from mmtune.spec.keys import Group

Listing = tuple[list[str], list[list[str]]]


def _first_sentence(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())


def _families() -> Listing:
    from trainables.families import FAMILIES

    modules = {name: import_module(path) for name, path in sorted(FAMILIES.items())}
    rows = [
        [name, " + ".join(module.MODALITIES), _first_sentence(module.__doc__), ", ".join(module.LOSS_TERMS)]
        for name, module in modules.items()
    ]
    return ["family", "reads", "what it is", "loss terms of its own"], rows


def _datasets() -> Listing:
    from trainables.data.formats import DATASETS

    modules = {name: import_module(path) for name, path in sorted(DATASETS.items())}
    rows = [
        [
            name,
            ", ".join(module.TARGETS) or "of table.yaml",
            "embedded" if module.IS_EMBEDDED else "--data DIR",
            module.SUMMARY,
        ]
        for name, module in modules.items()
    ]
    return ["dataset", "targets", "where", "what it is"], rows


def _spaces() -> Listing:
    from mmtune.spec.shipped import shipped_search_files

    rows = []
    for name, path in sorted(shipped_search_files().items()):
        first = path.read_text(encoding="utf-8").split("\n", 1)[0]
        rows.append([name, first.removeprefix("#").strip() if first.startswith("#") else ""])
    return ["search file", "what it is"], rows


def _samplers() -> Listing:
    from mmtune.search.samplers import SAMPLERS

    return ["sampler", "options", "what it is"], [_with_options(row) for row in SAMPLERS.values()]


def _schedulers() -> Listing:
    from mmtune.search.schedulers import SCHEDULERS

    return ["scheduler", "options", "what it is"], [_with_options(row) for row in SCHEDULERS.values()]


def _with_options(row: SamplerKind | SchedulerKind) -> list[str]:
    return [row.name, ", ".join(row.options.model_fields) or "none", row.about]


def _metrics() -> Listing:
    from trainables.metrics import METRICS, Metric

    def tasks(row: Metric) -> str:
        return ", ".join(row.kinds) + (" of two classes" if row.is_binary else "")

    rows = [[f"val_{row.name}", tasks(row), row.mode, row.unit, row.about] for row in METRICS.values()]
    rows += [[name, "cost", row.mode, row.unit, row.about] for name, row in records.COSTS.items()]
    return ["name", "tasks", "better", "unit", "what it is"], rows


def _inspections() -> Listing:
    from mmtune.models.inspections import INSPECTIONS

    return ["inspection", "what it shows"], [[name, row.about] for name, row in INSPECTIONS.items()]


def _figures() -> Listing:
    from analysis.drawings import DRAWINGS

    return ["figure", "what it shows"], [[name, row.about] for name, row in DRAWINGS.items()]


def _trackers() -> Listing:
    from mmtune.trackers.kinds import TRACKERS

    return ["tracker", "install", "what it is"], [
        [name, f"pip install 'mmtune[{row.extra}]'", row.about] for name, row in TRACKERS.items()
    ]


def _keys() -> Listing:
    from mmtune.spec.keys import config_groups, file_groups

    return _key_rows([*file_groups(), *config_groups()])


def keys_of(family: str) -> Listing:
    """The settings of a trial, a family's own among them.

    Raises:
        ValueError: there is no such family.
    """
    from mmtune.spec.keys import config_groups, family_group

    return _key_rows([*config_groups(), family_group(family)])


def _key_rows(groups: Sequence[Group]) -> Listing:
    rows = [[key.name, key.default, key.range, key.about] for group in groups for key in group.keys]
    return ["key", "default", "range", "what it is"], rows


LISTS: dict[str, Callable[[], Listing]] = {
    "families": _families,
    "datasets": _datasets,
    "spaces": _spaces,
    "samplers": _samplers,
    "schedulers": _schedulers,
    "metrics": _metrics,
    "inspections": _inspections,
    "figures": _figures,
    "trackers": _trackers,
    "keys": _keys,
}
