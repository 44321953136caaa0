"""What a search gains by ``learn_from``: the same search with what it learnt on other data, beside it without.

Recorded curves stand for trainings, as in ``search_efficiency.py``, and the score is the same: regret averaged over the
logarithm of a budget from 1 to 30 whole trainings. The old study is mmtune's own search of another table of the same
space, with the same budget and a seed of its own. ``next`` learns from the table behind it, ``all`` from every other
one, ``wrong`` from a study whose ranks are turned round, so that it recommends its worst.

A line a setting: the ratio of its area to that of the same search without, on the same tables and seeds, with a 90 %
interval by bootstrap over the seeds; regret after 1, 3, 10 and 30 trainings. The last line is ``next``'s worst ratio
over the kinds of tables.
"""

from __future__ import annotations

import argparse
import math
import zlib
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from curves import Table, lcbench_tables, recorded_tables
from regret import BUDGET, POINTS, ratio_of
from search_efficiency import Promotion, regrets
from setting import print_setting

from mmtune.search.kernels import place_of
from mmtune.search.lessons import Lesson, lessons_of

_AT = (1, 3, 10, 30)  # trainings
SETTINGS = ("next", "all", "wrong")


def draws(table: Table, seed: int) -> int:
    """The seed of a search: no two tables share their luck."""
    return zlib.crc32(f"{table.name} {seed}".encode())


def taught(table: Table, seed: int) -> list[Lesson]:
    """What a search of a table teaches."""
    search = Promotion(table, draws(table, 1000 + seed))
    regrets(table, search, 1)
    members, space = search.members, search.space
    rungs, places = search.rules.rungs, partial(place_of, space)
    return list(lessons_of(table.name, members, rungs, names=str, places=places))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog="Example: python benchmarks/learn_from.py --tables FOLDER --seeds 4",
    )
    parser.add_argument("--tables", type=Path, required=True, help="the folder with tables/ and lcbench/")
    parser.add_argument("--seeds", type=int, default=16, help="searches of each table; default: 16")
    parser.add_argument("--first-seed", type=int, default=0, help="the first seed; default: 0")
    parser.add_argument("--datasets", type=int, default=6, help="of LCBench, at most 6; default: 6")
    arguments = parser.parse_args()
    print_setting()
    surrogate = lcbench_tables(arguments.tables / "lcbench", arguments.datasets)
    kinds = [[*recorded_tables(arguments.tables / "tables")], [*surrogate]]
    worst = 0.0
    for tables in kinds:
        if not tables:
            continue
        found: dict[str, dict[int, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            lessons = [taught(table, seed) for table in tables]
            for at, table in enumerate(tables):
                behind = lessons[(at + 1) % len(tables)]
                learnt = {
                    "without": [],
                    "next": behind,
                    "all": [lesson for number, some in enumerate(lessons) if number != at for lesson in some],
                    "wrong": [replace(lesson, rank=lesson.of + 1 - lesson.rank) for lesson in behind],
                }
                for name, some in learnt.items():
                    search = Promotion(table, draws(table, seed), lessons=some)
                    found[name][seed].append(regrets(table, search, 1))
        print(f"{tables[0].kind}: {len(tables)} tables, {arguments.seeds} seeds; regret after {_AT} trainings")
        for name, mine in found.items():
            ratio, low, high = ratio_of(mine, found["without"])
            curve = np.mean([run for runs in mine.values() for run in runs], axis=0)
            shown = ", ".join(f"{curve[int((POINTS - 1) * math.log(at) / math.log(BUDGET))]:.3f}" for at in _AT)
            print(f"  {name:<10}{ratio:.2f} [{low:.2f}, {high:.2f}]  {shown}")
            if name == "next":
                worst = max(worst, ratio)
    print(f"ratio: {worst:.3f}")


if __name__ == "__main__":
    main()
