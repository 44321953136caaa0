"""Runs trials in a process of its own, alone or as one of several ranks: python worker.py JOBS.json RANK WORLD.

Each job names a config and a folder (one, or one a rank), and perhaps what is to go wrong: 'fail_rank' cannot build its
model, 'nan_rank' has a loss of nan, 'wanted_back' is a rank and the step after which it is wanted back, 'kill' ends the
process ('kill_rank' alone) with SIGKILL. 'is_noiseless' takes dropout and sampled noise out of the model, so that ranks
can be compared. What came out is written to ``out-RANK.json`` beside the jobs.
"""

import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed

from trainables import loop, step, testing
from trainables.checkpoint import LAST
from trainables.config import TrialConfig
from trainables.data.formats import DATASETS
from trainables.ranks import Ranks, is_lost_peer

RANDN_LIKE = torch.randn_like


def main(jobs_file: str, rank: int, world: int) -> None:
    DATASETS.update(toy="toy_dataset", partly="partly_labelled")
    path = Path(jobs_file)
    if world > 1:
        torch.distributed.init_process_group("gloo", f"file://{path}.rendezvous", rank=rank, world_size=world)
    out = [_run(job, Ranks(rank=rank, world=world)) for job in json.loads(path.read_text())]
    (path.parent / f"out-{rank}.json").write_text(json.dumps(out))
    if world > 1:
        torch.distributed.destroy_process_group()


def _run(job: dict[str, Any], ranks: Ranks) -> dict[str, Any]:
    folder = job["folder"]
    folder = Path(folder[ranks.rank] if isinstance(folder, list) else folder)
    build_model, forward = loop.build_model, step.forward
    if job.get("fail_rank") == ranks.rank:
        loop.build_model = _fail
    if job.get("nan_rank") == ranks.rank:
        step.forward = lambda *given: _poisoned(*forward(*given))
    if "kill" in job and job.get("kill_rank", ranks.rank) == ranks.rank:
        _arrange_kill(job["kill"])
    if job.get("is_noiseless"):
        loop.build_model = lambda *given: noiseless(build_model(*given))
    try:
        config = TrialConfig(**job["config"])
        rank, left = job.get("wanted_back", (None, 0))
        steps = iter(range(left - 1, -1, -1))
        wanted = (lambda: next(steps, None) == 0) if rank == ranks.rank else (lambda: False)
        outcome = loop.train(config, folder=folder, ranks=ranks, is_wanted_back=wanted)
        tested = testing.test_best(config, folder=folder, ranks=ranks) if job.get("test") else {}
        return {"rows": outcome.reports, "reason": outcome.reason, "facts": outcome.facts, **tested}
    except Exception as error:
        return {"error": type(error).__name__, "text": str(error), "is_lost_peer": is_lost_peer(error)}
    finally:
        loop.build_model, step.forward = build_model, forward
        torch.randn_like = RANDN_LIKE


def noiseless(model: Any) -> Any:
    """The model without dropout; what it samples is the mean."""
    torch.randn_like = torch.zeros_like
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "attention_dropout", "attention_probs_dropout_prob", "dropout_prob"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model


def _fail(*args: Any) -> Any:
    raise ValueError("nothing works here")


def _poisoned(terms: dict[str, Any], logits: Any) -> tuple[dict[str, Any], Any]:
    return {name: value * math.nan for name, value in terms.items()}, logits


def _arrange_kill(when: str) -> None:
    """'step': in the third optimiser step of epoch 2. 'save': in epoch 2, between the best and the last checkpoint."""
    calls = {"step": 0}
    take_step, save = step.take_step, loop.save_checkpoint

    def counted_step(state: Any) -> Any:
        calls["step"] += state.progress.epoch == 1
        if when == "step" and calls["step"] == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return take_step(state)

    def counted_save(path: Path, tensors: Any, state: Any) -> None:
        is_last = path.name == LAST
        if when == "save" and is_last and state["progress"]["epoch"] == 2:
            path.with_name(f".{path.name}.{os.getpid()}.tmp").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        save(path, tensors, state)

    step.take_step, loop.save_checkpoint = counted_step, counted_save


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
