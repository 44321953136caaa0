"""Warm worker groups: one long-lived Ray Train run a slot, which serves trial after trial.

A Tune trial that builds its own TorchTrainer pays for N processes, their imports and a process group, and
leaks its placement group when ASHA kills it. Here the study's driver owns a pool of slots instead. Tune's
trial actors hand jobs to one :class:`Broker` actor, slots take them in order, and a stop is cooperative: it
is the answer to a report. No process is killed to stop a trial, so nothing leaks and nothing restarts.

What happens when something dies:
- a worker: Ray Train restarts its group; the slot is handed the same job again, which goes on from its last
  checkpoint; after ``max_retries`` of that the trial fails.
- a trial actor: Tune starts it anew and it attaches to the job that is still under way.
- the broker: the session ends and a new one begins, with a new pool.
- the driver: the cluster takes everything down with it; ``mmtune resume`` goes on from the study folder.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import pickle
import threading
import time
import traceback
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

_POLL_SECONDS = 10.0  # how long a long poll waits before it says "nothing yet"
_MAX_BROKEN_STARTS = 3  # starts of one slot in a row that served nothing


@dataclass
class _Job:
    trial: str
    payload: dict[str, Any]
    attempt: int = 0
    acked_epoch: int = 0
    pending: tuple[str, dict[str, Any]] | None = None  # report or end that the trial actor has not answered yet
    event: asyncio.Event = field(default_factory=asyncio.Event)
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    stop: bool = False


class Broker:
    """Async actor between trial actors, slots and the driver: a queue of jobs and who works on which."""

    def __init__(self, *, max_retries: int) -> None:
        self._max_retries = max_retries
        self._jobs: dict[str, _Job] = {}
        self._queue: collections.deque[str] = collections.deque()
        self._busy: dict[str, str] = {}  # slot -> trial
        self._served: collections.Counter[str] = collections.Counter()
        self._changed = asyncio.Condition()
        self._closing = False

    # --- trial actors -------------------------------------------------------------------------------
    async def submit(self, trial: str, payload: dict[str, Any]) -> None:
        """Queues a job, or attaches to it when the trial's actor was restarted."""
        if trial in self._jobs:
            return
        self._jobs[trial] = _Job(trial, payload, acked_epoch=payload.get("known_epoch", 0))
        async with self._changed:
            self._queue.append(trial)
            self._changed.notify_all()

    async def next_event(self, trial: str) -> tuple[str, dict[str, Any]]:
        """('report', row), ('end', how) or, after a while, ('wait', {})."""
        job = self._jobs.get(trial)
        if job is None:
            return "end", {"state": "FAILED", "error": "the job is gone"}
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(job.event.wait(), _POLL_SECONDS)
        return job.pending or ("wait", {})

    async def answer(self, trial: str, *, stop: bool) -> None:
        """The decision on the pending report, or the receipt of the end. Stopping a queued job forgets it."""
        job = self._jobs.get(trial)
        if job is None:
            return
        job.stop = job.stop or stop
        if job.pending is not None and job.pending[0] == "end":
            self._forget(trial)
        elif job.pending is not None:
            job.acked_epoch = max(job.acked_epoch, job.pending[1]["epoch"])
            job.pending = None
            job.event.clear()
            job.decided.set()
        if stop and trial in self._queue:
            self._queue.remove(trial)
            self._forget(trial)

    # --- slots --------------------------------------------------------------------------------------
    async def next_job(self, slot: str) -> dict[str, Any]:
        """{'kind': 'job', ...}, 'idle' after a while, or 'close'. Asking while busy means the worker group died."""
        if slot in self._busy:
            self._requeue(slot, "its worker died")
        deadline = time.monotonic() + _POLL_SECONDS
        async with self._changed:
            while not self._queue and not self._closing:
                left = deadline - time.monotonic()
                if left <= 0:
                    return {"kind": "idle"}
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), left)
            if self._closing:
                return {"kind": "close"}
            trial = self._queue.popleft()
        job = self._jobs[trial]
        job.attempt += 1
        self._busy[slot] = trial
        self._served[slot] += 1
        known = {"known_epoch": job.acked_epoch}
        return {"kind": "job", "slot": slot, "trial": trial, "attempt": job.attempt, **job.payload, **known}

    async def report(self, trial: str, attempt: int, row: dict[str, Any]) -> bool:
        """Passes an epoch's row up and waits for the decision: True stops the trial."""
        job = self._jobs.get(trial)
        if job is None or job.attempt != attempt or self._closing:
            return True
        if job.stop or row["epoch"] <= job.acked_epoch:
            return job.stop
        job.decided.clear()
        job.pending = ("report", row)
        job.event.set()
        await job.decided.wait()
        return job.stop or self._closing

    async def finish(self, slot: str, trial: str, attempt: int, end: dict[str, Any]) -> None:
        """The job is over; ``end`` has 'state', and 'reason', 'facts' or 'error'."""
        job = self._jobs.get(trial)
        if job is None or job.attempt != attempt:
            return
        if self._busy.get(slot) == trial:
            del self._busy[slot]
        if job.stop or self._closing:  # the trial actor has moved on
            self._forget(trial)
        else:
            job.pending = ("end", end)
            job.event.set()

    # --- driver -------------------------------------------------------------------------------------
    async def slot_died(self, slot: str, why: str) -> int:
        """Puts the slot's job back; how many jobs the slot has been given so far."""
        if slot in self._busy:
            self._requeue(slot, why)
            async with self._changed:
                self._changed.notify_all()
        return self._served[slot]

    async def close(self) -> None:
        """Stops running jobs at their next report and lets the slots' workers return."""
        self._closing = True
        for job in self._jobs.values():
            job.decided.set()
        async with self._changed:
            self._changed.notify_all()

    async def ping(self) -> None:
        """Answers as long as the broker lives."""

    def _requeue(self, slot: str, why: str) -> None:
        trial = self._busy.pop(slot)
        job = self._jobs.get(trial)
        if job is None:
            return
        if job.pending is not None and job.pending[0] == "report":  # the next attempt reports it again
            job.pending = None
            job.event.clear()
        job.decided.set()
        if job.stop:
            self._forget(trial)
        elif job.attempt > self._max_retries:
            job.pending = ("end", {"state": "FAILED", "error": f"{why} {job.attempt} times"})
            job.event.set()
        else:
            self._queue.appendleft(trial)

    def _forget(self, trial: str) -> None:
        self._jobs.pop(trial, None)


