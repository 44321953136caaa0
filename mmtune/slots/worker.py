"""What the workers of a slot do: take a job, train the trial, report every epoch, take the next."""

from __future__ import annotations

import os
import pickle
import traceback
import warnings
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmtune import records
from mmtune.filling import file_meter
from mmtune.slots.heartbeat import start_beating
from mmtune.slots.messages import CacheJob, End, Order, Row, TrialJob
from mmtune.slots.wantedback import is_told, is_wanted_back, listen, training
from mmtune.storage.trialfiles import TrialFiles

if TYPE_CHECKING:
    import torch
    from ray.actor import ActorHandle

    from trainables.ranks import Ranks


def serve(settings: dict[str, Any]) -> None:
    """What every Ray Train worker of a slot runs: take a job, run it, take the next.

    Args:
        settings: 'broker' (actor handle), 'slot', 'filling' (folder), 'threads', 'is_single' (return after one job),
            'env', 'is_interruptible' (a worker that is wanted back writes a checkpoint first).
    """
    import ray
    import ray.train
    import ray.train.torch
    import torch
    import torch.distributed

    from trainables.data.cache.progress import listening
    from trainables.errors import PreemptedError
    from trainables.memory import release
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
    start_beating(broker, slot, ranks.rank)
    if settings["is_interruptible"]:
        listen(broker)
    said = Path(settings["filling"]) / f"{slot}-{ranks.rank}.json"
    meter = file_meter(said)
    while True:
        given = ray.get(broker.next_job.remote(slot)) if ranks.rank == 0 else None
        order: Order | Literal["idle", "close"] = ranks.broadcast(given)
        if order == "close":
            return
        if order == "idle":
            continue
        try:
            with listening(meter), training():
                end = _obey(order, ranks, broker)
        except PreemptedError:
            if ranks.rank == 0:
                ray.get(broker.hand_back.remote(slot, order.trial))
            if ranks.most(is_told()):
                return  # all of the group: the job goes on in another
            release(ranks.device)
            continue
        said.unlink(missing_ok=True)  # of a cache that could not be filled to its end
        release(ranks.device, is_thorough=end["state"] != records.COMPLETE)
        if ranks.rank == 0:
            ray.get(broker.finish.remote(slot, order.trial, order.attempt, end))
        if settings["is_single"]:
            return


def _obey(order: Order, ranks: Ranks, broker: ActorHandle) -> End:
    import ray

    from trainables.data.cache.books import Filling, booking
    from trainables.devices import device_name

    def hear(filling: Filling) -> None:
        if ranks.rank == 0:  # the others wait for it, or it for them
            name = device_name(ranks.device)
            ray.get(broker.filled.remote(order.slot, filling.what, filling.rows, filling.seconds, name))

    def pass_on(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if category is UserWarning and "trainables" in Path(where[0]).parts:  # ours
            ray.get(broker.tell.remote(order.trial, str(message)))

    job = order.job
    with booking(hear), warnings.catch_warnings():
        if ranks.rank == 0:
            warnings.showwarning = pass_on
        return _fill_cache(job, ranks) if "requirement" in job else _train(order, job, ranks, broker)


def _fill_cache(job: CacheJob, ranks: Ranks) -> End:
    """Rank 0's work; the others wait for its next job."""
    try:
        if ranks.rank == 0:
            pickle.loads(job["requirement"]).build(pickle.loads(job["along"]))
    except Exception as error:  # the trials that need it will say so themselves
        return {"state": records.FAILED, "error": str(error)}
    return {"state": records.COMPLETE}


def _train(order: Order, job: TrialJob, ranks: Ranks, broker: ActorHandle) -> End:
    """How the trial ended.

    Raises:
        PreemptedError: it stands in a checkpoint.
        Exception: what leaves the process group unusable, so that it is restarted.
    """
    import ray
    import torch

    from trainables.config import TrialConfig
    from trainables.errors import AgreedError, OutOfMemoryError, PreemptedError, fault_text, is_fault
    from trainables.loop import train
    from trainables.ranks import is_lost_peer
    from trainables.testing import test_once

    files = TrialFiles(job["remote"], Path(job["folder"])) if "remote" in job else None

    def report(row: Row) -> bool:
        if files is not None:  # a report that counts has its checkpoint
            files.upload()
        return bool(ray.get(broker.report.remote(order.trial, order.attempt, row)))

    try:
        config = TrialConfig(**job["config"])
        folder, known = Path(job["folder"]), order.known_epoch
        if files is not None:
            ranks.raise_together(_fetched(files))
        outcome = train(
            config, folder=folder, ranks=ranks, report=report, known_epoch=known, is_wanted_back=is_wanted_back
        )
        facts = outcome.facts
        if job["is_tested"] and outcome.reason != "stopped":
            facts = facts | test_once(config, folder=folder, ranks=ranks)
        if files is not None and ranks.rank == 0:
            files.upload()
        return {"state": records.COMPLETE, "reason": outcome.reason, "facts": facts}
    except PreemptedError:
        if files is not None and ranks.rank == 0:
            files.upload()
        raise
    except OutOfMemoryError as error:
        return {"state": records.INFEASIBLE, "error": str(error)}
    except Exception as error:
        if ranks.world > 1 and is_lost_peer(error):
            raise  # the trial goes on in the next group
        text = f"{type(error).__name__}: {error}"
        state = records.INFEASIBLE if isinstance(error, torch.cuda.OutOfMemoryError) else records.FAILED
        end: End = {"state": state, "error": text, "traceback": traceback.format_exc()}
        if is_fault(error) or not _can_read_data(job):
            end["error"], end["is_fault"] = fault_text(error), True
        is_agreed = isinstance(error, AgreedError) or ranks.world == 1
        if is_agreed and _device_is_well(ranks.device):
            return end
        ray.get(broker.finish.remote(order.slot, order.trial, order.attempt, end))
        raise


def _fetched(files: TrialFiles) -> OSError | None:
    """What kept a trial's files from being fetched."""
    try:
        files.fetch()
    except OSError as error:
        return error
    return None


def _can_read_data(job: TrialJob) -> bool:
    """False once the dataset, which could be read when the study began, cannot: that is no trial's fault."""
    from trainables.config import TrialConfig
    from trainables.data.reading.dataset import DatasetRef, load_table

    try:
        load_table(DatasetRef.of(TrialConfig(**job["config"])))  # kept for the process, once it was read
    except (OSError, ValueError):
        return False
    return True


def _device_is_well(device: torch.device) -> bool:
    """False once a CUDA error sticks to this process."""
    import torch

    if device.type != "cuda":
        return True
    try:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
    except RuntimeError:
        return False
    return True
