"""Ends what a killed driver leaves of its local Ray: agents that wait, some for minutes, for a head that is gone.

A process of its own reads a pipe that the driver holds; when the driver is gone, however it went, the pipe closes.
Only the standard library.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

_EVERY = 2.0  # seconds between looks at which processes there are
_GRACE = 10.0  # in which Ray's processes end by themselves


@contextlib.contextmanager
def reaping() -> Iterator[None]:
    """As long as the block runs, this process's death ends what Ray started below it."""
    command = [sys.executable, "-m", "mmtune.slots.reaper", str(os.getpid())]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=-1, stdout=quiet, stderr=quiet, start_new_session=True) as process:
        try:
            yield
        finally:
            process.kill()


def main(driver: int) -> None:
    """Waits for the end of standard input, then for a while, and kills what is still there."""
    known: dict[int, str] = {}
    while not select.select([sys.stdin], [], [], _EVERY)[0]:
        known |= _ray_below(driver)
    time.sleep(_GRACE)
    _kill(pid for pid, began in known.items() if _facts(pid)[1] == began)


@contextlib.contextmanager
def ending_on_error() -> Iterator[None]:
    """An error in the block ends what Ray has started below this process since it began."""
    before = _ray_below(os.getpid())
    try:
        yield
    except BaseException:
        _kill(_ray_below(os.getpid()).keys() - before.keys())
        raise


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _ray_below(driver: int) -> dict[int, str]:
    """Ray's processes below the driver, with when they began: a number may be another process's later."""
    children: dict[int, list[tuple[int, str]]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            parent, began = _facts(int(entry.name))
            children.setdefault(parent, []).append((int(entry.name), began))
    found, left = {}, [driver]
    while left:
        for pid, began in children.get(left.pop(), ()):
            left.append(pid)
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"/ray/" in command or command.startswith(b"ray::") or b"mmtune.slots.forkserver" in command:
                    found[pid] = began
    return found


def _facts(pid: int) -> tuple[int, str]:
    """A process's parent and when it began; (0, '') if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, ""
    return int(fields[1]), fields[19]


if __name__ == "__main__":
    main(int(sys.argv[1]))
