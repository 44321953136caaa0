"""Running a study: its lock, its data, a Ray cluster, and one session of it.

Resuming does not use Tuner.restore, which restarts silently from a truncated snapshot, forgets ASHA's rungs
and can repeat epochs. The study folder is the state: Optuna's journal has the trials and their parameters,
reports.csv every epoch, and each trial's checkpoint its own reports. A session builds a new Tuner around
them, hands out unfinished trials under their own ids, and each goes on from its checkpoint.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune import records
from mmtune.info import read_info
from mmtune.records import StudyFolder
from mmtune.slots.cluster import (
    cluster_nodes,
    importing_ahead,
    local_nodes,
    nodes_of,
    ray_session,
    starts_local,
)
from mmtune.slots.head import watching_head
from mmtune.slots.nodes import check_nodes
from mmtune.spec.confirm import confirming_name
from mmtune.spec.search_spec import SearchSpec, load_spec
from mmtune.storage.store import remote_of
from mmtune.study.budget import is_finished
from mmtune.study.checks import fit_to_data, open_pictures
from mmtune.study.create import create_study, new_folder
from mmtune.study.extend import extended, write_extended
from mmtune.study.keeping import clear_finished
from mmtune.study.learn import with_lessons
from mmtune.study.lock import study_lock
from mmtune.study.mend import clear_unwritten, mend_tables
from mmtune.study.place import settle_data
from mmtune.study.plan import count_slots, make_plan
from mmtune.study.retry import reopen_failed
from mmtune.study.session import Ending, Session
from mmtune.study.signals import stop_signals
from mmtune.trackers.beside import tracking

if TYPE_CHECKING:
    from mmtune.storage.mirror import Mirror

Say = Callable[[str], None]
Watching = Callable[[], AbstractContextManager[None]]


def run_studies(
    specs: Sequence[SearchSpec],
    *,
    storage: str | Path,
    data_dir: str | None = None,
    address: str | None = None,
    resumes: bool = False,
    say: Say | None = print,
    watching: Watching = nullcontext,
    probes: bool = False,
) -> Generator[Ending]:
    """Creates and runs the study of each spec, one after the other, once all of them can run.

    Args:
        specs: of studies with names of their own.
        storage: where their folders go.
        data_dir: where the dataset lies; None for embedded ones.
        address: of a Ray cluster; None starts a local one.
        resumes: goes on with a study that is there, as it began, but for ``data_dir``.
        say: as in :func:`run_study`; receives what should be known of the data and the settings too.
        watching: as in :func:`run_study`.
        probes: whether time and memory are measured first (:func:`mmtune.study.plan.make_plan`).

    Yields:
        How each ended.

    Raises:
        ValueError: a study that exists unless ``resumes``, two of one name, or what
            :func:`mmtune.study.plan.make_plan` and :func:`run_study` refuse.
    """
    there = {spec.study: _there(spec, storage) if resumes else None for spec in specs}
    for spec in specs:
        if there[spec.study] is None:
            new_folder(spec, storage)
            if spec.confirm is not None:
                new_folder(replace(spec, study=confirming_name(spec.study)), storage)
    twice = sorted({spec.study for spec in specs if [other.study for other in specs].count(spec.study) > 1})
    if twice:
        raise ValueError(f"two search files name the same study: {', '.join(twice)}")
    with nodes_of(address) as nodes, importing_ahead(address):
        with watching():
            new = [spec for spec in specs if there[spec.study] is None]
            plans = {
                spec.study: make_plan(spec, nodes, data_dir=data_dir, storage=storage, probes=probes, is_brief=True)
                for spec in new
            }
        if not starts_local(address):
            check_nodes(data_dir=data_dir, folder=Path(storage).expanduser().resolve())
        if say is not None:
            for note in dict.fromkeys(note for plan in plans.values() for note in plan.notes):
                say(f"note: {note}")
        for spec in specs:
            folder, moved = there[spec.study], data_dir
            if folder is None:
                plan, moved = plans[spec.study], None
                folder = create_study(plan.spec, storage=storage, data_dir=data_dir, forecast=plan.forecast)
            elif say is not None:
                say(f"going on with {folder.root}, as it began")
            yield run_study(folder, address=address, data_dir=moved, say=say, watching=watching)


def _there(spec: SearchSpec, storage: str | Path) -> StudyFolder | None:
    """The study of that name, if there is one."""
    folder = StudyFolder(Path(storage).expanduser().resolve() / spec.study)
    return records.open_study(folder.root) if folder.info.exists() else None


def run_study(
    folder: StudyFolder,
    *,
    address: str | None = None,
    overrides: Sequence[str] = (),
    data_dir: str | None = None,
    retries_failed: bool = False,
    say: Say | None = print,
    watching: Watching = nullcontext,
    mirror: Mirror | None = None,
) -> Ending:
    """Runs or resumes the study in ``folder`` until its budget is spent or a signal comes.

    Args:
        folder: from :func:`mmtune.study.create.create_study` or :func:`mmtune.records.open_study`.
        address: of a Ray cluster; None starts a local one.
        overrides: ``key=value`` of the budget and the like, from now on (:mod:`mmtune.study.extend`).
        data_dir: where its data lie now; None is where they lay.
        retries_failed: runs trials again that failed of what may pass (:mod:`mmtune.study.retry`).
        say: receives a line on what happens, where the terminal does not show it; None: nothing is shown.
        watching: makes a block, in which caches are filled before Ray starts.
        mirror: of a study in object storage, whose working folder this is.

    Raises:
        ValueError: a broken spec, an override that a study under way cannot take, missing data or others than it began
            with, resources that do not exist, no cluster at ``address``.
        StudyBusyError: another process writes the study.
    """
    began = time.monotonic()
    if mirror is None and (url := remote_of(folder.root)) is not None:
        raise ValueError(f"{folder.root}: is the working folder of another; go on with it: mmtune resume {url}")
    with study_lock(folder), importing_ahead(address):
        clear_unwritten(folder)
        info = read_info(folder.info)
        spec = load_spec(folder.spec)
        mend_tables(folder, spec, info, say or (lambda line: None))
        if overrides:
            spec = extended(folder, spec, overrides)
        if data_dir is not None:
            with watching():
                settle_data(folder, spec, info, data_dir)
        if retries_failed:
            _retry_failed(folder, spec, info, say)
        if _is_finished(folder, {**info, "budget": vars(spec.budget)}):
            if overrides:
                write_extended(folder, spec, info)
            clear_finished(folder, spec, info)
            return Ending(folder, is_complete=True, is_interrupted=False, error=None, recovered=None)
        spec = with_lessons(folder, spec)
        with watching():
            settle_data(folder, spec, info, None)
            spec = fit_to_data(spec, info["data_dir"])
            open_pictures(spec, info["data_dir"])
        is_local = starts_local(address)
        if is_local:
            count_slots(spec, local_nodes())  # say so before Ray starts
        if overrides:  # nothing was refused
            write_extended(folder, spec, info)
        with ray_session(address), stop_signals() as interrupted:
            from mmtune.study.tuner import run_tuner  # takes a second

            slots, _ = count_slots(spec, cluster_nodes())
            check_nodes(data_dir=info["data_dir"], folder=folder.root if mirror is None else None)
            info["sessions"].append({"started": records.now(), "pid": os.getpid(), "slots": slots})
            session = Session(
                folder, spec, info, slots=slots, interrupted=interrupted, began=began, say=say, mirror=mirror
            )
            tracked = tracking(folder.root, spec.trackers, session.screen.say)
            with watching_head(session.abandon, is_local=is_local), tracked:
                ending = session.run(run_tuner)
        with suppress(OSError):  # the session has said so, and what it took until then is there
            session.close_books()
        return ending


def _is_finished(folder: StudyFolder, info: dict[str, Any]) -> bool:
    """Whether the ledger says that nothing is left to do: no reason to start Ray."""
    if not folder.trials.exists():
        return False
    from analysis.studies import study_cost  # brings pandas, which a new study does not wait for

    return is_finished(info, study_cost(folder.root))


def _retry_failed(folder: StudyFolder, spec: SearchSpec, info: dict[str, Any], say: Say | None) -> None:
    reopened = reopen_failed(folder, spec, info)
    if say is not None:
        names = ", ".join(reopened)
        say(f"trying again: {names}" if reopened else "no trial failed of what may pass: nothing to try again")
