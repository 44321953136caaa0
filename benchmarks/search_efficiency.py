"""How soon a search finds something good: mmtune's own decisions replayed on recorded trainings, beside its peers.

A recorded curve stands for a training, so that a search with a budget of 30 whole trainings takes seconds. What mmtune
would run next is asked of ``mmtune.search.promotion.next_job`` and ``mmtune.search.parzen.propose``, the functions that
a study asks; the time that is left is what a budget of device-hours would leave. With W workers, results arrive in the
order in which W trainings side by side would report them.

Tables (``--tables FOLDER``): ``tables/*.npz`` with U (configurations x parameters, from 0 to 1) and Y (validation loss,
configurations x epochs), such as TaskSet's; a point of the space takes the nearest configuration that the search has
not taken yet. ``lcbench/`` of yahpo_data, a surrogate of accuracies over 52 epochs, if onnxruntime is installed: six
datasets, of which mmtune was chosen on three, and three are ``held-out``. ``mixed`` are searches over four families,
each a table of the first kind, whose epochs cost 1, 3, 9 and 27; a budget counts the mean of them. ``own`` is this
project's (``record_table.py``, ``own_table.py``), once it is large enough: four times the seeds, no ``tpe+hyperband``.

Peers: ``random`` trains each configuration whole; ``random+stop`` is random with ASHA that stops (grace 3, as Ray Tune
has it); ``tpe+stop`` is Optuna's TPE with the same at grace 1, mmtune's default before; ``tpe+hyperband`` is Optuna's
TPE and its Hyperband pruner. ``dehb``, ``smac`` (its multi-fidelity facade) and ``bohb`` (Syne Tune's) are packages as
they come, left out where they are not installed (``pip install DEHB smac syne-tune``, in an environment of their own:
DEHB's pins are older than mmtune's); of SMAC and DEHB a configuration's further epochs are charged, not its first ones
again. ``promote+random`` is mmtune's schedule with purely random proposals, ``mmtune`` its own, ``hyperband``
the same on Hyperband's ladders. On mixed tables ``even seconds`` has as many device-seconds for new trials of each
family, whatever they promise, and ``even trials`` as many trials.

Score: regret, 0 at the best value in the table and 1 at the median configuration's, averaged over the logarithm of the
budget from 1 to 30 trainings; as the ratio to random's on the same tables and seeds, with a 90 % interval by bootstrap
over the seeds; and to the method's own with one worker (``/ 1 worker``): of random search's curves, many at once show
more at little cost. The last line is mmtune's worst ratio over the kinds of tables with one worker.
"""

from __future__ import annotations

import argparse
import heapq
import json
import logging
import math
import random
import time
import warnings
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from curves import Table, lcbench_tables, mixed_tables, recorded_tables
from own_table import OWN, SETTINGS, OwnTable, compare_seconds, own_table
from peers import NEEDS, Bohb, Dehb, Hyperband, Search, Smac, Stopping, Training
from regret import BUDGET, POINTS, on_grid, ratio_of
from setting import print_setting

from mmtune import records
from mmtune.search.lessons import Lesson
from mmtune.search.parzen import propose
from mmtune.search.promotion import Go, View, next_job
from mmtune.search.rungs import Member
from mmtune.search.samplers import ParzenOptions
from mmtune.search.schedulers import SCHEDULERS
from mmtune.space.domains import Categorical, Number
from mmtune.space.space import Space


