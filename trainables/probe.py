"""What a configuration costs, measured by training a little of it: seconds of a trial by what they are for, and memory.

``python -m trainables.probe SECONDS`` reads a config a line from standard input, as JSON, and answers each with a line:
a process that has the libraries loaded, as a slot's worker has them.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch

from trainables.checkpoint import BEST, LAST, model_tensors, save_checkpoint, training_tensors
from trainables.clock import PARTS
from trainables.config import TrialConfig
from trainables.errors import OutOfMemoryError
from trainables.evaluate import outputs
from trainables.loop import fit_epoch, setup
from trainables.measure import inference
from trainables.ranks import Ranks, best_device
from trainables.room import until_it_fits
from trainables.state import State

_WARM_UP = 2  # steps that do not count
_EVAL_BATCHES = 4
_EPOCHS = 5  # beside the first, at most


@dataclass(frozen=True)
class Probe:
    """Of one worker."""

    first_seconds: float
    """As setup_seconds, the first time in the process: libraries are loaded, and encoders timed besides."""
    setup_seconds: float
    """Opening data and building the model, each time that the trial is taken up."""
    once_seconds: float
    """In its first epoch beside that: timing the model."""
    epoch_seconds: float
    """Of an epoch: training, validation and checkpoints."""
    peak_memory_gib: float
    """As ``peak_memory_gib`` of a trial."""


class _EnoughError(Exception):
    pass


def probe(config: TrialConfig, *, seconds: float) -> Probe:
    """Trains a few epochs of a configuration, or as many steps as fit into ``seconds``.

    Raises:
        ValueError: a configuration that cannot train.
        OutOfMemoryError: the device is full, with one row at a time as well.
    """
    with tempfile.TemporaryDirectory(prefix="mmtune-probe-") as folder:
        ranks = Ranks(device=best_device(config.device))

        def begin() -> State:
            return setup(config, folder=Path(folder), ranks=ranks)

        def setup_seconds(state: State, is_known: bool) -> float:  # caches left out
            return state.clock.read()["wall_seconds"]

        def first_seconds(state: State, is_known: bool) -> float:
            setup = setup_seconds(state, is_known)
            whole, without_encoders = (_seconds(lambda: inference(state)) for _ in range(2))
            return setup + max(0.0, whole - without_encoders)  # of small encoders less than a clock's noise

        first = until_it_fits(begin, first_seconds, ranks=ranks)
        return until_it_fits(
            begin, lambda state, is_known: _measured(state, seconds, first, setup_seconds(state, is_known)), ranks=ranks
        )


def _measured(state: State, seconds: float, first_seconds: float, setup_seconds: float) -> Probe:
    steps: list[tuple[float, int, int]] = []  # when, rows done, rows of all
    ends = time.perf_counter() + seconds

    def tell(what: str, done: int, total: int) -> None:
        steps.append((time.perf_counter(), done, total))
        if len(steps) > _WARM_UP and steps[-1][0] > ends:
            raise _EnoughError

    state.tell = tell
    try:
        first = fit_epoch(state)
    except _EnoughError:
        return _from_steps(state, steps, first_seconds, setup_seconds)
    state.tell = lambda what, done, total: None
    epochs = []
    while state.progress.reason is None and len(epochs) < _EPOCHS and (not epochs or time.perf_counter() < ends):
        epochs.append(fit_epoch(state)["wall_seconds"])
    epoch = median(epochs) if epochs else sum(first[name] for name in PARTS)
    once = max(0.0, first["wall_seconds"] - setup_seconds - epoch)
    return Probe(first_seconds, setup_seconds, once, epoch, state.memory.gib)


def _from_steps(state: State, steps: list[tuple[float, int, int]], first_seconds: float, setup_seconds: float) -> Probe:
    """Where an epoch was too long: the parts of it by their shares of rows."""
    (since, before, _), (until, done, total) = steps[_WARM_UP - 1], steps[-1]
    train = (until - since) / (done - before) * total
    rows = state.data.rows["val"]
    some = rows[: _EVAL_BATCHES * state.eval_rows]
    num_evaluated = len(rows) + (state.config.train_eval_rows or 0)
    evaluated = _seconds(lambda: outputs(state, some, what="probed")) / len(some) * num_evaluated
    once = _seconds(lambda: inference(state))
    saved = _seconds(lambda: save_checkpoint(state.folder / BEST, model_tensors(state.model), {}))
    saved += _seconds(lambda: save_checkpoint(state.folder / LAST, training_tensors(state.model, state.optimizer), {}))
    return Probe(first_seconds, setup_seconds, once, train + evaluated + saved, state.memory.gib)


def _seconds(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    """Answers configs with probes, line by line."""
    seconds = float(sys.argv[1])
    for line in sys.stdin:
        try:
            answer = asdict(probe(TrialConfig(**json.loads(line)), seconds=seconds))
        except (ValueError, OutOfMemoryError, OSError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
