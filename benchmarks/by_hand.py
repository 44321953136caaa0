"""mmtune's demo beside what an expert writes by hand for one machine (``expert.py``), each cold and by itself.

Both sides are processes of their own, timed from their start by who starts them: accuracy against wall time, the most
memory of all their processes together (PSS, by the kernel, so that shared pages count once) and the CPU seconds of all
of them. Looked at several times a second: a process that lives for less is missed.

The ratio is the smallest of (the script's seconds / mmtune's seconds) over the accuracies that the script reached;
above 1 every one of them was reached no later. ``--seeds N`` runs the demo with N seeds of its sampler, and says in how
many the best trial was a sampled one, and not a row of the file's ``try_first``; all but the first find warm caches.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from demo_search import Side, first_at, improvements, print_side, watch
from setting import print_setting, scratch_folder

_MARK = "MMTUNE_BENCHMARK_SIDE"  # what the processes of a side have in their environment
_SEARCH = "demo/openclipart"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], epilog="Example: python benchmarks/by_hand.py --seeds 3"
    )
    parser.add_argument("--seeds", type=int, default=1, help="seeds of the demo's sampler; the first is compared")
    args = parser.parse_args()
    print_setting()
    with scratch_folder() as folder:
        reports = folder / "reports.csv"
        script, its = measured(
            [sys.executable, str(Path(__file__).with_name("expert.py")), str(reports)], reports, folder
        )
        bests = []
        for seed in range(1, args.seeds + 1):
            reports, command = folder / f"study-{seed}" / "reports.csv", [sys.executable, "-m", "mmtune.cli", "run"]
            command += [_SEARCH, "--storage", str(folder), "--name", f"study-{seed}", "--set", f"sampler.seed={seed}"]
            side, used = measured(command, reports, folder)
            bests.append(improvements(side.points)[-1])
            print(f"seed {seed}: {bests[-1].value:.4f} by {bests[-1].trial}, {side.seconds:.0f} s", flush=True)
            if seed == 1:
                ours, its_own = side, used
    for name, side, used in (("script", script, its), ("mmtune", ours, its_own)):
        print_side(name, side)
        print(f"  {used.cpu_seconds:.0f} CPU-s; at most {used.most_pss / 2**30:.2f} GiB (PSS) in {used.most} processes")
    print("\naccuracy  script s  mmtune s  ratio")
    ratios = []
    for point in improvements(script.points):
        mine = first_at(ours.points, point.value)
        seconds = mine.seconds if mine else float("inf")
        ratios.append(point.seconds / seconds)
        print(f"  {point.value:.4f}  {point.seconds:8.1f}  {seconds:8.1f}  {ratios[-1]:5.2f}")
    first = num_given()
    sampled = [int(best.trial[1:]) >= first for best in bests]
    print(f"best of a sampled trial in {sum(sampled)} of {len(sampled)} seeds: {[best.value for best in bests]}")
    print(f"ratio: {min(ratios):.2f}")


def num_given() -> int:
    """Rows of the demo's try_first, which are its first trials."""
    from mmtune.spec.search_spec import load_spec
    from mmtune.spec.shipped import find_search_file

    return len(load_spec(find_search_file(_SEARCH)).try_first)


@dataclass
class Used:
    """What all processes of a side took."""

    most_pss: int = 0  # bytes, of all at the same time
    most: int = 0  # processes then
    seconds: dict[int, float] = field(default_factory=dict)  # of CPU, by process

    @property
    def cpu_seconds(self) -> float:
        return sum(self.seconds.values())


def measured(command: Sequence[str], reports: Path, folder: Path) -> tuple[Side, Used]:
    """Runs a side to its end, and looks at its processes meanwhile."""
    mark, used, is_over = uuid.uuid4().hex, Used(), threading.Event()
    os.environ[_MARK] = mark
    looking = threading.Thread(target=_look, args=(mark, used, is_over))
    looking.start()
    try:
        return watch(command, reports, folder), used
    finally:
        is_over.set()
        looking.join()
        del os.environ[_MARK]


def _look(mark: str, used: Used, is_over: threading.Event) -> None:
    sought, ticks, known = f"{_MARK}={mark}".encode(), os.sysconf("SC_CLK_TCK"), dict[int, bool]()
    while not is_over.wait(0.25):
        pss = count = 0
        for path in Path("/proc").glob("[0-9]*"):
            number = int(path.name)
            with contextlib.suppress(OSError, ValueError, IndexError):
                if not known.get(number):  # a process may be looked at before it has become another program
                    known[number] = sought in (path / "environ").read_bytes() and number != os.getpid()
                if not known[number]:
                    continue
                times = (path / "stat").read_text().rpartition(")")[2].split()
                used.seconds[number] = (int(times[11]) + int(times[12])) / ticks
                lines = (path / "smaps_rollup").read_text().splitlines()
                pss += next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
                count += 1
        if pss > used.most_pss:
            used.most_pss, used.most = pss, count


if __name__ == "__main__":
    main()