# --- worker side --------------------------------------------------------------------------------------
def serve(settings: dict[str, Any]) -> None:
    """What every Ray Train worker of a slot runs: take a job, run it, take the next.

    Args:
        settings: 'broker' (actor handle), 'slot', 'threads', 'is_single' (return after one job), 'env'.
    """
    import os

    import ray
    import ray.train
    import ray.train.torch
    import torch
    import torch.distributed

    from trainables.ranks import Ranks

    os.environ.update(settings["env"])
    torch.set_num_threads(settings["threads"])
    context = ray.train.get_context()
    world = context.get_world_size()
    # Objects travel over gloo also where gradients go over NCCL. The timeout is long because ranks wait here
    # between jobs and while rank 0 builds a cache; a dead rank is noticed by Ray Train, not by a timeout.
    group = torch.distributed.new_group(backend="gloo", timeout=timedelta(hours=24)) if world > 1 else None
    ranks = Ranks(rank=context.get_world_rank(), world=world, device=ray.train.torch.get_device(), group=group)
    broker, slot = settings["broker"], settings["slot"]
    while True:
        job = ranks.broadcast(ray.get(broker.next_job.remote(slot)) if ranks.rank == 0 else None)
        if job["kind"] == "close":
            return
        if job["kind"] == "idle":
            continue
        end = _run_job(job, ranks, broker)
        if ranks.rank == 0:
            ray.get(broker.finish.remote(slot, job["trial"], job["attempt"], end))
        if settings["is_single"]:
            return


def _run_job(job: dict[str, Any], ranks: Any, broker: Any) -> dict[str, Any]:
    """How the job ended. Raises only what leaves the process group unusable, so that it is restarted."""
    import ray
    import torch

    from trainables.config import TrialConfig
    from trainables.errors import AgreedError, OutOfMemoryError
    from trainables.loop import train

    if "requirement" in job:  # prepare a cache: rank 0's work, and no trial's time
        try:
            if ranks.rank == 0:
                pickle.loads(job["requirement"]).build()
        except Exception as error:  # the trials that need it will say so themselves
            return {"state": "FAILED", "error": str(error)}
        return {"state": "COMPLETE"}

    def report(row: dict[str, Any]) -> bool:
        return ray.get(broker.report.remote(job["trial"], job["attempt"], row))

    try:
        config = TrialConfig(**job["config"])
        outcome = train(config, folder=Path(job["folder"]), ranks=ranks, report=report, known_epoch=job["known_epoch"])
        return {"state": "COMPLETE", "reason": outcome.reason, "facts": outcome.facts}
    except OutOfMemoryError as error:
        return {"state": "INFEASIBLE", "error": str(error)}
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        end = {"state": "FAILED", "error": text, "traceback": traceback.format_exc()}
        is_agreed = isinstance(error, AgreedError) or ranks.world == 1
        if is_agreed and _device_is_well(ranks.device, torch):
            return end
        ray.get(broker.finish.remote(job["slot"], job["trial"], job["attempt"], end))
        raise


def _device_is_well(device: Any, torch: Any) -> bool:
    """False once a CUDA error sticks to this process."""
    if device.type != "cuda":
        return True
    try:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
    except RuntimeError:
        return False
    return True


