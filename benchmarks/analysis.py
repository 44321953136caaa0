"""Reading a large study: its tables as pandas, and the whole report, of 10,000 trials of 20 epochs.

The folder is written with the project's own writers, as ``driver_scale.py`` does. Each part is a process of its own,
its imports counted; CPU seconds and the most memory are the kernel's. The goals are 5 s to load, 15 s and 600 MiB to
report. The ratio is that of the report's goal to its CPU time, so above 1 the goal is met: cores are shared. Run it
from the repository's root: this file has the name of the package that it measures.
"""

from __future__ import annotations

import argparse

from driver_scale import EPOCHS, study_spec, watched, write_study
from setting import print_setting, scratch_folder

_LOAD = """
import sys
from analysis.studies import load_reports, load_studies
print(len(load_studies(sys.argv[1])), "trials,", len(load_reports(sys.argv[1])), "reports")
"""
_REPORT = """
import sys
from analysis.report import write_report
files = write_report(sys.argv[1])
print(f"{files.html.stat().st_size / 1e6:.1f} MB page")
"""
GOALS = {"load": (5.0, None), "report": (15.0, 600)}  # seconds, MiB


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], epilog="Example: python benchmarks/analysis.py --trials 1000"
    )
    parser.add_argument("--trials", type=int, default=10_000, help="of the study")
    args = parser.parse_args()
    print_setting()
    spent = {}
    with scratch_folder() as storage:
        folder = write_study(study_spec(args.trials), storage, args.trials)
        size = sum(path.stat().st_size for path in folder.root.glob("*.csv")) / 2**20
        print(f"\n{args.trials:,} trials x {EPOCHS} epochs, {size:.1f} MiB of tables", flush=True)
        for name, code in (("load", _LOAD), ("report", _REPORT)):
            cpu, wall, memory, said = watched("-c", code, str(folder.root))
            seconds, mib = GOALS[name]
            goal = f"{seconds:g} s" + (f", {mib} MiB" if mib else "")
            print(
                f"  {name:<7} {cpu:6.2f} CPU-s {wall:6.2f} s {memory:6.0f} MiB (goal {goal}): {said.strip()}",
                flush=True,
            )
            spent[name] = cpu
    print(f"ratio: {GOALS['report'][0] / spent['report']:.2f}")


if __name__ == "__main__":
    main()
