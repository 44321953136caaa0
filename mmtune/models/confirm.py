"""The finalists of studies again on fresh seeds, as a study of its own: who they are, and its search file.

The seed that a search used has helped to choose its best trials, so that their scores are too good. Each finalist is
trained whole on seeds that no finalist was chosen with, stopped by its own patience alone, and tested once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from analysis.best import rank_trials, usable_trials
from analysis.studies import choose_objective, load_studies, study_folders
from mmtune import records
from mmtune.records import StudyFolder
from mmtune.spec.configfile import load_config
from mmtune.spec.configkeys import flat_fields
from mmtune.spec.confirm import confirming_name
from mmtune.spec.search_spec import SearchSpec, load_spec
from mmtune.spec.sections import NOT_FIXED
from mmtune.storage.commits import has_study
from mmtune.storage.fetching import here
from mmtune.storage.store import Store, is_url, join, resumed_by
from mmtune.study.remote import go_on, start_studies
from mmtune.study.run import Say, Watching
from mmtune.study.session import Ending
from trainables.config import TrialConfig

_OF_THE_STUDY = (*NOT_FIXED, "seed")  # what a finalist's settings leave out
_SECTIONS = ("budget", "resources", "keep")  # that overrides may change


@dataclass(frozen=True)
class Finalist:
    """A trial that is to be repeated."""

    study: str  # as tables call it
    trial: str
    config: TrialConfig
    value: float  # of the objective

    @property
    def name(self) -> str:
        """As the confirming study calls it: study and trial, the study by its folder's name."""
        return f"{Path(self.study).name}/{self.trial}"


def confirming_spec(
    paths: Sequence[str | Path],
    *,
    top: int,
    seeds: int,
    by_family: bool,
    name: str | None = None,
    data_dir: str | None = None,
    overrides: Sequence[str] = (),
) -> tuple[SearchSpec, str | None]:
    """The study that trains the best trials of studies on fresh seeds, and the folder of its data.

    Args:
        paths: one study or several of the same data and objective.
        top: how many trials.
        seeds: how many each is trained on: the first whole numbers from 1 that no finalist was chosen with.
        by_family: whether ``top`` is of each family.
        name: of the new study; None: the first one's with ``-confirm``.
        data_dir: where the data lies now; None: where the studies read it.
        overrides: ``key=value`` of its budget and the like.

    Raises:
        ValueError: studies that cannot be ranked together or read different data, no trial that could be a finalist,
            a study that repeats finalists itself, or an override of anything else.
    """
    for override in overrides:
        if override.partition("=")[0].strip().partition(".")[0] not in _SECTIONS:
            raise ValueError(f"--set {override}: a finalist keeps its settings; give budget.*, resources.* or keep")
    folders = study_folders(paths)
    specs = {study: load_spec(folder.spec) for study, folder in folders.items()}
    again = [study for study, spec in specs.items() if spec.finalists]
    if again:
        raise ValueError(f"{', '.join(again)}: repeats finalists itself; confirm the study that it was made from")
    data_dirs = {study: data_dir or records.read_json(folder.info)["data_dir"] for study, folder in folders.items()}
    if len(set(data_dirs.values())) > 1:
        shown = ", ".join(f"{study}: {folder or 'embedded'}" for study, folder in data_dirs.items())
        raise ValueError(f"studies of different data cannot be ranked together: {shown}")
    metric, mode = choose_objective(paths)
    finalists = choose(folders, load_studies(paths), metric, mode, top=top, by_family=by_family)
    first = next(iter(specs.values()))
    name = name or confirming_name(first.study)
    content = {"study": name, **_content(finalists, first, metric, seeds=seeds)}
    best = f"The {top} best" if top > 1 else "The best"
    which = f"{best}{' of each family' if by_family else ''} of {', '.join(folders)} by {metric}"
    title = f"# {which}, again on {seeds} fresh seeds, each tested once.\n"
    chosen = "".join(f"#   {one.name}: {metric} {one.value:.4f} with seed {one.config.seed}\n" for one in finalists)
    body = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
    spec = load_spec(title + chosen + body, overrides=overrides)
    return replace(spec, warnings=(*spec.warnings, *_resources_note(specs))), next(iter(data_dirs.values()))


