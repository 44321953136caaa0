"""What the driver of a study takes as the study grows: a report, a suggestion, and reading the folder afterwards.

A study folder of N trials x 20 epochs is written with the project's own writers (nine of ten trials whole, the others
paused at epoch 12), and then

- read: ``mmtune status`` and ``mmtune report`` in processes of their own; CPU seconds and the most memory, by the
  kernel;
- driven on: its own session, ledger, journal, searcher, schedule and screen, over the folder on disk, take new trials
  and their reports as Ray Tune would hand them over, in a process of its own. Ray is left out, so that what is measured
  grows with the study alone. ``report`` is everything from Tune's result to the next (schedule, Optuna, ledger,
  TensorBoard, a line on the screen), ``suggest`` a free worker's next job, ``end`` what a trial's pause or end takes.

``written`` is what the process wrote meanwhile, by the kernel. The ratio is that of the CPU time of a report, largest
study to smallest: cores are shared.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from setting import print_setting, scratch_folder

from mmtune import records
from mmtune.records import StudyFolder
from mmtune.space.drawing import assign, draw
from mmtune.space.optuna_names import suggest, to_optuna
from mmtune.spec.search_spec import SearchSpec, load_spec
from trainables.files import write_atomic

EPOCHS, PAUSED_AT = 20, 12
_SPEC = """
study: driver-{trials}
family: {{type: categorical, choices: [text, image, fusion]}}
dataset: openclipart
objectives: [{{metric: val_accuracy, mode: max}}]
fixed: {{epochs: 20}}
space:
  optim.lr: {{type: float, low: 1.0e-4, high: 1.0e-2, log: true}}
  optim.weight_decay: {{type: float, low: 1.0e-5, high: 1.0e-1, log: true}}
  model.hidden: {{type: int, low: 32, high: 512, log: true}}
  model.dropout: {{type: float, low: 0.0, high: 0.5}}
  model.kind: {{type: categorical, choices: [early, late], when: {{family: fusion}}}}
  uda.mode: {{type: categorical, choices: ["none", dynamic], when: {{family: [text, fusion]}}}}
  uda.lam: {{type: float, low: 0.01, high: 10.0, log: true, when: {{uda.mode: dynamic}}}}
sampler: {{name: {sampler}, seed: 1}}
scheduler: {{name: asha, grace_epochs: 4}}
budget: {{device_hours: 1000000}}
"""
_METRICS = ("accuracy", "ap_micro", "ap_macro", "micro_f1", "macro_f1", "auroc")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog="Example: python benchmarks/driver_scale.py --trials 100 1000",
    )
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 10_000], help="sizes of the study")
    parser.add_argument("--more", type=int, default=100, help="jobs that are handed out while it is driven")
    parser.add_argument("--sampler", default="parzen", help="of the study")
    parser.add_argument("--drive", metavar="FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.drive:
        print(json.dumps(drive(args.drive, args.more)))
        return
    print_setting()
    costs = []
    with scratch_folder() as storage:
        for trials in args.trials:
            folder = write_study(study_spec(trials, args.sampler), storage, trials)
            size = sum(path.stat().st_size for path in folder.root.glob("*.*")) / 2**20
            print(f"\n{trials:,} trials x {EPOCHS} epochs, {size:.1f} MiB of tables and journal", flush=True)
            for verb in ("status", "report"):
                cpu, wall, memory, _ = watched("-m", "mmtune.cli", verb, str(folder.root))
                print(f"  {verb:<9} {cpu:6.2f} CPU-s {wall:6.2f} s {memory:6.0f} MiB", flush=True)
            costs.append(_print_driven(folder, args.more))
    print(f"ratio: {max(costs) / min(costs):.2f}")


def study_spec(trials: int, sampler: str = "parzen") -> SearchSpec:
    """A study of three families with seven parameters."""
    return load_spec(_SPEC.format(trials=trials, sampler=sampler))


def watched(*arguments: str) -> tuple[float, float, float, str]:
    """CPU seconds, seconds and MiB at most of a Python process, and what it printed."""
    began, memory = time.perf_counter(), 0.0
    with (
        tempfile.TemporaryFile("w+") as out,
        subprocess.Popen([sys.executable, *arguments], stdout=out, text=True) as process,
    ):
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            memory = max(memory, _most_memory(process.pid))
            time.sleep(0.02)
        _, status, used = ended
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said = out.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}: {said}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - began, memory, said


def _most_memory(pid: int) -> float:
    """MiB that a process has had at most so far; rusage would count its parent's, from before it was another's."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _print_driven(folder: StudyFolder, more: int) -> float:
    _, _, memory, said = watched(__file__, "--drive", str(folder.root), "--more", str(more))
    found = json.loads(said.splitlines()[-1])
    for name, figures in found.items():
        if isinstance(figures, list):
            walls, cpus = (sorted(column) for column in zip(*figures, strict=True))
            print(
                f"  {name:<9} mean {statistics.fmean(walls):7.2f} ms  median {statistics.median(walls):7.2f}  "
                f"95 % {walls[int(0.95 * len(walls))]:7.2f}  most {walls[-1]:7.2f}  "
                f"CPU mean {statistics.fmean(cpus):7.2f}  ({len(walls)})"
            )
        else:
            print(f"  {name:<9} {figures:.1f}")
    print(f"  memory    {memory:.0f} MiB", flush=True)
    return statistics.fmean(cpu for _, cpu in found["report"])


