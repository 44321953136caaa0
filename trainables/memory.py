"""The memory of one trial: what it takes on top of the empty slot that it runs in.

Without a GPU the C library says what it has given out. The pages of the process say less: how many it keeps depends on
how its heap came to look, and the same trial takes a third more of them before a large one than behind it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
import threading
import weakref
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch

_STATM = Path("/proc/self/statm")
_SAMPLE_SECONDS = 0.002


class PeakMemory:
    """The most memory since it was made: allocated on a GPU; without one what is given out beyond what was then.

    Without a GPU a thread looks every 2 ms. Without the GNU C library it looks at the pages that are the process's own,
    and systems without ``/proc`` have the process's maximum alone.

    Args:
        device: that trains.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._peak = self._reserved = self._base = 0
        self._sampler: _Sampler | None = None
        release(device)
        if device.type == "cpu":
            self._base = _held()
            self._sampler = _Sampler()
            weakref.finalize(self, self._sampler.stop)
        else:
            torch.cuda.reset_peak_memory_stats(device)

    @property
    def gib(self) -> float:
        """The peak so far."""
        self._look()
        return self._peak / 2**30

    @property
    def reserved_gib(self) -> float:
        """The most that torch's allocator had taken from the GPU; 0 without one."""
        self._look()
        return self._reserved / 2**30

    @contextlib.contextmanager
    def left_out(self) -> Iterator[None]:
        """What happens meanwhile, and what of it stays, does not count."""
        self._look()
        before = _held() if self._sampler is not None else 0
        yield
        release(self._device)
        if self._sampler is not None:
            self._base += _held() - before
            self._sampler.restart()
        else:
            torch.cuda.reset_peak_memory_stats(self._device)

    def _look(self) -> None:
        if self._sampler is not None:
            self._peak = max(self._peak, self._sampler.look() - self._base)
        else:
            self._peak = max(self._peak, torch.cuda.max_memory_allocated(self._device))
            self._reserved = max(self._reserved, torch.cuda.max_memory_reserved(self._device))


class _Sampler:
    """The most that the process holds, looked at again and again."""

    def __init__(self) -> None:
        self._peak = 0
        self._lock = threading.Lock()  # else a look that began before a restart would end behind it
        self._is_over = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def look(self) -> int:
        with self._lock:
            self._peak = max(self._peak, _held())
            return self._peak

    def restart(self) -> None:
        with self._lock:
            self._peak = 0

    def stop(self) -> None:
        self._is_over.set()

    def _run(self) -> None:
        while not self._is_over.wait(_SAMPLE_SECONDS):
            self.look()


def release(device: torch.device, *, is_thorough: bool = False) -> None:
    """Gives back what earlier trials have left to the system.

    Args:
        device: that they trained on.
        is_thorough: looks at all objects there are, which takes a while: a failure's traceback holds its model.
    """
    gc.collect(2 if is_thorough else 1)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):  # of the GNU library alone
        _libc().malloc_trim(0)


class _Mallinfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


@cache
def _libc() -> Any:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallinfo2"):
        libc.mallinfo2.restype = _Mallinfo
    return libc


def _held() -> int:
    """Bytes."""
    if hasattr(_libc(), "mallinfo2"):
        info = _libc().mallinfo2()
        return info.uordblks + info.hblkhd
    try:
        _, resident, shared, *_ = _STATM.read_text().split()
    except OSError:  # no Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return (int(resident) - int(shared)) * resource.getpagesize()