# --- searches ---------------------------------------------------------------------------------------------
class Promotion:
    """What mmtune does."""

    def __init__(
        self,
        table: Table,
        seed: int,
        *,
        random_share: float = ParzenOptions().random_share,
        even_share: float | None = ParzenOptions().even_share,
        is_hyperband: bool = False,
        lessons: Sequence[Lesson] = (),
    ) -> None:
        self.lessons = lessons
        kind = SCHEDULERS["hyperband" if is_hyperband else "asha"]
        self.table, self.rules = table, kind.rules(kind.options(), table.epochs, False)
        self.families = [str(index) for index in range(len(table.prices))] if len(table.prices) > 1 else []
        domains = {f"u{at}": (Number(0.0, 1.0),) for at in range(bool(self.families), table.num_params)}
        self.space = Space({"family": (Categorical(tuple(self.families)),), **domains} if self.families else domains)
        self.seed, self.random_share, self.even_share = seed, random_share, even_share
        self.trainings: list[Training] = []
        self.members: list[Member] = []
        self.live: set[int] = set()

    def ask(self, seconds_left: float) -> Training | None:
        view = View(members=self.members, live=self.live, seconds_left=seconds_left)
        job = next_job(view, self.rules)
        if not isinstance(job, Go):
            return None
        number = job.number
        if number is None:
            number = len(self.members)
            params = self._propose(random.Random(1_000_003 * self.seed + number))
            family = params.get("family", "")
            first = [(int(family) + 0.5) / len(self.families)] if self.families else []
            point = np.array([*first, *(value for key, value in params.items() if key != "family")])
            self.trainings.append(Training(number, point))
            self.members.append(Member(number, family, records.RUNNING, job.until, params=params))
        else:
            self.members[number] = replace(self.members[number], state=records.RUNNING, until=job.until)
        self.live.add(number)
        return self.trainings[number]

    def _propose(self, rng: random.Random) -> dict[str, Any]:
        shares = {"random_share": self.random_share, "even_share": self.even_share or 1.0}
        return propose(
            self.space,
            members=self.members,
            rungs=self.rules.rungs,
            rng=rng,
            by_cost=self.even_share is not None,
            lessons=self.lessons,
            **shares,
        )

    def told(self, training: Training, *, is_over: bool) -> bool:
        member, loss = self.members[training.number], training.losses[-1]
        if not math.isfinite(loss):
            state = records.FAILED
        else:
            bests = (*member.bests, min(*member.bests[-1:], loss, loss))
            member = replace(member, bests=bests, seconds=self.table.price(training.point) / self.rules.rungs[-1])
            is_there = len(bests) >= member.until
            state = records.COMPLETE if is_over else records.PAUSED if is_there else records.RUNNING
        self.members[training.number] = replace(member, state=state)
        if state != records.RUNNING:
            self.live.discard(training.number)
        return state != records.RUNNING


METHODS: dict[str, Callable[[Table, int], Search]] = {
    "random": lambda table, seed: Stopping(table, seed, grace=None),
    "random+stop": lambda table, seed: Stopping(table, seed, grace=3),
    "tpe+stop": lambda table, seed: Stopping(table, seed, grace=1, is_tpe=True),
    "tpe+hyperband": Hyperband,
    "dehb": Dehb,
    "smac": Smac,
    "bohb": Bohb,
    "promote+random": lambda table, seed: Promotion(table, seed, random_share=1.0),
    "mmtune": Promotion,
    "hyperband": lambda table, seed: Promotion(table, seed, is_hyperband=True),
    "even trials": lambda table, seed: Promotion(table, seed, even_share=None),
    "even seconds": lambda table, seed: Promotion(table, seed, even_share=1.0),
}
KINDS = ("taskset", "lcbench", "held-out", "mixed", "own")
_MIXED = ("even trials", "even seconds")  # elsewhere they are mmtune
_MORE = 4  # times the seeds, on the own table


def regrets(table: Table, search: Search, workers: int) -> np.ndarray:
    """Regret at ``POINTS`` budgets, as :func:`on_grid`."""
    ahead: list[tuple[float, int, Training]] = []  # when a worker's epoch is over

    def seconds(training: Training) -> float:
        return table.price(training.point) / table.epochs

    curve_of = table.begin()
    idle, used, best = workers, 0.0, math.inf
    seen: list[tuple[float, float]] = []
    curves: dict[int, np.ndarray] = {}
    now, count = 0.0, 0
    while used < BUDGET - 1e-9:
        while idle and (training := search.ask(BUDGET - used)) is not None:
            if training.number not in curves:
                curves[training.number] = curve_of(training.point)
            heapq.heappush(ahead, (now + seconds(training), count, training))
            idle, count = idle - 1, count + 1
        if not ahead:
            break
        now, _, training = heapq.heappop(ahead)
        curve = curves[training.number]
        training.losses.append(float(curve[len(training.losses)]))
        used += seconds(training)
        if math.isfinite(training.losses[-1]):
            best = min(best, training.losses[-1])
        seen.append((used, (best - table.best) / (table.usual - table.best) if math.isfinite(best) else 1.0))
        is_over = len(training.losses) == len(curve)
        if search.told(training, is_over=is_over) or is_over:
            idle += 1
        else:
            heapq.heappush(ahead, (now + seconds(training), count, training))
            count += 1
    return on_grid(seen)