# --- the folder -----------------------------------------------------------------------------------------
def write_study(spec: SearchSpec, storage: Path, trials: int) -> StudyFolder:
    """A study that has trained so many trials: every file that its own session would have left behind."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    from mmtune.search.journal import Journal
    from mmtune.study.create import create_study
    from mmtune.study.ledger import Ledger
    from mmtune.study.tensorboard import param_kinds

    rng = random.Random(trials)
    folder = create_study(spec, storage=storage)
    drawn = {
        records.trial_id(number): assign(spec.space, lambda name, domain, high: draw(domain, high, rng))
        for number in range(trials)
    }
    rows = [
        {"trial": name, "time": records.now(), **made_up(rng, epoch)}
        for index, name in enumerate(drawn)
        for epoch in range(1, 1 + (PAUSED_AT if index % 10 == 9 else EPOCHS))
    ]
    write_atomic(folder.reports, records.csv_text(list(rows[0]), rows))
    ledger = Ledger(folder, objective=("val_accuracy", "max"), params=param_kinds(spec.space), max_epochs=spec.epochs)
    lines = []
    for name, params in drawn.items():
        record = ledger.trials.start(name, params, until=None)
        record.state = records.COMPLETE if record.epoch == EPOCHS else records.PAUSED
        record.until, record.started = record.epoch, records.now()
        record.ended = records.now() if record.is_over else None
        record.facts = dict.fromkeys(records.TRIAL_FACTS, 1.0)
        lines.append(ledger.row(record))
    columns = dict.fromkeys(name for line in lines for name in line)
    write_atomic(folder.trials, records.csv_text(list(columns), lines))
    for name in drawn:
        config = spec.trial_config(drawn[name]).to_dict()
        records.write_json(folder.trial(name) / "config.yaml", config)  # JSON is YAML, and quicker to write

    Journal(folder.optuna_log, name=spec.study, objectives=[("val_accuracy", "max")])
    file = JournalStorage(JournalFileBackend(str(folder.optuna_log)))
    study = optuna.load_study(study_name=spec.study, storage=file)
    for name, params in drawn.items():
        record = ledger.trials[name]
        trial = _Trial(to_optuna(spec.space, params))
        suggest(spec.space, trial)
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.COMPLETE if record.is_over else optuna.trial.TrialState.RUNNING,
                value=ledger.row(record)["val_accuracy"] if record.is_over else None,
                params=trial.named,
                distributions=trial.distributions,
                intermediate_values=ledger.trials.objective_by_epoch(name),
                user_attrs={f"val_{metric}": 0.5 for metric in _METRICS},
            )
        )
    return folder


class _Trial:
    """Has its values already; keeps the distributions that it was asked for."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self.named, self.distributions = dict(named), {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        from optuna.distributions import FloatDistribution

        self.distributions[name] = FloatDistribution(low, high, log=log, step=step)
        return self.named[name]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        from optuna.distributions import IntDistribution

        self.distributions[name] = IntDistribution(low, high, log=log, step=step)
        return self.named[name]

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        from optuna.distributions import CategoricalDistribution

        self.distributions[name] = CategoricalDistribution(choices)
        return self.named[name]


