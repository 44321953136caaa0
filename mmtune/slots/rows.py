"""New rows through a model over all GPUs of a Ray cluster, or over its CPUs where it has none: Ray Data.

One task reads the rows, in tables; actors, each with the model, answer them; the driver takes the answers in the order
of the rows. Folders of the model and the data are seen by all nodes. What waits between the steps is bounded by Ray
Data's own limits on its object store.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mmtune.slots.cluster import cluster_nodes, ray_session

if TYPE_CHECKING:
    import pyarrow

    from trainables.answering import Answered
    from trainables.trained import Trained

_SMALLEST_BLOCK = 2**14  # bytes


class _Rows(Protocol):
    def tables(self, size: int) -> Iterator[pyarrow.Table]: ...


def over_cluster(
    rows: _Rows,
    folder: Path,
    make: Callable[[Trained, Answered], pyarrow.Table],
    *,
    size: int,
    address: str | None,
    regions: str | None = None,
) -> Iterator[pyarrow.Table]:
    """What ``make`` makes of the model's answers, in the order of the rows.

    Args:
        rows: travel to the node that reads them.
        folder: the model's.
        make: a function of a module.
        size: rows that are read and answered together.
        address: of the cluster; None starts a local one.
        regions: as :func:`trainables.trained.load_trained` takes them; at that place on every node.

    Raises:
        ValueError: no cluster, Ray Data that lacks a package, or what the data or the model raise.
    """
    first = next(rows.tables(size), None)
    if first is None:
        return
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it warns of the way in which Ray Data makes its actors
    with ray_session(address):
        data, nodes = _ray_data(block_bytes=first.nbytes), cluster_nodes()
        gpus, cpus = (int(sum(values)) for values in zip(*((node.gpus, node.cpus) for node in nodes), strict=True))
        shares = [int(node.cpus // node.gpus) for node in nodes if node.gpus >= 1]  # threads that decode pictures
        source = _source(data, rows, size)
        dataset = data.read_datasource(source, override_num_blocks=1, num_cpus=0)  # else it would be part of one actor
        answered = dataset.map_batches(
            _Answerer, fn_constructor_args=(str(folder.resolve()), make, regions), batch_format="pyarrow",
            batch_size=None, compute=data.ActorPoolStrategy(size=gpus or max(1, cpus)),
            num_cpus=max(1, min(shares, default=1)),
            num_gpus=1 if gpus else 0,
        )  # fmt: skip
        yield from _in_order(answered)


class _Answerer:
    """An actor's model."""

    def __init__(self, folder: str, make: Callable[[Trained, Answered], pyarrow.Table], regions: str | None) -> None:
        from trainables.trained import load_trained

        self._trained, self._make = load_trained(Path(folder), regions=regions), make

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        from trainables.answering import answers_of

        (answered,) = answers_of(self._trained, [table])
        return self._make(self._trained, answered)


def _ray_data(*, block_bytes: int) -> Any:
    """Ray Data, quiet and in order.

    Args:
        block_bytes: of a table; several smaller ones would become one, for one actor.

    Raises:
        ValueError: a package of its own is not installed.
    """
    try:
        import ray.data as data
    except ImportError as error:
        raise ValueError(f"--address: Ray Data is not whole here ({error}); pip install 'ray[data]'") from None
    context = data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = max(_SMALLEST_BLOCK, block_bytes)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return data


def _source(data: Any, rows: _Rows, size: int) -> Any:
    """One task that reads the rows in tables."""
    from ray.data.block import BlockMetadata

    class Source(data.Datasource):
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[Any]:
            facts = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            return [data.ReadTask(lambda: rows.tables(size), facts)]

    return Source()


def _in_order(dataset: Any) -> Iterator[pyarrow.Table]:
    """Tables as they come, an error of a task as itself."""
    from ray.exceptions import RayTaskError

    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
    except RayTaskError as error:
        cause = error.cause
        raise cause if isinstance(cause, ValueError) else error from None
