"""Warm worker groups: one long-lived Ray Train run a slot, which serves trial after trial.

A Tune trial that builds its own TorchTrainer pays for N processes, their imports and a process group, and
leaks its placement group when ASHA kills it. Here the study's driver owns a pool of slots instead.

What happens when something dies:
- a worker: Ray Train restarts its group; the slot is handed the same job again, which goes on from its last
  checkpoint; after ``max_retries`` of that the trial fails.
- a worker is frozen: a line says so; after ``resources.frozen_seconds`` it is killed, and goes on as above.
- a worker is told to end (SIGTERM): with ``resources.checkpoint_every_seconds`` it writes a checkpoint first, and the
  trial goes on from it, which is no retry.
- a trial actor: Tune starts it anew and it attaches to the job that is still under way.
- the broker: the session ends and a new one begins, with a new pool.
- the cluster's head (its GCS), or a local raylet: the session says so and ends (:mod:`mmtune.slots.head`).
- the driver: the cluster takes everything down with it; ``mmtune resume`` goes on from the study folder.
"""

from __future__ import annotations

import contextlib
import pickle
import re
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import ray
import ray.train
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mmtune.slots.broker import Broker
from mmtune.slots.heartbeat import Place, kill_worker
from mmtune.slots.messages import CacheJob, Spent
from mmtune.slots.wantedback import torch_config
from mmtune.slots.worker import serve

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem
    from ray.train.torch import TorchTrainer

    from trainables.data.requirements import Requirement

_MAX_BROKEN_STARTS = 3  # starts of one slot in a row that served nothing


@dataclass(frozen=True)
class SlotShape:
    """Resources of one slot."""

    workers: int = 1
    cpus_per_worker: float = 1.0
    threads: int = 1  # of each worker
    gpus_per_worker: float = 0.0
    is_single: bool = False  # fresh workers for every job (resources.isolation: process)


