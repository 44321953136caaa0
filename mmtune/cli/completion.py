"""What the shell offers at TAB: search files, studies, datasets, keys, names. Fast: nothing here imports torch.

Each function is given what was typed so far and returns what it may become. Where nothing fits, shells offer files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer


def search_files(incomplete: str) -> list[str]:
    """Search files: names of shipped ones, and paths."""
    from mmtune.spec.shipped import shipped_search_files

    return [*_beginning(incomplete, shipped_search_files()), *yaml_files(incomplete)]


def search_files_and_datasets(incomplete: str) -> list[str]:
    """Search files, and names of datasets."""
    return [*datasets(incomplete), *search_files(incomplete)]


def yaml_files(incomplete: str) -> list[str]:
    """Paths of YAML files, and of folders on the way to one."""
    return _paths(incomplete, lambda path: path.suffix in (".yaml", ".yml") and path.is_file())


def studies(incomplete: str) -> list[str]:
    """Studies: names of those in ./studies, and paths of study folders."""
    from mmtune.records import STORAGE, StudyFolder

    def is_study(path: Path) -> bool:
        return StudyFolder(path).info.is_file()

    names = [path.name for path in _inside(Path(STORAGE)) if is_study(path)]
    return [*_beginning(incomplete, names), *_paths(incomplete, is_study)]


def datasets(incomplete: str) -> list[str]:
    """Names of datasets."""
    from trainables.data.formats import DATASETS

    return _beginning(incomplete, DATASETS)


def topics(incomplete: str) -> list[str]:
    """What ``mmtune list`` lists."""
    from mmtune.cli.listing import LISTS

    return _beginning(incomplete, LISTS)


def families(incomplete: str) -> list[str]:
    """Families."""
    from trainables.families import FAMILIES

    return _beginning(incomplete, FAMILIES)


def inspections(incomplete: str) -> list[str]:
    """What ``mmtune inspect`` looks at, behind the names that are there."""
    from mmtune.models.inspections import INSPECTIONS

    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _beginning(last, INSPECTIONS) if name not in before.split(",")]


def figures(incomplete: str) -> list[str]:
    """What ``mmtune figure`` draws."""
    from analysis.drawings import DRAWINGS

    return _beginning(incomplete, DRAWINGS)


def trackers(incomplete: str) -> list[str]:
    """Experiment trackers."""
    from mmtune.trackers.kinds import TRACKERS

    return _beginning(incomplete, TRACKERS)


def metrics(incomplete: str) -> list[str]:
    """Metrics."""
    from trainables.metrics import objective_names

    return _beginning(incomplete, objective_names())


def costs(incomplete: str) -> list[str]:
    """Costs."""
    from mmtune.records import COSTS

    return _beginning(incomplete, COSTS)


def keys(ctx: typer.Context, incomplete: str) -> list[str]:
    """Keys of the search files on the command line, then all others but families' own; with the = that follows."""
    import yaml

    from mmtune.spec.keys import config_groups, file_groups
    from mmtune.spec.sections import NOT_FIXED
    from mmtune.spec.shipped import find_search_file

    found: dict[str, None] = {}
    for file in ctx.args:  # the words before an option that has no value yet
        with suppress(ValueError, OSError, yaml.YAMLError):  # `check` says what is wrong with it
            text = find_search_file(file).read_text(encoding="utf-8")
            found |= dict.fromkeys(_leaves(yaml.load(text, yaml.CSafeLoader)))
    titles = ("sampler", "scheduler", "budget", "resources", "keep")
    sections = [group for group in file_groups() if group.title in titles]
    found |= dict.fromkeys(key.name for group in sections for key in group.keys)
    fixed = [key.name for group in config_groups() for key in group.keys if key.name not in NOT_FIXED]
    found |= dict.fromkeys(f"fixed.{name}" for name in fixed)
    return [f"{key}=" for key in _beginning(incomplete, found)]


def changeable_keys(incomplete: str) -> list[str]:
    """What a resumed study may change, with the = that follows."""
    from mmtune.study.extend import CHANGEABLE

    return [f"{key}=" for key in _beginning(incomplete, CHANGEABLE)]


def _leaves(node: Any, above: str = "") -> Iterator[str]:
    """Dotted keys of what is no mapping."""
    if not isinstance(node, Mapping):
        yield above
        return
    for key, value in node.items():
        yield from _leaves(value, f"{above}.{key}" if above else str(key))


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _paths(incomplete: str, is_wanted: Callable[[Path], bool]) -> list[str]:
    """Wanted paths and folders that ``incomplete`` may become; none if that is one folder: the shell goes into it."""
    folder = incomplete[: incomplete.rfind("/") + 1]
    found = [path for path in _inside(Path(folder).expanduser()) if path.name.startswith(incomplete[len(folder) :])]
    wanted = [path.name for path in found if is_wanted(path)]
    folders = [f"{path.name}/" for path in found if path.is_dir() and path.name not in wanted and path.name[0] != "."]
    return [] if not wanted and len(folders) == 1 else [f"{folder}{name}" for name in [*wanted, *folders]]


def _inside(folder: Path) -> list[Path]:
    with suppress(OSError):  # no such folder, or not ours to read
        return sorted(folder.iterdir())
    return []
