"""How a person ends a session or a training: the first SIGINT or SIGTERM cleanly, the second at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_signals(*, waits: Callable[[], bool] = lambda: True) -> Iterator[threading.Event]:
    """An event that the first signal sets. Outside the main thread, where Python takes no signals, none does.

    Args:
        waits: asked when the first one comes: False ends at once, as there is nothing to end cleanly.
    """
    interrupted = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        is_first = not interrupted.is_set()
        interrupted.set()
        if not is_first or not waits():
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
