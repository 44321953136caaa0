"""Studies in object storage: :func:`mmtune.study.run.run_study` in a working folder, mirrored to a URL."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mmtune import records
from mmtune.records import StudyFolder
from mmtune.slots.cluster import importing_ahead, nodes_of, starts_local
from mmtune.slots.nodes import check_nodes
from mmtune.spec.confirm import confirming_name
from mmtune.spec.search_spec import SearchSpec
from mmtune.storage.commits import has_study
from mmtune.storage.mirror import mirrored
from mmtune.storage.store import Store, is_url, join
from mmtune.study.create import create_study
from mmtune.study.plan import Plan, make_plan
from mmtune.study.run import Say, Watching, run_studies, run_study
from mmtune.study.session import Ending


def start_studies(specs: Sequence[SearchSpec], *, storage: str | Path, **settings: Any) -> Generator[Ending]:
    """:func:`mmtune.study.run.run_studies`, in a folder or at a URL."""
    if is_url(storage):
        return _run_remote_studies(specs, storage=str(storage), **settings)
    return run_studies(specs, storage=storage, **settings)


def go_on(study: str | Path, **settings: Any) -> Ending:
    """:func:`mmtune.study.run.run_study` of a study by its folder, its name in ./studies, or its URL."""
    if is_url(study):
        return run_remote_study(str(study), **settings)
    return run_study(records.open_study(records.find_study(study)), **settings)


def _run_remote_studies(
    specs: Sequence[SearchSpec],
    *,
    storage: str,
    data_dir: str | None = None,
    address: str | None = None,
    resumes: bool = False,
    say: Say | None = print,
    watching: Watching = nullcontext,
    probes: bool = False,
) -> Generator[Ending]:
    """:func:`mmtune.study.run.run_studies` with a URL as ``storage``.

    Raises:
        ValueError: what that refuses, or a store that does not answer or let us in.
    """
    store = Store(storage)
    store.check()
    there = {spec.study: has_study(store.below(spec.study)) for spec in specs}
    for spec in specs:
        url = join(store.url, spec.study)
        if there[spec.study] and not resumes:
            raise ValueError(f"study '{spec.study}' exists; go on with it: mmtune resume {url}")
        after = None if spec.confirm is None or there[spec.study] else confirming_name(spec.study)
        if after is not None and has_study(store.below(after)):
            raise ValueError(f"study '{after}' exists; go on with it: mmtune resume {join(store.url, after)}")
    if len(there) < len(specs):
        raise ValueError("two search files name the same study")
    with nodes_of(address) as nodes, importing_ahead(address):
        with watching():
            new = [spec for spec in specs if not there[spec.study]]
            plans = {
                spec.study: make_plan(spec, nodes, data_dir=data_dir, probes=probes, is_brief=True) for spec in new
            }
        if not starts_local(address):
            check_nodes(data_dir=data_dir)
        if say is not None:
            for note in dict.fromkeys(note for plan in plans.values() for note in plan.notes):
                say(f"note: {note}")
        for spec in specs:
            url, create, moved = join(store.url, spec.study), None, data_dir
            if not there[spec.study]:
                create, moved = partial(_create, plans[spec.study], data_dir), None
            elif say is not None:
                say(f"going on with {url}, as it began")
            yield run_remote_study(url, create=create, address=address, data_dir=moved, say=say, watching=watching)


def run_remote_study(
    url: str, *, say: Say | None = print, create: Callable[[Path], StudyFolder] | None = None, **settings: Any
) -> Ending:
    """:func:`mmtune.study.run.run_study` of the study at ``url``, or of the one that ``create`` makes there.

    Args:
        url: of the study.
        say: as there, as are ``settings``.
        create: makes a new study in a storage folder; None takes the one that is there.

    Raises:
        ValueError: what that refuses, a study that is another driver's, or a store that does not answer.
    """
    ending: Ending | None = None
    try:
        with mirrored(url, say or (lambda line: None), create) as (folder, mirror):
            ending = run_study(folder, say=say, mirror=mirror, **settings)
    except OSError as error:
        if ending is None and error.filename is not None:
            raise
        if ending is None:
            raise ValueError(str(error)) from None
        ending = replace(ending, is_complete=False, error=ending.error or str(error))
    return ending


def _create(plan: Plan, data_dir: str | None, storage: Path) -> StudyFolder:
    return create_study(plan.spec, storage=storage, data_dir=data_dir, forecast=plan.forecast)
