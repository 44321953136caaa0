"""Runs a study on a Ray cluster of four logical CPUs and says what is free afterwards.

python study_on_four_cpus.py SPEC STORAGE [--kill WHAT]... where WHAT is worker, actor or broker: one process of
that kind is killed with SIGKILL once some epochs are in.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil

from mmtune.slots.cluster import set_environment

set_environment(None)

import ray  # noqa: E402 (Ray reads its settings on import)

from mmtune.spec.search_spec import load_spec  # noqa: E402
from mmtune.study.create import create_study  # noqa: E402
from mmtune.study.run import run_study  # noqa: E402

TITLES = {"worker": "ray::RayTrainWorker", "actor": "ray::ImplicitFunc", "broker": "ray::Broker"}


def processes(title: str) -> list[int]:
    """This study's own: other clusters on this machine have processes of the same titles."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if " ".join(process.cmdline()).startswith(title):
                found.append(process.pid)
    return found


def kill_when_busy(reports: Path, kinds: list[str]) -> None:
    for number, kind in enumerate(kinds):
        while not reports.exists() or len(reports.read_text().splitlines()) < 4 + 6 * number:
            time.sleep(0.05)
        os.kill(processes(TITLES[kind])[0], signal.SIGKILL)
        print(f"killed {kind}", flush=True)


def main() -> None:
    spec = load_spec(sys.argv[1])
    kinds = [sys.argv[at + 1] for at, word in enumerate(sys.argv) if word == "--kill"]
    folder = create_study(spec, storage=sys.argv[2])
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    variables = set(os.environ)
    threading.Thread(target=kill_when_busy, args=(folder.reports, kinds), daemon=True).start()
    ending = run_study(folder)
    deadline = time.monotonic() + 30  # Ray frees a placement group a moment after its removal
    while ray.available_resources().get("CPU") != 4.0 and time.monotonic() < deadline:
        time.sleep(0.2)
    free = ray.available_resources().get("CPU", 0.0)
    assert set(os.environ) == variables, "while Ray's threads read the environment a new name can crash them"
    print(json.dumps({"complete": ending.is_complete, "error": ending.error, "free_cpus": free}))


if __name__ == "__main__":
    main()