def made_up(rng: random.Random, epoch: int) -> dict[str, Any]:
    """A row as a trial reports it."""
    value = rng.random() * (1 - 0.5**epoch)
    row: dict[str, Any] = {"epoch": epoch, "train_loss": 2 - value, "train_accuracy": value, "val_loss": 2 - value}
    row |= {f"val_{metric}": value for metric in _METRICS}
    seconds = 1 + rng.random()
    times = {"wall_seconds": seconds, "device_seconds": seconds, "train_seconds": 0.7 * seconds}
    times |= {"eval_seconds": 0.2 * seconds, "checkpoint_seconds": 0.05 * seconds, "setup_seconds": 0.05 * seconds}
    row |= {"lr": 1e-3, **times, "samples_per_second": 900 * seconds, "device_kind": "a CPU"}
    return row | {"peak_memory_gib": 0.9 + value / 10, "reserved_memory_gib": 1.0}


# --- driving it on --------------------------------------------------------------------------------------
def drive(root: str, more: int) -> dict[str, Any]:
    """Milliseconds of each suggestion, report and end, and of CPU; seconds to open; KiB written a job."""
    from ray.tune.schedulers import TrialScheduler

    from mmtune.search.journal import Journal
    from mmtune.search.schedulers import make_scheduler
    from mmtune.search.searcher import StudySearcher
    from mmtune.study.session import Session

    began, rng = time.perf_counter(), random.Random(0)
    folder = records.open_study(root)
    spec, info = load_spec(folder.spec), records.read_json(folder.info)
    own = Session(folder, spec, info, slots=1, interrupted=threading.Event(), began=time.monotonic(), say=print)
    journal = Journal(folder.optuna_log, name=spec.study, objectives=[("val_accuracy", "max")])
    searcher = StudySearcher(
        spec=spec,
        journal=journal,
        ledger=own.ledger,
        job=own.job,
        rules=spec.rules,
        is_spent=own.account.is_spent,
        seconds_left=own.seconds_left,
        slots=lambda: 2**31,
        on_end=lambda trial, ticket: own.screen.ended(trial),
        on_fault=lambda trial, ticket, what: None,
    )
    scheduler = make_scheduler(
        "asha", options=spec.scheduler.options, trials=own.ledger.trials, is_spent=own.account.is_spent
    )
    opened = time.perf_counter() - began
    took: dict[str, list[tuple[float, float]]] = {"suggest": [], "report": [], "end": []}
    before = _written()
    with contextlib.redirect_stdout(io.StringIO()):
        for index in range(more):
            with _timed(took["suggest"]):
                job = searcher.suggest(f"job{index}")
            assert isinstance(job, dict)
            tune, record = SimpleNamespace(trial_id=f"job{index}", config=job), own.ledger.trials[job["trial"]]
            decision = TrialScheduler.CONTINUE
            while decision == TrialScheduler.CONTINUE:
                row = made_up(rng, record.epoch + 1)
                if row["epoch"] == 1:
                    row |= dict.fromkeys(records.TRIAL_FACTS, 1.0)
                result = {"epoch": row["epoch"], "value": row["val_accuracy"], "row": row}
                with _timed(took["report"]):
                    decision = scheduler.on_trial_result(None, tune, result)  # pyright: ignore[reportArgumentType]
                    if decision == TrialScheduler.CONTINUE:
                        searcher.on_trial_result(tune.trial_id, result)
                    if own.ledger.add(record.trial, row):
                        own.screen.reported(record.trial, row)
                if row["epoch"] == EPOCHS:
                    result = {"end/state": records.COMPLETE}
                    break
            with _timed(took["end"]):
                searcher.on_trial_complete(tune.trial_id, result)
    own.ledger.close()
    return {"open, s": opened, "written, KiB a job": (_written() - before) / 1024 / more, **took}


@contextlib.contextmanager
def _timed(into: list[tuple[float, float]]) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    into.append((1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)))


def _written() -> int:
    """Bytes that this process has handed to files so far; 0 where the kernel does not say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/io").read_text().splitlines():
            if line.startswith("wchar:"):
                return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_oublock * 512


if __name__ == "__main__":
    main()
