"""A worker that is wanted back in the middle of an epoch: its session ends, or the system ends its process (SIGTERM).

What trains asks :func:`is_wanted_back` between two steps, writes a checkpoint and ends. Only where
``resources.checkpoint_every_seconds`` is set; without it a SIGTERM ends a worker at once, as Ray has it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.actor import ActorHandle

GRACE = 10.0  # seconds from SIGTERM to the end of the process, in which the checkpoint is written
_called, _told, _training = threading.Event(), threading.Event(), threading.Event()


def is_wanted_back() -> bool:
    """Whether what trains in this process shall write a checkpoint and end."""
    return _called.is_set() or _told.is_set()


def is_told() -> bool:
    """Whether the system ends this process."""
    return _told.is_set()


@contextlib.contextmanager
def training() -> Iterator[None]:
    """While the block runs there is something to save."""
    _training.set()
    try:
        yield
    finally:
        _training.clear()


def listen(broker: ActorHandle) -> None:
    """Hears from a thread when the session ends."""
    import ray
    from ray.exceptions import RayError

    def wait() -> None:
        with contextlib.suppress(RayError):
            ray.get(broker.called_back.remote())
            _called.set()

    threading.Thread(target=wait, name="wanted-back", daemon=True).start()


def hear_sigterm() -> None:
    """Has a SIGTERM to this process wait for a checkpoint; called in its main thread, as Python wants it."""
    before: Any = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        if not _training.is_set() and callable(before):
            before(number, frame)
            return
        _told.set()
        timer = threading.Timer(GRACE, os._exit, [1])
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, handle)


def torch_config(backend: str) -> Any:
    """Ray Train's TorchConfig, whose workers wait for a checkpoint on SIGTERM: training runs in no main thread."""
    from ray.train.torch import TorchConfig

    plain = TorchConfig().backend_cls

    class Backend(plain):
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            super().on_start(worker_group, backend_config)
            worker_group.execute(hear_sigterm)

    class Config(TorchConfig):
        @property
        def backend_cls(self) -> type:
            return Backend

    return Config(backend=backend)