# --- the comparison ---------------------------------------------------------------------------------------
def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog="Example: python benchmarks/search_efficiency.py --tables FOLDER --seeds 4 --workers 1 16",
    )
    parser.add_argument(
        "--tables", type=Path, help="holds tables/*.npz, and lcbench/ or not; none: the own table alone"
    )
    parser.add_argument("--own", type=Path, default=OWN, help="the own table")
    parser.add_argument("--seeds", type=int, default=16, help="searches of each method on each table; own: four times")
    parser.add_argument("--first-seed", type=int, default=100, help="the others count up from here")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4, 16], help="trainings at the same time")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=_installed())
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of tables")
    parser.add_argument("--datasets", type=int, default=6, help="of LCBench; from the fourth on they are held-out")
    parser.add_argument("--out", type=Path, help="a JSON-lines file of all searches; what it has is not repeated")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    print_setting()
    tables: list[Table | OwnTable] = []
    if args.tables is not None:
        recorded = list(recorded_tables(args.tables / "tables"))
        tables += [*recorded, *lcbench_tables(args.tables / "lcbench", args.datasets), *mixed_tables(recorded)]
    tables += [own] if (own := own_table(args.own)) else []
    tables = [table for table in tables if table.kind in args.kinds]
    print(f"{args.seeds} seeds from {args.first_seed}, {BUDGET:g} trainings each, tables: {[t.name for t in tables]}")
    done = {}
    if args.out is not None and args.out.exists():
        done = {tuple(key): value for key, value in map(json.loads, args.out.read_text().splitlines())}
    alones: dict[tuple[str, str], float] = {}  # areas with one worker
    worst, seeds = 0.0, range(args.first_seed, args.first_seed + args.seeds)
    methods = list(dict.fromkeys(["random", *args.methods]))
    for workers in args.workers:
        areas: dict[tuple[str, str], dict[int, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
        began = time.process_time()
        for method in methods:
            for table in [table for table in tables if _fits(method, table)]:
                for seed in _seeds_of(table, seeds):
                    key = (method, table.name, seed, workers)
                    if key not in done:
                        done[key] = _searched(method, table, seed, workers).tolist()
                        if args.out is not None:
                            with Path(args.out).open("a") as file:
                                file.write(json.dumps([key, done[key]]) + "\n")
                    areas[method, table.kind][seed].append(np.array(done[key]))
        print(f"\n{workers} worker{'s' * (workers > 1)} ({time.process_time() - began:.0f} CPU-s)")
        print(f"  {'method':<16}{'tables':<10}{'area / random':<22}{'/ 1 worker':<12}{'regret at 10':<14}at {BUDGET:g}")
        for method in methods:
            for kind in dict.fromkeys(table.kind for table in tables if (method, table.kind) in areas):
                mine, base = areas[method, kind], areas["random", kind]
                ratio, low, high = ratio_of(mine, base)
                if method == "mmtune" and workers == 1:
                    worst = max(worst, ratio)
                curve = np.mean([run for runs in mine.values() for run in runs], axis=0)
                alone = curve.mean() if workers == 1 else alones.get((method, kind), math.nan)
                alones[method, kind] = alone
                at_ten = curve[int((POINTS - 1) * math.log(10) / math.log(BUDGET))]
                area = f"{ratio:.2f} [{low:.2f}, {high:.2f}]"
                print(f"  {method:<16}{kind:<10}{area:<22}{curve.mean() / alone:<12.2f}{at_ten:<14.3f}{curve[-1]:.3f}")
    if own in tables:
        print(compare_seconds(own, _seeds_of(own, seeds), trainings=BUDGET))
    print(f"ratio: {worst:.3f}")


def _seeds_of(table: Table | OwnTable, seeds: range) -> range:
    """Of the own table four times as many: it is one, and which of few dear configurations are drawn decides much."""
    return range(seeds.start, seeds.start + _MORE * len(seeds)) if isinstance(table, OwnTable) else seeds


def _installed() -> list[str]:
    return [method for method in METHODS if find_spec(NEEDS.get(method, "numpy"))]


def _fits(method: str, table: Table | OwnTable) -> bool:
    if isinstance(table, OwnTable):
        return method in SETTINGS
    return table.kind == "mixed" or method not in _MIXED


def _searched(method: str, table: Table | OwnTable, seed: int, workers: int) -> np.ndarray:
    if isinstance(table, OwnTable):
        return on_grid(table.found(method, seed, workers=workers, trainings=BUDGET))
    draws = zlib.crc32(f"{table.name} {seed}".encode())  # no two tables share their luck
    return regrets(table, METHODS[method](table, draws), workers)


if __name__ == "__main__":
    main()
