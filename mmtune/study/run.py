"""Running a study: its lock, its data, a Ray cluster, and one session of it.

Resuming does not use Tuner.restore, which restarts silently from a truncated snapshot, forgets ASHA's rungs
and can repeat epochs. The study folder is the state: Optuna's journal has the trials and their parameters,
reports.csv every epoch, and each trial's checkpoint its own reports. A session builds a new Tuner around
them, hands out unfinished trials under their own ids, and each goes on from its checkpoint.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from mmtune import records
from mmtune.records import StudyFolder
from mmtune.slots.cluster import cluster_nodes, local_nodes, ray_session, starts_local
from mmtune.spec.search_spec import load_spec
from mmtune.study.checks import fit_to_data, open_pictures
from mmtune.study.extend import extended, write_extended
from mmtune.study.lock import study_lock
from mmtune.study.plan import count_slots
from mmtune.study.session import Ending, Session
from mmtune.study.signals import stop_signals


def run_study(
    folder: StudyFolder,
    *,
    address: str | None = None,
    overrides: Sequence[str] = (),
    say: Callable[[str], None] = print,
    watching: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Ending:
    """Runs or resumes the study in ``folder`` until its budget is spent or a signal comes.

    Args:
        folder: from :func:`mmtune.study.create.create_study` or :func:`mmtune.records.open_study`.
        address: of a Ray cluster; None starts a local one.
        overrides: ``key=value`` of the budget and the like, from now on (:mod:`mmtune.study.extend`).
        say: receives a line on what a resume recovered.
        watching: makes a block, in which caches are filled before Ray starts.

    Raises:
        ValueError: a broken spec, an override that a study under way cannot take, missing data, resources that do not
            exist, no cluster at ``address``.
        StudyBusyError: another process writes the study.
    """
    began = time.monotonic()
    with study_lock(folder):
        info = records.read_json(folder.info)
        spec = load_spec(folder.spec)
        if overrides:
            spec = extended(folder, spec, overrides)
            write_extended(folder, spec, info)
        if _is_finished(folder, info):
            return Ending(folder, is_complete=True, is_interrupted=False, error=None, recovered=None)
        with watching():
            spec = fit_to_data(spec, info["data_dir"])
            open_pictures(spec, info["data_dir"])
        if starts_local(address):
            count_slots(spec, local_nodes())  # say so before Ray starts
        from mmtune.study.tuner import run_tuner  # imports ray

        with ray_session(address), stop_signals() as interrupted:
            slots, _ = count_slots(spec, cluster_nodes())
            info["sessions"].append({"started": records.now(), "pid": os.getpid(), "slots": slots})
            records.write_json(folder.info, info)
            session = Session(folder, spec, info, slots=slots, interrupted=interrupted, began=began)
            ending = session.run(say, run_tuner)
        session.close_books()
        return ending


def _is_finished(folder: StudyFolder, info: dict[str, Any]) -> bool:
    """Whether the ledger says that nothing is left to do: no reason to start Ray."""
    states = Counter(row["state"] for row in records.read_csv(folder.trials))
    return records.is_finished(info, states)
