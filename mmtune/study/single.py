"""One configuration without a search: the same loop, then the test split once.

It gives the digits that the trial of a study gave: its config says device, threads and workers, too.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mmtune import records
from mmtune.search.trials import TrialRecord
from trainables.config import TrialConfig
from trainables.files import write_atomic
from trainables.metrics import metric_mode

if TYPE_CHECKING:
    from trainables.ranks import Ranks

Tell = Callable[[str, int, int], None]  # what is under way, how much of it is done, how much there is
Watching = Callable[[], AbstractContextManager[Tell]]


def unwatched() -> AbstractContextManager[Tell]:
    """Shows nothing."""
    return nullcontext(lambda what, done, total: None)


def train_single(
    config: TrialConfig,
    *,
    folder: Path,
    address: str | None = None,
    say: Callable[[str], None] = print,
    watching: Watching = unwatched,
) -> dict[str, float]:
    """Trains ``config`` in ``folder``, or goes on where it was interrupted there.

    Writes config.yaml, reports.csv, the last and best checkpoint, predictions.parquet and, at the end, test.json;
    when that exists the test split is not looked at again. Nothing is written before the first epoch is over, so
    that a config which cannot be trained does not keep the folder from the next.

    Args:
        config: without an objective it follows the task; with several workers each is a process of its own.
        folder: made if need be; on a cluster all nodes see it.
        address: of a Ray cluster whose workers train it, to the same digits; None: this machine, without Ray.
        say: receives a line an epoch; of several workers on this machine the first prints instead.
        watching: makes a block that shows how far caches and epochs are; with several workers a function of a module.

    Returns:
        Metrics on the test split.

    Raises:
        ValueError: bad data, training that diverged, a folder of another configuration, no cluster at ``address`` or
            none with room for the workers.
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
    epochs = Epochs(config, folder, say)
    if address is not None:
        from mmtune.slots.single import train_in_slot

        reason = train_in_slot(
            config, folder=folder.resolve(), address=address, known=epochs.known, add=epochs.add, say=say
        )
        epochs.end(reason)
    elif config.workers == 1:
        from trainables.ranks import Ranks, best_device

        _run(config, epochs, Ranks(device=best_device(config.device)), watching)
    else:
        _run_together(config, folder, watching)
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


class Epochs:
    """What a training in a folder has reported, and where that is kept.

    Args:
        config: what is trained.
        folder: gets config.yaml with the first epoch, and reports.csv.
        say: receives a line an epoch.
    """

    def __init__(self, config: TrialConfig, folder: Path, say: Callable[[str], None]) -> None:
        self.config, self.folder, self.say = config, folder, say
        self._rows = records.CsvAppender(folder / "reports.csv")
        self.known = max((row["epoch"] for row in records.read_rows(self._rows.path)), default=0)

    def add(self, row: dict[str, Any]) -> bool:
        """Keeps and says an epoch; False, as nothing stops it."""
        config, written = self.config, self.folder / "config.yaml"
        if not written.exists():
            write_atomic(written, _text(config))
        self._rows.append(row)
        value = row[config.objective]
        self.say(f"epoch {row['epoch']}/{config.epochs} {config.objective} {value:.4f} loss {row['train_loss']:.4f}")
        return False

    def end(self, reason: str) -> None:
        """Says why training ended, and with which epoch."""
        rows = records.read_rows(self._rows.path)
        best = TrialRecord("", rows=rows).best(self.config.objective, metric_mode(self.config.objective))
        self.say(f"ended ({reason}); best epoch {None if best is None else best['epoch']}")


def _text(config: TrialConfig) -> str:
    return yaml.safe_dump(config.to_dict(), sort_keys=False)


def _run(config: TrialConfig, epochs: Epochs, ranks: Ranks, watching: Watching) -> None:
    """Trains and tests on this rank; the first writes."""
    import torch

    from trainables.errors import AgreedError
    from trainables.loop import train
    from trainables.testing import test_once

    if config.threads is None:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks.world))
    folder = epochs.folder
    try:
        with _watched(watching if ranks.rank == 0 else unwatched) as tell:
            outcome = train(config, folder=folder, ranks=ranks, report=epochs.add, known_epoch=epochs.known, tell=tell)
    except AgreedError as error:
        raise ValueError(f"training failed: {error}") from None
    if ranks.rank == 0:
        epochs.end(outcome.reason)
    test_once(config, folder=folder, ranks=ranks)


@contextmanager
def _watched(watching: Watching) -> Iterator[Tell]:
    """The block that ``watching`` makes hears of caches, too."""
    from trainables.data.cache.progress import listening

    with watching() as tell, listening(tell):
        yield tell


def _run_together(config: TrialConfig, folder: Path, watching: Watching) -> None:
    """A process a worker, as a slot of a study has them."""
    from torch.multiprocessing.spawn import ProcessException, spawn

    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # what ended is said below
    with tempfile.TemporaryDirectory(prefix="mmtune-") as shared:
        args = (config, folder, shared, watching)
        try:
            spawn(_worker, args=args, nprocs=config.workers)
        except ProcessException as error:
            said = Path(shared) / "error"
            raise ValueError(said.read_text() if said.exists() else f"training failed: {error}") from None


def _worker(rank: int, config: TrialConfig, folder: Path, shared: str, watching: Watching) -> None:
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
        ranks = Ranks(rank=rank, world=config.workers, device=device, group=group)
        _run(config, Epochs(config, folder, _say), ranks, watching)
        torch.distributed.destroy_process_group()
    except ValueError as error:
        write_atomic(Path(shared) / "error", str(error))
        raise


def _say(text: str) -> None:
    print(text, flush=True)
