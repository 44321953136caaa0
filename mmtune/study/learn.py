"""``learn_from``: the tables of other studies are read once, when a study begins; what they teach is kept in it.

``learnt.csv`` has a row for each of their trials: its rank among those of its family, and where it lies in the study's
own space (``optim.lr#0``: the first domain of optim.lr, from 0 to 1 in its range; of a categorical the choice's index,
from 0). So a study goes on in the same way wherever its folder goes, and whatever becomes of the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from mmtune import records
from mmtune.records import StudyFolder, find_study, open_study
from mmtune.search.lessons import Lesson, lessons_of
from mmtune.search.rungs import Member
from mmtune.space.domains import Categorical, Domain, Number, same
from mmtune.space.positions import position_in
from mmtune.space.space import Space
from mmtune.spec.search_spec import SearchSpec, load_spec
from mmtune.storage.fetching import here
from mmtune.study.recordings import Recording, recordings_of
from trainables.files import write_atomic

_COLUMNS = ("study", "trial", "family", "rank", "of")


def learn(spec: SearchSpec, storage: str | Path | None = None) -> tuple[SearchSpec, list[str]]:
    """The spec with what the studies of ``sampler.learn_from`` teach, and for each a line on what of it is used.

    Args:
        spec: of a study that does not exist yet.
        storage: where its folder will be: a study that is named and not in ./studies is looked for there.

    Raises:
        ValueError: a study that is not there, has no trial that came to its first rung, or shares no searched setting
            or no family with this one.
    """
    found: list[Lesson] = []
    notes = []
    for name in spec.sampler.learn_from or ():
        try:
            lessons, note = _taught(spec, name, storage)
        except ValueError as error:
            raise ValueError(f"sampler.learn_from: {error}") from None
        found += lessons
        notes.append(note)
    return replace(spec, lessons=tuple(found)), notes


def write_lessons(folder: StudyFolder, spec: SearchSpec) -> None:
    """Writes what the spec has learnt into a new study; nothing if it learns from none."""
    if spec.sampler.learn_from is None:
        return
    names = [f"{key}#{index}" for key, index, _ in spec.space.alternatives()]
    rows = [{**{name: getattr(one, name) for name in _COLUMNS}, **one.place} for one in spec.lessons]
    write_atomic(folder.learnt, records.csv_text([*_COLUMNS, *names], rows))


def with_lessons(folder: StudyFolder, spec: SearchSpec) -> SearchSpec:
    """The spec of a study with what it has learnt.

    Raises:
        ValueError: its learnt.csv is gone or damaged: without it other trials would be proposed.
    """
    if spec.sampler.learn_from is None:
        return spec
    lengths = {
        f"{key}#{index}": len(domain.choices) if isinstance(domain, Categorical) else None
        for key, index, domain in spec.space.alternatives()
    }
    try:
        lessons = tuple(_lesson(row, lengths) for row in records.read_csv(folder.learnt))
    except (KeyError, ValueError):
        lessons = ()
    ranks: dict[tuple[str, str], list[int]] = {}
    for one in lessons:
        ranks.setdefault((one.study, one.family), [one.of]).append(one.rank)
    is_whole = all(some == [len(some) - 1, *range(1, len(some))] for some in ranks.values())
    if {one.study for one in lessons} != {*spec.sampler.learn_from} or not is_whole:
        raise ValueError(f"{folder.learnt}: is missing or damaged; without it sampler.learn_from has nothing to go by")
    return replace(spec, lessons=lessons)


def _lesson(row: Mapping[str, str], lengths: Mapping[str, int | None]) -> Lesson:
    place = {name: float(row[name]) for name in lengths if row[name]}
    for name, at in place.items():
        length = lengths[name]
        if not (0 <= at <= 1 if length is None else at in range(length)):
            raise ValueError(f"{name} is {at}")
    return Lesson(row["study"], row["trial"], row["family"], int(row["rank"]), int(row["of"]), place)


def _taught(spec: SearchSpec, name: str, storage: str | Path | None) -> tuple[list[Lesson], str]:
    folder = open_study(_find(name, storage))
    old = load_spec(folder.spec)
    if old.finalists:
        raise ValueError(f"{name} repeats finalists, it searches nothing; give the study that it was made from")
    families = [family for family in old.families if family in spec.families]
    if not families:
        raise ValueError(f"{name} trains {_and(old.families)}, this study {_and(spec.families)}: no family in common")
    shared = [key for key in spec.space.keys if key in old.space.domains and key != "family"]
    if not shared:
        own = ", ".join(spec.space.keys) or "nothing"
        raise ValueError(f"{name} searches nothing that this study does ({own})")
    members, trials = [], {}
    for number, recording in enumerate(recordings_of(folder, old)):
        member = _member(old, recording, number)
        if member.family in families:
            members.append(member)
            trials[number] = recording.trial
    searched = {*shared, *(["family"] if spec.family is None else [])}
    rungs = old.rules.rungs
    lessons = list(
        lessons_of(
            name,
            members,
            rungs,
            names=trials.__getitem__,
            places=lambda member: _place(spec.space, old.config_params(member.params), searched),
        )
    )
    if not any(math.isfinite(member.bests[0]) for member in members) or not lessons:
        raise ValueError(f"{name}: no trial of {_and(families)} has come to its first rung (epoch {rungs[0]}) yet")
    used = {place.rpartition("#")[0] for one in lessons for place in one.place} - {"family"}
    if not used:
        raise ValueError(f"{name}: no value of its trials lies in this study's ranges ({', '.join(shared)})")
    left = [key for key in spec.space.keys if key not in used and key != "family"]
    rest = f"; it says nothing of {', '.join(left)}" if left else ""
    what = f"{len(lessons)} trial{'s' * (len(lessons) > 1)} of {_and(families)} by rank"
    return lessons, f"learns from {name}, {what}: {', '.join(key for key in spec.space.keys if key in used)}{rest}"


def _find(name: str, storage: str | Path | None) -> Path:
    path = find_study(here(name))
    if not path.exists() and storage is not None and len(path.parts) == 1:
        beside = Path(storage).expanduser() / path
        return beside if beside.exists() else path
    return path


def _member(old: SearchSpec, recording: Recording, number: int) -> Member:
    """A trial as the schedule of its study saw it."""
    sign = -1.0 if old.objectives[0].mode == "max" else 1.0
    values = [math.inf if value is None or math.isnan(value) else sign * value for value in recording.values]
    return Member(
        number=number,
        family=old.family or str(recording.params["family"]),
        state=recording.state,
        until=old.epochs,
        bests=tuple(accumulate(values, min)),
        params=recording.params,
    )


def _place(space: Space, params: Mapping[str, Any], searched: set[str]) -> dict[str, float]:
    """Where params of another space lie, as far as they do: of ``searched`` keys the values that are in their range."""
    known: dict[str, Any] = {}
    places = {}
    for key in space.order:
        found = space.existing(key, known)
        if found is None or key not in params:
            continue
        index, domain = found
        at = _at(domain, space.high(domain, known), params[key])
        if at is not None:
            known[key] = params[key]
            if key in searched:
                places[f"{key}#{index}"] = at
    return places


def _at(domain: Domain, high: Any, value: Any) -> float | None:
    if isinstance(domain, Categorical):
        return next((float(at) for at, choice in enumerate(domain.choices) if same(choice, value)), None)
    return position_in(domain, high, value) if _is_in(domain, high, value) else None


def _is_in(domain: Number, high: float, value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and domain.low <= value <= high and (not domain.is_int or value == int(value))


def _and(names: Sequence[str]) -> str:
    return " and ".join(names)