def run_confirm(
    folder: StudyFolder, *, address: str | None = None, say: Say | None = print, watching: Watching = nullcontext
) -> Ending | None:
    """Runs, or goes on with, the study that ``confirm:`` of a finished study's file asks for, beside that study.

    Args:
        folder: the finished study.
        address: as in :func:`mmtune.study.run.run_study`, as are the others.

    Returns:
        How it ended; None if the file asks for nothing.

    Raises:
        ValueError: as :func:`confirming_spec` and :func:`mmtune.study.remote.start_studies`.
    """
    spec = load_spec(folder.spec)
    if spec.confirm is None:
        return None
    wanted, is_by_family, storage = spec.confirm, spec.family is None, storage_of(folder.root)
    new, data_dir = confirming_spec([folder.root], top=wanted.top, seeds=wanted.seeds, by_family=is_by_family)
    where = join(storage, new.study)
    is_there = has_study(Store(where)) if is_url(where) else StudyFolder(Path(where)).info.exists()
    begun = load_spec(StudyFolder(Path(here(where))).spec).finalists if is_there else {}
    if begun:
        if begun.keys() != new.finalists.keys() and say is not None:
            say(
                f"note: {new.study} repeats {', '.join(begun)}, which were the best when it began; "
                f"for those of now: mmtune confirm {resumed_by(folder.root)} --name NAME"
            )
        return go_on(where, address=address, say=say, watching=watching)
    with closing(
        start_studies([new], storage=storage, data_dir=data_dir, address=address, say=say, watching=watching)
    ) as endings:
        return next(endings)


def storage_of(root: Path) -> str:
    """Where what follows a study goes: beside it, in the folder or at the URL in which it is."""
    return resumed_by(root.resolve()).rpartition("/")[0]


def choose(
    folders: Mapping[str, StudyFolder], table: pd.DataFrame, metric: str, mode: str, *, top: int, by_family: bool
) -> list[Finalist]:
    """The best trials of a table, best first; of trials that differ in their seed alone the best.

    Args:
        folders: the studies of the table.
        table: what ``load_studies`` gave for them.
        metric: ranks the trials.
        mode: of the metric.
        top: how many.
        by_family: whether that is of each family.

    Raises:
        ValueError: no trial ended with a value, or a trial's config.yaml is missing.
    """
    usable = rank_trials(usable_trials(table, metric), metric, mode)
    if usable.empty:
        raise ValueError(f"{', '.join(folders)}: no finished trial with a finite {metric} yet")
    found: list[Finalist] = []
    taken: list[tuple[str, dict[str, Any]]] = []
    rows: list[dict[str, Any]] = usable.to_dict("records")  # pyright: ignore[reportAssignmentType]
    for row in rows:
        group = row["family"] if by_family else ""
        if sum(other == group for other, _ in taken) >= top:
            continue
        path = folders[row["study"]].trial(row["trial"]) / "config.yaml"
        if not path.is_file():
            raise ValueError(f"{path}: missing, so trial {row['trial']} cannot be trained again")
        config = load_config(path)
        if any(settings(config) == other for _, other in taken):
            continue
        taken.append((group, settings(config)))
        found.append(Finalist(row["study"], row["trial"], config, float(row[metric])))
    return found


def settings(config: TrialConfig) -> dict[str, Any]:
    """What a config sets that its family does not have by itself, flat, beside seed, data and resources."""
    usual = TrialConfig.from_params({"family": config.family, "dataset": config.dataset})
    found = {key: (_at(config, key), _at(usual, key)) for key in flat_fields(config.family)}
    own = {key: value for key, (value, default) in found.items() if value != default or key == "epochs"}
    return {key: value for key, value in own.items() if key not in _OF_THE_STUDY}


def fresh_seeds(used: Sequence[int], count: int) -> list[int]:
    """The first ``count`` whole numbers from 1 that are not in ``used``."""
    seeds = (seed for seed in range(1, count + len(used) + 1) if seed not in used)
    return [seed for seed, _ in zip(seeds, range(count), strict=False)]


def _content(finalists: Sequence[Finalist], first: SearchSpec, metric: str, *, seeds: int) -> dict[str, Any]:
    families = list(dict.fromkeys(one.config.family for one in finalists))
    rows = {one.name: settings(one.config) for one in finalists}
    if len(rows) < len(finalists):
        names = ", ".join(dict.fromkeys(one.study for one in finalists))
        raise ValueError(f"two studies have the same folder name: {names}; rename one")
    shared = {
        key: value
        for key, value in next(iter(rows.values())).items()
        if all(key in row and row[key] == value for row in rows.values())
    }
    for one in finalists:
        own = {key: value for key, value in rows[one.name].items() if key not in shared}
        rows[one.name] = {**({"family": one.config.family} if len(families) > 1 else {}), **own}
    wanted = first.resources
    usual = type(wanted)()
    resources = {key: value for key, value in dict(wanted).items() if value != getattr(usual, key)}
    used = [one.config.seed for one in finalists]
    return {
        "family": families[0] if len(families) == 1 else {"type": "categorical", "choices": families},
        "dataset": first.dataset,
        "objectives": [{"metric": metric}],
        "fixed": shared,
        "finalists": rows,
        "seeds": fresh_seeds(used, seeds),
        "budget": {"trials": seeds * len(finalists)},
        **({"resources": resources} if resources else {}),
    }


def _resources_note(specs: Mapping[str, SearchSpec]) -> list[str]:
    (first, spec), *others = specs.items()
    if all(other.resources == spec.resources for _, other in others):
        return []
    return [f"the studies differ in their resources; those of {first} are taken (others: --set resources.workers=2)"]


def _at(config: TrialConfig, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value
