"""Where a trial goes on: at the end of its last epoch (``last.safetensors``), or inside of the next one.

``middle.safetensors`` is written in the middle of an epoch where ``checkpoint_every_seconds`` asks for it: all that
``last.safetensors`` has, and of each rank its generators' state and what the epoch's row is made of so far. The order
of rows is a function of (seed, epoch), so the steps that were taken need no more than their number. The next
``last.safetensors`` makes it useless.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainables.checkpoint import (
    BEST,
    check_belongs,
    load_checkpoint,
    load_if_whole,
    load_model,
    load_training,
    save_checkpoint,
    training_tensors,
)
from trainables.errors import PreemptedError
from trainables.files import unfinished
from trainables.modelfolder import MIDDLE as MIDDLE
from trainables.progress import Progress
from trainables.room import halve
from trainables.state import State
from trainables.tally import Tally

_TIME, _WANTED = 1, 2  # why a checkpoint is due; the larger one counts


@dataclass
class Epoch:
    """How far an epoch of training is, on one rank.

    Attributes:
        tally: of its steps so far.
        num_bad: steps along a gradient that is not finite.
        num_steps: that were taken.
        num_rows: that they trained, over all ranks.
        seconds: that they took in processes before this one.
    """

    tally: Tally
    num_bad: Tensor
    num_steps: int = 0
    num_rows: int = 0
    seconds: float = 0.0


class Saver:
    """Writes ``middle.safetensors`` between two steps of an epoch, when it is due: all ranks ask at the same steps."""

    def __init__(self, state: State) -> None:
        self._state, self._began, self._saved = state, time.monotonic(), time.monotonic()

    def after_step(self, epoch: Epoch) -> None:
        """Looks whether a checkpoint is due.

        Raises:
            PreemptedError: one was, as the process of a rank is wanted back; on all ranks at once.
        """
        state = self._state
        if state.every_seconds is None:
            return
        is_time = state.ranks.rank == 0 and time.monotonic() - self._saved >= state.every_seconds
        why = state.ranks.most(_WANTED if state.is_wanted_back() else _TIME if is_time else 0)
        if why == 0:
            return
        with state.clock.part("checkpoint_seconds"):
            _save(state, epoch, seconds=epoch.seconds + time.monotonic() - self._began)
        self._saved = time.monotonic()
        if why == _WANTED:
            raise PreemptedError(f"interrupted in epoch {state.progress.epoch + 1} after {epoch.num_steps} steps")


def training_state(state: State) -> dict[str, Any]:
    """All but tensors that going on with training takes, JSON-able."""
    scaler = state.precision.scaler
    return {
        "config": state.config.to_dict(),
        "data": state.data.fingerprint,
        "progress": vars(state.progress),
        "uda": state.uda.state_dict(),
        "halvings": state.halvings,
        "scaler": None if scaler is None else scaler.state_dict(),
    }


def restore(state: State, checkpoint: str) -> None:
    """Puts back what a checkpoint in the trial's folder holds, if there is one; see :func:`trainables.loop.setup`."""
    path = state.folder / checkpoint
    if checkpoint == BEST:
        tensors, saved = load_checkpoint(path)
        _check(state, checkpoint, saved)
        load_model(state.model, tensors)
        state.progress.epoch = saved["epoch"]
        return
    if state.ranks.rank == 0:
        for stale in unfinished(state.folder):
            stale.unlink(missing_ok=True)
    found, middle = load_if_whole(path), load_if_whole(state.folder / MIDDLE)
    if middle is not None and _goes_beyond(middle[1], found[1] if found else None, state):
        found, checkpoint = middle, MIDDLE
    if found is None:
        return
    tensors, saved = found
    _check(state, checkpoint, saved)
    own = [name for name in tensors if name.startswith("rank")]
    inside = {name: tensors.pop(name) for name in own}
    load_training(state.model, state.optimizer, tensors)
    state.progress = Progress(**saved["progress"])
    halve(state, saved.get("halvings", 0))
    state.uda.load_state_dict(saved["uda"])
    if state.precision.scaler is not None and saved["scaler"]:
        state.precision.scaler.load_state_dict(saved["scaler"])
    if checkpoint == MIDDLE:
        prefix = f"rank{state.ranks.rank}/"
        mine = {name.removeprefix(prefix): value for name, value in inside.items() if name.startswith(prefix)}
        state.inside = mine, saved["middle"]


def begin(state: State) -> Epoch:
    """The epoch that is about to train: at its first step, or where the checkpoint that was restored had come to."""
    device, keeps_logits = state.ranks.device, state.config.train_eval_rows is None
    if state.inside is None:
        return Epoch(Tally(keeps_logits), torch.zeros((), device=device))
    (tensors, facts), state.inside = state.inside, None
    tally = Tally(keeps_logits, num_kept=facts["num_kept"])
    tally.sums = {name: tensors[f"sums/{name}"].to(device) for name in facts["terms"]}
    if "logits" in tensors:
        tally.logits, tally.rows = [tensors["logits"].to(device)], [tensors["rows"].numpy()]
    torch.set_rng_state(tensors["generator"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["device_generator"], device)
    num_bad = tensors["num_bad"].to(device)
    return Epoch(tally, num_bad, facts["num_steps"], facts["num_rows"], facts["seconds"])


def _save(state: State, epoch: Epoch, *, seconds: float) -> None:
    ranks, tally = state.ranks, epoch.tally
    mine = {"generator": torch.get_rng_state(), "num_bad": epoch.num_bad.cpu()}
    mine |= {f"sums/{name}": value.cpu() for name, value in tally.sums.items()}
    if tally.logits:
        mine["logits"] = torch.cat(tally.logits).cpu()
        mine["rows"] = torch.cat([torch.from_numpy(rows) for rows in tally.rows])
    if ranks.device.type == "cuda":
        mine["device_generator"] = torch.cuda.get_rng_state(ranks.device)
    of_all = ranks.gather(mine)
    if ranks.rank != 0:
        return
    state.check_folder()
    tensors = training_tensors(state.model, state.optimizer)
    tensors |= {f"rank{rank}/{name}": value for rank, part in enumerate(of_all) for name, value in part.items()}
    facts = {"num_steps": epoch.num_steps, "num_rows": epoch.num_rows, "seconds": seconds}
    facts |= {"terms": list(tally.sums), "num_kept": tally.num_kept, "device": ranks.device.type}
    save_checkpoint(state.folder / MIDDLE, tensors, {**training_state(state), "middle": facts})


def _goes_beyond(middle: dict[str, Any], last: dict[str, Any] | None, state: State) -> bool:
    """Whether the middle of an epoch is further than the last whole one, and of this kind of device."""
    epoch = 0 if last is None else last["progress"]["epoch"]
    return middle["progress"]["epoch"] >= epoch and middle["middle"]["device"] == state.ranks.device.type


def _check(state: State, checkpoint: str, saved: dict[str, Any]) -> None:
    config, data = state.config.to_dict(), state.data.fingerprint
    check_belongs(state.folder / checkpoint, saved, config=config, fingerprint=data)
