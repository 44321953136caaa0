"""From ``mmtune run`` to the first epoch of the first trial: seconds, and what the processes on the way there compute.

Runs ``smoke/fusion`` (warm caches from the second run on) and looks every 0.2 s at the processes below it, until the
first epoch is reported: wall seconds by the clock outside, CPU seconds of each process so far, and when it was first
seen. On a machine that other work shares the CPU seconds are what can be compared. The first epoch of this search is a
third of a second. The last line's ratio is the median of the wall seconds to the goal of 6.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median

from setting import print_setting, scratch_folder

_GOAL = 6.0  # seconds
_EVERY = 0.2
_TICKS = os.sysconf("SC_CLK_TCK")


def below(root: int) -> dict[int, tuple[str, float]]:
    """What a process and those that it started are called, and their CPU seconds so far."""
    parents, facts = {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").split(" /", 1)[-1]
        except OSError:
            continue
        pid = int(entry.name)
        parents[pid], facts[pid] = int(fields[1]), (command.strip(), (int(fields[11]) + int(fields[12])) / _TICKS)
    found, left = {}, [root]
    while left:
        pid = left.pop()
        if pid in facts:
            found[pid] = facts[pid]
        left += [child for child, parent in parents.items() if parent == pid]
    return found


def start(folder: Path, name: str) -> tuple[float, dict[int, tuple[str, float, float]]]:
    """Seconds to the first epoch; by process its name, its CPU seconds then and when it was first seen."""
    command = [sys.executable, "-m", "mmtune.cli", "run", "smoke/fusion", "--name", name]
    began, is_over = time.monotonic(), threading.Event()
    seen: dict[int, tuple[str, float, float]] = {}
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None

        def look() -> None:
            for pid, (called, spent) in below(process.pid).items():
                seen[pid] = called, spent, seen[pid][2] if pid in seen else time.monotonic() - began

        def watch() -> None:
            while not is_over.wait(_EVERY):
                look()

        watcher = threading.Thread(target=watch)
        watcher.start()
        seconds = None
        for line in process.stdout:
            if seconds is None and " epoch 1/" in line:
                is_over.set()
                watcher.join()
                look()
                seconds = time.monotonic() - began
        is_over.set()
        watcher.join()
    if seconds is None or process.returncode:
        raise SystemExit(f"mmtune run ended with {process.returncode} and no epoch")
    return seconds, seen


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], epilog="Example: python benchmarks/startup.py --runs 3"
    )
    parser.add_argument("--runs", type=int, default=3, help="that count, after one that warms caches; default: 3")
    arguments = parser.parse_args()
    print_setting()
    walls = []
    seen: dict[int, tuple[str, float, float]] = {}
    with scratch_folder() as folder:
        for run in range(arguments.runs + 1):
            seconds, seen = start(folder, f"start-{run}")
            total = sum(spent for _, spent, _ in seen.values())
            which = "warms caches" if run == 0 else f"run {run}"
            print(
                f"{which}: {seconds:.1f} s, {total:.1f} CPU-s in {len(seen)} processes, load {os.getloadavg()[0]:.1f}"
            )
            walls += [seconds] if run else []
    for called, spent, at in sorted(seen.values(), key=lambda one: one[2]):
        print(f"  from {at:5.1f} s on {spent:6.2f} CPU-s  {called[:70]}")
    print(f"ratio: {median(walls) / _GOAL:.2f}")


if __name__ == "__main__":
    main()