class SlotPool:
    """The study's slots: a thread each, in which one Ray Train run stays up.

    Args:
        count: slots, i.e. trials that train at the same time.
        shape: resources of each.
        storage: folder for Ray Train's own small files; with ``file_system`` one of that.
        filling: folder for what workers say of the caches that they fill.
        say: receives a line on what happens to workers.
        frozen_seconds: without an answer after which a worker is killed; 0 never.
        max_retries: how often a trial whose workers die is tried again.
        env: environment variables for the workers.
        is_interruptible: whether workers that are wanted back write a checkpoint first.
    """

    def __init__(
        self,
        *,
        count: int,
        shape: SlotShape,
        storage: Path | str,
        filling: Path,
        say: Callable[[str], None],
        frozen_seconds: float = 0.0,
        max_retries: int = 2,
        env: dict[str, str] | None = None,
        is_interruptible: bool = False,
        file_system: FileSystem | None = None,
    ) -> None:
        self._is_interruptible, self._file_system = is_interruptible, file_system
        self.shape, self.storage, self.filling, self.env = shape, storage, filling, env or {}
        self._say = say
        self.name = f"mmtune-broker-{uuid.uuid4().hex[:12]}"
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)  # it leaves with us
        actor = ray.remote(Broker).options(name=self.name, num_cpus=0, max_concurrency=10_000, scheduling_strategy=here)
        slots = [f"slot-{index}" for index in range(count)]
        self.broker = actor.remote(
            max_retries=max_retries, slots=slots, workers=shape.workers, share=shape.gpus_per_worker or 1.0,
            frozen_seconds=frozen_seconds,
        )  # fmt: skip
        self.error: str | None = None  # why no slot can be started, once that is clear
        self.lost: str | None = None  # why this pool is dead; a new one may live
        self._closing = threading.Event()
        self._broken: set[str] = set()
        self._threads: list[threading.Thread] = []
        self._start(slots)
        threading.Thread(target=self._watch, name="broker-watch", daemon=True).start()

    @property
    def size(self) -> int:
        """Slots that serve, or wait for their workers to be placed; those that were given up are left out."""
        return len(self._threads) - len(self._broken)

    def grow(self, count: int) -> None:
        """Starts so many slots more, on nodes that have joined."""
        slots = [f"slot-{len(self._threads) + index}" for index in range(count)]
        self.broker.add_slots.remote(slots)
        self._start(slots)

    def _start(self, slots: Sequence[str]) -> None:
        for slot in slots:
            thread = threading.Thread(target=self._keep_up, args=(slot,), name=slot, daemon=True)
            self._threads.append(thread)
            thread.start()

    def forget(self, trial: str) -> None:
        """Lets go of a trial that Tune has given up: its workers stop at their next report."""
        self.broker.answer.remote(trial, stop=True)

    def prepare(self, requirements: Sequence[Requirement], along: Sequence[Requirement]) -> None:
        """Has the slots fill the cache ahead of every trial, side by side.

        Each requirement is a job as often as there are slots: a slot that comes to one again shares its shards.

        Args:
            requirements: what the first trials need.
            along: what later ones will: of it that is kept which the same forwards of an encoder give.
        """
        jobs = [CacheJob(requirement=pickle.dumps(need), along=pickle.dumps(along)) for need in requirements]
        copies = range(len(self._threads))
        self.broker.submit_all.remote({f"prepare-{at}-{copy}": job for copy in copies for at, job in enumerate(jobs)})

    def call_back(self) -> None:
        """The session ends: trials stop at their next report, or inside of an epoch where they write checkpoints."""
        self._closing.set()
        self.broker.close.remote()

    def spent(self, *, is_last: bool = False) -> Spent | None:
        """Where the slots' time went since this was asked last; None if the broker is gone."""
        with contextlib.suppress(RayError):
            return ray.get(self.broker.spent.remote(is_last=is_last), timeout=5)  # pyright: ignore[reportReturnType]
        return None

    def close(self, timeout: float = 20.0) -> Spent | None:
        """Lets the workers return, so that their placement groups are freed; waits at most ``timeout`` seconds.

        Returns:
            As :meth:`spent`, for the last time.
        """
        self._closing.set()
        with contextlib.suppress(RayError):
            ray.get(self.broker.close.remote(), timeout=5)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))
        spent = self.spent(is_last=True)
        with contextlib.suppress(RayError):
            self._hear(timeout=5)
        with contextlib.suppress(RayError):
            ray.kill(self.broker)  # pyright: ignore[reportArgumentType]
        return spent

    def _hear(self, gone: Sequence[str] = (), timeout: float | None = None) -> None:
        """Tells what happened, of nodes that are ``gone`` too."""
        lines: list[str] = ray.get(self.broker.said.remote(gone), timeout=timeout)  # pyright: ignore[reportAssignmentType]
        for line in lines:
            self._say(line)

    def _replace_frozen(self) -> None:
        """Kills frozen workers where they run; Ray Train starts their group again."""
        places: list[Place] = ray.get(self.broker.to_replace.remote())  # pyright: ignore[reportAssignmentType]
        for place in places:
            node = NodeAffinitySchedulingStrategy(place.node, soft=False)
            killed = ray.remote(kill_worker).options(num_cpus=0, scheduling_strategy=node).remote(place.pid)
            with contextlib.suppress(RayError):  # its node is gone
                if ray.get(killed, timeout=30):
                    self._say(f"killed a frozen worker ({place})")

    def _watch(self) -> None:
        """Notices that the broker is gone (killed for memory, say): without it nothing moves."""
        while not self._closing.wait(2.0):
            try:
                self._hear([node["NodeID"] for node in ray.nodes() if not node["Alive"]])
                self._replace_frozen()
            except RayError as error:
                if not self._closing.is_set():
                    self.lost = f"the broker between trials and workers died: {str(error).strip().splitlines()[0]}"
                return

    def _keep_up(self, slot: str) -> None:
        """Runs the slot's worker group, and starts it again when it ends before its time."""
        broken_starts = served = 0
        while not self._closing.is_set():
            why = "its worker group ended"
            try:
                self._trainer(slot).fit()
            except Exception as error:  # whatever Ray Train raises: the slot must come up again or say why not
                why = _why(error)
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

    def _trainer(self, slot: str) -> TorchTrainer:
        from ray.train.torch import TorchConfig

        from mmtune.slots.trainer import SlotTrainer

        shape = self.shape
        resources: dict[str, float] = {"CPU": shape.cpus_per_worker}
        if shape.gpus_per_worker:
            resources["GPU"] = shape.gpus_per_worker
        settings = {
            "broker": self.broker,
            "slot": slot,
            "filling": str(self.filling),
            "threads": shape.threads,
            "is_single": shape.is_single,
            "env": self.env,
            "is_interruptible": self._is_interruptible,
        }
        backend = "nccl" if shape.gpus_per_worker else "gloo"
        return SlotTrainer(
            serve,
            train_loop_config=settings,
            torch_config=torch_config(backend) if self._is_interruptible else TorchConfig(backend=backend),
            scaling_config=ray.train.ScalingConfig(
                num_workers=shape.workers, resources_per_worker=resources, use_gpu=bool(shape.gpus_per_worker)
            ),
            run_config=ray.train.RunConfig(
                name=f"{slot}-{uuid.uuid4().hex[:8]}",
                storage_path=str(self.storage),
                storage_filesystem=self._file_system,
                failure_config=ray.train.FailureConfig(max_failures=1),  # then _keep_up, which counts
            ),
        )


def _why(error: Exception) -> str:
    """What ended a worker group, in a line: of a dead process Ray says in a hundred words what it may have been."""
    line = (str(error).strip() or type(error).__name__).splitlines()[-1]
    return "its worker died" if re.search("The actor (is dead|died)", line) else line
