"""The setting of a measurement: what it ran on, printed above the figures, and a folder that is gone afterwards."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("torch", "ray", "optuna", "transformers", "mmtune")


def print_setting() -> None:
    """Date, machine, load and versions, one line each."""
    import torch

    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    print(f"date     {time.strftime('%Y-%m-%d %H:%M:%SZ', time.gmtime())}")
    print(f"machine  {_cpu_model()}, {cores} cores, {memory:.0f} GiB memory, GPU {gpu}")
    print(f"load     {load} (1, 5, 15 minutes)")
    print(f"versions python {platform.python_version()}, {versions}", flush=True)


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder for studies, caches and Ray's own files; the environment points to it meanwhile."""
    with tempfile.TemporaryDirectory(prefix="mmtune-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        settings = {"MMTUNE_CACHE": folder / "cache", "RAY_TMPDIR": folder / "ray", "HF_HUB_OFFLINE": "1"}
        before = {key: os.environ.get(key) for key in settings}
        os.environ.update({key: str(value) for key, value in settings.items()})
        try:
            yield folder
        finally:
            for key, value in before.items():
                os.environ.pop(key) if value is None else os.environ.update({key: value})
