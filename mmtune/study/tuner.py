"""One run of Ray Tune over a pool of slots, wired to a session's ledger, screen and budget."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any
from unittest import mock

from ray import tune
from ray.air._internal import usage
from ray.tune.experiment import Trial
from ray.tune.stopper import NoopStopper

from mmtune.search.schedulers import make_scheduler
from mmtune.search.searcher import StudySearcher
from mmtune.slots.cluster import HEAD, cluster_nodes, handed_on
from mmtune.slots.pool import SlotPool, SlotShape
from mmtune.slots.trial import run_trial
from mmtune.study.plan import count_slots

if TYPE_CHECKING:
    from mmtune.search.journal import Journal
    from mmtune.study.session import Session

_BOOK_SECONDS = 1.0  # between two questions to the broker where the time went
_NO_LIMIT = 10**7  # times that a trial is handed out, and at the same time: the searcher says what it is
_GROW_SECONDS = 10.0  # between two looks at what the cluster holds


def run_tuner(session: Session, journal: Journal) -> str | None:
    """Runs trials until the searcher has none; why it could not go on, or None.

    Raises:
        Exception: whatever Tune raises when it falls, or RuntimeError when the pool is lost. Another may live.
    """
    spec, pool = session.spec, _pool(session)
    session.book_idle()

    def ended(trial: str, ticket: str) -> None:
        pool.forget(ticket)
        session.trial_ended(trial, stranded=searcher.stranded(trial))

    def failed_beside(trial: str, ticket: str, what: str) -> None:
        pool.forget(ticket)
        session.pause(f"{trial}: {what}")

    try:
        pool.prepare(*session.requirements())
        searcher = StudySearcher(
            spec=spec,
            journal=journal,
            ledger=session.ledger,
            job=session.job,
            rules=spec.rules,
            is_spent=lambda: session.failure is not None or session.account.is_spent(),
            seconds_left=session.seconds_left,
            slots=lambda: session.slots,
            on_end=ended,
            on_fault=failed_beside,
        )
        with warnings.catch_warnings(), mock.patch.object(usage, "tag_callbacks"):  # which imports wandb and mlflow
            warnings.simplefilter("ignore")
            _tuner(session, pool, searcher).fit()
        has_failed = pool.error is not None or pool.lost is not None or session.failure is not None
        if not has_failed and not session.interrupted.is_set():  # else what is paused goes on in another session
            searcher.prune_paused()
    finally:
        is_hurried = session.interrupted.is_set() and spec.resources.checkpoint_every_seconds is None
        session.pool_closed(pool.close(timeout=5.0 if is_hurried else 20.0))
    if pool.lost is not None:
        raise RuntimeError(pool.lost)
    return pool.error or session.failure


def _pool(session: Session) -> SlotPool:
    wanted, storage, file_system = session.spec.resources, session.folder.tune / "slots", None
    if session.mirror is not None:
        storage, file_system = session.mirror.scratch
    session.screen.say(f"starting {session.slots} slot{'s' * (session.slots > 1)} of {wanted.workers} worker(s)")
    return SlotPool(
        count=session.slots,
        shape=SlotShape(
            workers=wanted.workers,
            cpus_per_worker=wanted.cpus_per_worker,
            threads=wanted.threads,
            gpus_per_worker=wanted.gpus_per_worker,
            is_single=wanted.isolation == "process",
        ),
        storage=storage,
        file_system=file_system,
        filling=session.folder.filling,
        say=session.screen.say,
        frozen_seconds=wanted.frozen_seconds,
        max_retries=wanted.max_trial_retries,
        env=handed_on(),
        is_interruptible=wanted.checkpoint_every_seconds is not None,
    )


def _tuner(session: Session, pool: SlotPool, searcher: StudySearcher) -> tune.Tuner:
    spec = session.spec
    return tune.Tuner(
        tune.with_resources(run_trial, {"CPU": 0, HEAD: 0.0001}),
        param_space={"broker": pool.name, "objective": spec.objectives[0].metric},
        tune_config=tune.TuneConfig(
            num_samples=_NO_LIMIT,
            search_alg=searcher,
            scheduler=make_scheduler(
                spec.scheduler.name,
                options=spec.scheduler.options,
                trials=session.ledger.trials,
                is_spent=session.account.is_spent,
            ),
            max_concurrent_trials=_NO_LIMIT,
            reuse_actors=True,
            trial_dirname_creator=_dirname,
            trial_name_creator=_dirname,
        ),
        run_config=tune.RunConfig(
            name=f"session-{session.number}-{int(time.time() * 1000)}",
            storage_path=str(session.folder.tune),
            verbose=0,
            progress_reporter=tune.CLIReporter(),  # in notebooks its default shows something all the same
            stop=_Stop(pool, session),
            callbacks=[_Reports(pool, session)],
            failure_config=tune.FailureConfig(max_failures=spec.resources.max_trial_retries),
        ),
    )


def _dirname(trial: Trial) -> str:
    return f"{trial.config['trial']}-{trial.trial_id}"


class _Reports(tune.Callback):
    """Passes every epoch to the ledger and to the screen, and where the time went."""

    def __init__(self, pool: SlotPool, session: Session) -> None:
        self._pool, self._session = pool, session
        self._booked = 0.0  # when, by time.monotonic

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: object
    ) -> None:
        if time.monotonic() - self._booked >= _BOOK_SECONDS:
            self._session.book(self._pool.spent())
            self._booked = time.monotonic()
        row = result.pop("row", None)  # Tune keeps a trial's last result, and snapshots would hold every row
        if row is None:
            return
        name, ledger = trial.config["trial"], self._session.ledger
        known = ledger.trials
        until = known[name].until or known.max_epochs
        is_stopped = result.get("done") and row["epoch"] < until  # the scheduler's decision, and no pause
        if ledger.add(name, {**row, "stopped": True} if is_stopped else row):
            self._session.screen.reported(name, row)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: object) -> None:
        self._session.commit()

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        self._session.screen.say(f"{trial.config['trial']}: the process that follows it died; it goes on in another")

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        return tune.Callback, ()  # Tune pickles what it is given; nothing of this is ever restored


class _Stop(tune.Stopper):
    """Ends Tune's loop after a signal, when trials fail one after the other, or when no slot can be started.

    Tune asks again and again, so the pool grows here too when nodes have joined the cluster.
    """

    def __init__(self, pool: SlotPool, session: Session) -> None:
        self._pool, self._session = pool, session
        self._looked = time.monotonic()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        session, pool = self._session, self._pool
        if session.interrupted.is_set():
            kept = "last finished epoch" if session.spec.resources.checkpoint_every_seconds is None else "steps so far"
            session.screen.say(f"stopping: trials keep their {kept} (once more to stop at once)")
            pool.call_back()
        has_failed = session.failure is not None or pool.error is not None or pool.lost is not None
        if not has_failed and time.monotonic() - self._looked >= _GROW_SECONDS:
            self._grow()
        return session.interrupted.is_set() or has_failed

    def _grow(self) -> None:
        self._looked = time.monotonic()
        session, pool = self._session, self._pool
        if session.spec.resources.concurrent_trials != "auto":
            return
        try:
            slots, _ = count_slots(session.spec, cluster_nodes())
        except ValueError:  # nodes have left: the pool's slots wait for others
            return
        if slots > pool.size:
            pool.grow(slots - pool.size)
            if slots > session.slots:
                session.grow(slots)

    def __reduce__(self) -> tuple[type[NoopStopper], tuple[()]]:
        return NoopStopper, ()
