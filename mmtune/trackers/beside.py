"""Trackers beside a driver: a process each, whose failures and hangs are a line and cost the study a bounded time."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

LAST_SECONDS = 60.0  # after the study's end, for what is not sent yet
_TELL_SECONDS = 5.0


@contextmanager
def tracking(root: Path, names: Sequence[str], say: Callable[[str], None]) -> Iterator[None]:
    """Sends the study to trackers while the block runs, and what is left at its end, for LAST_SECONDS at most.

    Args:
        root: of the study.
        names: of trackers.
        say: receives one line of each that fails.
    """
    processes = {name: _begin(root, name) for name in names}
    tellers = [
        threading.Thread(target=_tell, args=(process, name, say), name=f"tracker-{name}", daemon=True)
        for name, process in processes.items()
    ]
    for teller in tellers:
        teller.start()
    try:
        yield
    finally:
        until = time.monotonic() + LAST_SECONDS
        for process in processes.values():
            with suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()
        for name, process in processes.items():
            again = f"`mmtune track {root} --to {name}` sends the rest"
            try:
                if process.wait(max(0.0, until - time.monotonic())):
                    say(f"tracker {name}: not all was sent; {again}")
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                say(f"tracker {name}: has not ended within {LAST_SECONDS:g} s; {again}")
        for teller in tellers:
            teller.join(_TELL_SECONDS)


def _begin(root: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["nice", sys.executable, "-m", "mmtune.trackers.follow", name, str(root)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip


def _tell(process: subprocess.Popen[str], name: str, say: Callable[[str], None]) -> None:
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            say(f"tracker {name}: {line.strip()}")