# --- driver side --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class SlotShape:
    workers: int = 1
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    is_single: bool = False  # fresh workers for every job (resources.isolation: process)


class SlotPool:
    """The study's slots: a thread each, in which one Ray Train run stays up.

    Args:
        count: slots, i.e. trials that train at the same time.
        shape: resources of each.
        storage: folder for Ray Train's own small files.
        max_retries: how often a trial whose workers die is tried again.
        env: environment variables for the workers.
    """

    def __init__(
        self, *, count: int, shape: SlotShape, storage: Path, max_retries: int = 2, env: dict[str, str] | None = None
    ) -> None:
        import ray

        self.shape, self.storage, self.env = shape, storage, env or {}
        self.name = f"mmtune-broker-{uuid.uuid4().hex[:12]}"
        actor = ray.remote(Broker).options(name=self.name, num_cpus=0, max_concurrency=10_000)
        self.broker = actor.remote(max_retries=max_retries)
        self.error: str | None = None  # why no slot can be started, once that is clear
        self.lost: str | None = None  # why this pool is dead; a new one may live
        self._closing = threading.Event()
        self._broken: set[str] = set()
        self._threads = [
            threading.Thread(target=self._keep_up, args=(f"slot-{index}",), name=f"slot-{index}", daemon=True)
            for index in range(count)
        ]
        for thread in [*self._threads, threading.Thread(target=self._watch, name="broker-watch", daemon=True)]:
            thread.start()

    def forget(self, trial: str) -> None:
        """Lets go of a trial that Tune has given up: its workers stop at their next report."""
        self.broker.answer.remote(trial, stop=True)

    def prepare(self, requirements: list[Any]) -> None:
        """Has the slots fill the cache ahead of every trial, side by side.

        Each requirement is a job as often as there are slots: a slot that comes to one again shares its shards.
        """
        for copy in range(len(self._threads)):
            for index, need in enumerate(requirements):  # as bytes: the broker shall not import torch to hand them on
                self.broker.submit.remote(f"prepare-{index}-{copy}", {"requirement": pickle.dumps(need)})

    def close(self, timeout: float = 20.0) -> None:
        """Lets the workers return, so that their placement groups are freed; waits at most ``timeout`` seconds."""
        import ray
        from ray.exceptions import RayError

        self._closing.set()
        with contextlib.suppress(RayError):
            ray.get(self.broker.close.remote(), timeout=5)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))
        with contextlib.suppress(RayError):
            ray.kill(self.broker)  # pyright: ignore[reportArgumentType]

    def _watch(self) -> None:
        """Notices that the broker is gone (killed for memory, say): without it nothing moves."""
        import ray
        from ray.exceptions import RayError

        while not self._closing.wait(2.0):
            try:
                ray.get(self.broker.ping.remote())
            except RayError as error:
                if not self._closing.is_set():
                    self.lost = f"the broker between trials and workers died: {str(error).strip().splitlines()[0]}"
                return

    def _keep_up(self, slot: str) -> None:
        """Runs the slot's worker group, and starts it again when it ends before its time."""
        import ray
        from ray.exceptions import RayError

        broken_starts = served = 0
        while not self._closing.is_set():
            why = "its worker group ended"
            try:
                self._trainer(slot).fit()
            except Exception as error:  # whatever Ray Train raises: the slot must come up again or say why not
                why = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            if self._closing.is_set():
                return
            try:
                now_served: int = ray.get(self.broker.slot_died.remote(slot, why))  # pyright: ignore[reportAssignmentType]
            except RayError:
                return  # the broker is gone: the session is ending
            broken_starts = 0 if now_served > served else broken_starts + 1
            served = now_served
            if broken_starts >= _MAX_BROKEN_STARTS:
                self._broken.add(slot)
                if len(self._broken) == len(self._threads):
                    self.error = f"no worker group can be started: {why}"
                return
            if not self.shape.is_single:
                time.sleep(1)

    def _trainer(self, slot: str) -> Any:
        import ray.train
        from ray.train.torch import TorchConfig, TorchTrainer

        shape = self.shape
        resources: dict[str, float] = {"CPU": shape.cpus_per_worker}
        if shape.gpus_per_worker:
            resources["GPU"] = shape.gpus_per_worker
        settings = {
            "broker": self.broker,
            "slot": slot,
            "threads": max(1, int(shape.cpus_per_worker)),
            "is_single": shape.is_single,
            "env": self.env,
        }
        return TorchTrainer(
            serve,
            train_loop_config=settings,
            torch_config=TorchConfig(backend="nccl" if shape.gpus_per_worker else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=shape.workers, resources_per_worker=resources, use_gpu=bool(shape.gpus_per_worker)
            ),
            run_config=ray.train.RunConfig(
                name=f"{slot}-{uuid.uuid4().hex[:8]}",
                storage_path=str(self.storage),
                failure_config=ray.train.FailureConfig(max_failures=1),  # then _keep_up, which counts
            ),
        )
