"""One configuration without a search: the same loop, then the test split once.

It gives the digits that the trial of a study gave: its config says device, threads and workers, too.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mmtune import records
from trainables.config import TrialConfig
from trainables.files import write_atomic

if TYPE_CHECKING:
    from trainables.ranks import Ranks


def train_single(config: TrialConfig, *, folder: Path, say: Callable[[str], None] = print) -> dict[str, float]:
    """Trains ``config`` in ``folder``, or goes on where it was interrupted there.

    Writes config.yaml, reports.csv, the last and best checkpoint, predictions.parquet and, at the end, test.json;
    when that exists the test split is not looked at again. Nothing is written before the first epoch is over, so
    that a config which cannot be trained does not keep the folder from the next.

    Args:
        config: without an objective it follows the task; with several workers each is a process of its own.
        folder: made if need be.
        say: receives a line an epoch; of several workers the first prints instead.

    Returns:
        Metrics on the test split.

    Raises:
        ValueError: bad data, training that diverged, or a folder of another configuration.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is no folder; choose another --out")
    config = of_its_task(config)
    written = folder / "config.yaml"
    if written.exists() and written.read_text(encoding="utf-8") != _text(config):
        raise ValueError(f"{folder}: holds another configuration; choose another --out")
    done = folder / "test.json"
    if done.exists():
        say(f"{folder}: trained and tested before")
        return records.read_json(done)
    if config.workers == 1:
        from trainables.ranks import Ranks, best_device

        _run(config, folder, Ranks(device=best_device(config.device)), say)
    else:
        _run_together(config, folder)
    return records.read_json(done)


def of_its_task(config: TrialConfig) -> TrialConfig:
    """The config with what its task is tuned by as the objective, unless it names its own.

    Raises:
        ValueError: data that cannot be read.
    """
    if "objective" in config.model_fields_set:
        return config
    from trainables.data.reading.dataset import DatasetRef, load_target
    from trainables.metrics import objective_names

    task = load_target(DatasetRef.of(config), config.target).task
    return TrialConfig(**{**config.to_dict(), "objective": objective_names(task)[0]})


def _text(config: TrialConfig) -> str:
    return yaml.safe_dump(config.to_dict(), sort_keys=False)


def _run(config: TrialConfig, folder: Path, ranks: Ranks, say: Callable[[str], None]) -> None:
    """Trains and tests on this rank; the first writes."""
    import torch

    from trainables.errors import AgreedError
    from trainables.loop import train
    from trainables.testing import test_once

    if config.threads is None:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks.world))
    written = folder / "config.yaml"
    rows = records.CsvAppender(folder / "reports.csv")
    known = max((row["epoch"] for row in records.read_rows(rows.path)), default=0)

    def report(row: dict[str, Any]) -> bool:
        if not written.exists():
            write_atomic(written, _text(config))
        rows.append(row)
        value = row[config.objective]
        say(f"epoch {row['epoch']}/{config.epochs} {config.objective} {value:.4f} loss {row['train_loss']:.4f}")
        return False

    try:
        outcome = train(config, folder=folder, ranks=ranks, report=report, known_epoch=known)
    except AgreedError as error:
        raise ValueError(f"training failed: {error}") from None
    if ranks.rank == 0:
        say(f"ended ({outcome.reason}); best epoch {outcome.best_epoch}")
    test_once(config, folder=folder, ranks=ranks)


def _run_together(config: TrialConfig, folder: Path) -> None:
    """A process a worker, as a slot of a study has them."""
    from torch.multiprocessing.spawn import ProcessException, spawn

    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # what ended is said below
    with tempfile.TemporaryDirectory(prefix="mmtune-") as shared:
        args = (config, folder, shared)
        try:
            spawn(_worker, args=args, nprocs=config.workers)
        except ProcessException as error:
            said = Path(shared) / "error"
            raise ValueError(said.read_text() if said.exists() else f"training failed: {error}") from None


def _worker(rank: int, config: TrialConfig, folder: Path, shared: str) -> None:
    """What each of the processes runs."""
    import torch.distributed

    from trainables.ranks import Ranks, best_device

    try:
        device = best_device(config.device, rank)
        torch.distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=f"file://{shared}/rendezvous", rank=rank, world_size=config.workers,
        )  # fmt: skip
        group = torch.distributed.new_group(backend="gloo")
        _run(config, folder, Ranks(rank=rank, world=config.workers, device=device, group=group), _say)
        torch.distributed.destroy_process_group()
    except ValueError as error:
        write_atomic(Path(shared) / "error", str(error))
        raise


def _say(text: str) -> None:
    print(text, flush=True)
