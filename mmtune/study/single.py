"""One configuration without a search: the same loop, then the test split once.

It gives the digits that the trial of a study gave: its config says device, threads and workers, too.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mmtune import records
from mmtune.records import StudyFolder
from mmtune.search.trials import TrialRecord
from mmtune.study.lock import study_lock
from mmtune.study.signals import stop_signals
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
    when that exists the test split is not looked at again. Nothing but a lock is written before the first epoch is
    over, and the lock goes, so that a config which cannot be trained does not keep the folder from the next.

    SIGINT and SIGTERM end it at once, or, where ``checkpoint_every_seconds`` is set, with a checkpoint of the steps so
    far.

    Args:
        config: without an objective it follows the task; with several workers each is a process of its own.
        folder: made if need be; on a cluster all nodes see it.
        address: of a Ray cluster whose workers train it, to the same digits; None: this machine, without Ray.
        say: receives a line an epoch; of several workers on this machine the first prints instead.
        watching: makes a block that shows how far caches and epochs are; with several workers a function of a module.

    Returns:
        Metrics on the test split.

    Raises:
        ValueError: bad data, training that diverged, a folder of another configuration or that another process trains
            in, no cluster at ``address`` or none with room for the workers.
        KeyboardInterrupt: a signal came; it says where the same call goes on.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is no folder; choose another --out")
    config = of_its_task(config)
    written, done = folder / "config.yaml", folder / "test.json"
    if written.exists() and written.read_text(encoding="utf-8") != _text(config):
        raise ValueError(f"{folder}: holds another configuration; choose another --out")
    if done.exists():
        say(f"{folder}: trained and tested before")
        return records.read_json(done)
    wish = _Wish()
    try:
        with _held(folder), stop_signals(waits=wish.can_wait) as wish.event:
            _train(config, Epochs(config, folder, say), address, watching, wish)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; the same command goes on in {folder}") from None
    return records.read_json(done)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keeps a second process out of the folder, which goes again if nothing came into it.

    Raises:
        StudyBusyError: there is one already.
    """
    lock, new = StudyFolder(folder).lock, [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with study_lock(StudyFolder(folder)):
        try:
            yield
        finally:
            with suppress(OSError):  # of a disk that is gone, say; or there is more in a folder
                if os.listdir(folder) == [lock.name]:
                    lock.unlink()
                    for path in new:
                        path.rmdir()


class _Wish:
    """Whether a signal has asked for the end, and whether there is a checkpoint to write before."""

    def __init__(self) -> None:
        self.event, self._is_asked = threading.Event(), False

    def __call__(self) -> bool:
        """Asked between two steps."""
        self._is_asked = True
        return self.event.is_set()

    def can_wait(self) -> bool:
        """Whether steps were taken that a checkpoint would keep."""
        return self._is_asked


def _train(config: TrialConfig, epochs: Epochs, address: str | None, watching: Watching, wish: _Wish) -> None:
    """Until the test split is done.

    Raises:
        KeyboardInterrupt: ``wish`` was granted.
    """
    if address is not None:
        from mmtune.slots.single import train_in_slot

        wish()  # workers elsewhere know what there is to write
        reason = train_in_slot(
            config, folder=epochs.folder.resolve(), address=address, known=epochs.known, add=epochs.add, say=epochs.say,
            is_wanted_back=wish,
        )  # fmt: skip
        epochs.end(reason)
    elif config.workers == 1:
        from trainables.ranks import Ranks, best_device

        _run(config, epochs, Ranks(device=best_device(config.device)), watching, wish)
    else:
        _run_together(config, epochs.folder, watching, wish)


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


def _run(config: TrialConfig, epochs: Epochs, ranks: Ranks, watching: Watching, wish: _Wish) -> None:
    """Trains and tests on this rank; the first writes."""
    import torch

    from trainables.errors import AgreedError, PreemptedError
    from trainables.loop import train
    from trainables.testing import test_once

    if config.threads is None:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks.world))
    folder = epochs.folder
    try:
        with _watched(watching if ranks.rank == 0 else unwatched) as tell:
            outcome = train(
                config, folder=folder, ranks=ranks, report=epochs.add, known_epoch=epochs.known, tell=tell,
                is_wanted_back=wish,
            )  # fmt: skip
    except PreemptedError:
        raise KeyboardInterrupt from None
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


def _run_together(config: TrialConfig, folder: Path, watching: Watching, wish: _Wish) -> None:
    """A process a worker, as a slot of a study has them."""
    from torch.multiprocessing.spawn import ProcessException, start_processes

    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # what ended is said below
    with tempfile.TemporaryDirectory(prefix="mmtune-") as shared:
        args = (config, folder, shared, watching)
        together: Any = start_processes(_worker, args=args, nprocs=config.workers, join=False)
        is_told = False
        wish()  # the workers know whether there is something to write
        try:
            while not together.join(timeout=0.5):
                if wish() and not is_told:
                    is_told = True
                    for process in together.processes:
                        process.terminate()
        except ProcessException as error:
            said = Path(shared) / "error"
            if not wish():
                raise ValueError(said.read_text() if said.exists() else f"training failed: {error}") from None
        finally:
            for process in together.processes:
                process.kill()
    if wish() and not (folder / "test.json").exists():
        raise KeyboardInterrupt


def _worker(rank: int, config: TrialConfig, folder: Path, shared: str, watching: Watching) -> None:
    """What each of the processes runs."""
    import torch.distributed

    from trainables.ranks import Ranks, best_device

    wish = _Wish()
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal tells all, the first process its own
        signal.signal(number, lambda number, frame: wish.event.set() if wish.can_wait() else os._exit(1))
    try:
        device = best_device(config.device, rank)
        torch.distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=f"file://{shared}/rendezvous", rank=rank, world_size=config.workers,
        )  # fmt: skip
        group = torch.distributed.new_group(backend="gloo")
        ranks = Ranks(rank=rank, world=config.workers, device=device, group=group)
        _run(config, Epochs(config, folder, _say), ranks, watching, wish)
        torch.distributed.destroy_process_group()
    except ValueError as error:
        write_atomic(Path(shared) / "error", str(error))
        raise


def _say(text: str) -> None:
    print(text, flush=True)
