"""One configuration on a cluster: a pool of one slot, whose job is followed from here instead of by Ray Tune."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mmtune import records
from mmtune.slots.cluster import Node, cluster_nodes, handed_on, ray_session, workers_that_fit
from mmtune.slots.head import end_process, watching_head
from mmtune.slots.messages import End, Event, Row, TrialJob
from trainables.config import TrialConfig

if TYPE_CHECKING:
    from mmtune.slots.pool import SlotPool, SlotShape

_NAME = "single"  # of the job
_SCRATCH = ".ray"  # of Ray Train, in the folder while it trains


def train_in_slot(
    config: TrialConfig,
    *,
    folder: Path,
    address: str,
    known: int,
    add: Callable[[Row], bool],
    say: Callable[[str], None],
    is_wanted_back: Callable[[], bool] = lambda: False,
) -> str:
    """Trains and tests ``config`` in ``folder`` with the workers of a cluster, as a trial of a study is.

    Args:
        config: its ``workers`` are placed with ``threads`` CPUs each, and a GPU each unless ``device`` is cpu or, with
            auto, the cluster has none.
        folder: all nodes see it.
        address: of the cluster.
        known: the last epoch that ``add`` had.
        add: receives each epoch's row.
        say: receives a line on what happens to workers.
        is_wanted_back: asked all the while; True ends it, with a checkpoint where ``checkpoint_every_seconds`` is set.

    Returns:
        Why training ended.

    Raises:
        ValueError: no such cluster, no room for the workers, or what the workers say.
        KeyboardInterrupt: it is wanted back.
    """

    def lost(what: str) -> None:
        end_process(what, f"not finished; the same command goes on in {folder}")

    with ray_session(address), watching_head(lost, is_local=False):
        from mmtune.slots.pool import SlotPool

        shape = _shape(config, cluster_nodes())
        scratch = folder / _SCRATCH
        pool = SlotPool(
            count=1, shape=shape, storage=scratch, filling=scratch / "filling", say=say, env=handed_on(),
            is_interruptible=config.checkpoint_every_seconds is not None,
        )  # fmt: skip
        try:
            job = TrialJob(trial=_NAME, config=config.to_dict(), folder=str(folder), known_epoch=known, is_tested=True)
            end = _follow(pool, job, add, is_wanted_back)
        finally:
            pool.close(timeout=20.0 if config.checkpoint_every_seconds is not None else 5.0)
            shutil.rmtree(scratch, ignore_errors=True)
    if end["state"] != records.COMPLETE:
        raise ValueError(f"training failed: {end.get('error', 'unknown error')}")
    assert "reason" in end  # a COMPLETE one has it
    return end["reason"]


def _shape(config: TrialConfig, nodes: list[Node]) -> SlotShape:
    """The slot that the config asks for.

    Raises:
        ValueError: the cluster cannot place it.
    """
    from mmtune.slots.pool import SlotShape

    has_gpus = any(node.gpus >= 1 for node in nodes)
    gpus = 1.0 if config.device == "gpu" or (config.device == "auto" and has_gpus) else 0.0
    smallest = min((node.cpus for node in nodes if node.cpus), default=1.0)
    threads = config.threads or max(1, int(smallest) // config.workers)
    if workers_that_fit(nodes, cpus=threads, gpus=gpus) < config.workers:
        each = f"{threads} CPU{' and 1 GPU' if gpus else ''}"
        has = ", ".join(f"{node.cpus:g} CPU and {node.gpus:g} GPU" for node in nodes) or "nothing"
        num = f"{config.workers} worker{'s' * (config.workers > 1)}"
        raise ValueError(f"workers: {num} with {each} each cannot be placed; the cluster has {has}")
    return SlotShape(workers=config.workers, cpus_per_worker=threads, threads=threads, gpus_per_worker=gpus)


def _follow(pool: SlotPool, job: TrialJob, add: Callable[[Row], bool], is_wanted_back: Callable[[], bool]) -> End:
    """How the job ended, each of its reports handed to ``add``.

    Raises:
        ValueError: no slot can be started.
        KeyboardInterrupt: it is wanted back.
    """
    import ray
    from ray.exceptions import RayError

    broker = pool.broker
    try:
        ray.get(broker.submit.remote(_NAME, job))
        while pool.error is None:
            coming = broker.next_event.remote(_NAME)
            while not ray.wait([coming], timeout=0.5)[0]:
                if is_wanted_back():
                    raise KeyboardInterrupt
            kind, payload = cast(Event, ray.get(coming))
            if kind == "wait":
                continue
            if kind == "report":
                add(cast(Row, payload))
            ray.get(broker.answer.remote(_NAME, stop=False))
            if kind == "end":
                return cast(End, payload)
    except RayError as error:
        raise ValueError(f"the cluster was lost: {str(error).strip().splitlines()[0]}") from None
    raise ValueError(str(pool.error))
