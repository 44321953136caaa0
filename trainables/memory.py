"""The memory of one trial: what it takes on top of the empty slot that it runs in."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import torch

_PROC = Path("/proc/self")
_CLEAR_REFS = _PROC / "clear_refs"
_SAMPLE_SECONDS = 0.005


class PeakMemory:
    """The most memory since it was made: allocated on a GPU; without one what the process has beyond what it had then.

    The kernel's own high-water mark, set back here; where it cannot be, a thread looks every 5 ms. Systems without
    ``/proc`` have the process's maximum alone.

    Args:
        device: that trains.
        clear_refs: the file that sets the mark back.
    """

    def __init__(self, device: torch.device, *, clear_refs: Path = _CLEAR_REFS) -> None:
        self._device, self._clear_refs = device, clear_refs
        self._peak = self._reserved = self._base = 0
        self._sampler: _Sampler | None = None
        release(device)
        if device.type == "cpu":
            self._base = _resident()
        self._reset()

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
        before = _resident() if self._device.type == "cpu" else 0
        yield
        release(self._device)
        if self._device.type == "cpu":
            self._base += _resident() - before
        self._reset()

    def _look(self) -> None:
        if self._device.type == "cuda":
            self._peak = max(self._peak, torch.cuda.max_memory_allocated(self._device))
            self._reserved = max(self._reserved, torch.cuda.max_memory_reserved(self._device))
        else:
            seen = _high_water() if self._sampler is None else self._sampler.look()
            self._peak = max(self._peak, seen - self._base)

    def _reset(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        try:
            self._clear_refs.write_text("5")
        except OSError:  # not Linux, or a container that forbids it
            if self._sampler is None and _PROC.exists():
                self._sampler = _Sampler()
                weakref.finalize(self, self._sampler.stop)
            elif self._sampler is not None:
                self._sampler.peak = 0


class _Sampler:
    """The most of the process's resident memory, looked at again and again."""

    def __init__(self) -> None:
        self.peak = 0
        self._is_over = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def look(self) -> int:
        self.peak = max(self.peak, _resident())
        return self.peak

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
        ctypes.CDLL(None).malloc_trim(0)


def settle_allocator() -> None:
    """Lets the C library keep what is freed as it does once something large was freed, whatever trains first."""
    torch.empty(31 * 2**20, dtype=torch.uint8)


def _resident() -> int:
    return _status("VmRSS") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _high_water() -> int:
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(name: str) -> int:
    try:
        for line in (_PROC / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
