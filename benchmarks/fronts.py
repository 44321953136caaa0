"""Several objectives and early stopping at once: how soon a search has the front, replayed on this project's table.

Accuracy and a price, ``device_seconds`` (what a trial took) or ``peak_memory_gib``: searches of all twelve families are
replayed by :mod:`mmtune.study.simulate`, as in ``own_table.py``, and what counts is the hypervolume of the front of the
trials so far, as a share of that of all recorded trials (``mmtune.study.box``).

Methods: ``random`` trains each configuration whole, ``nsga2`` is Optuna's with the same, ``random+stop`` is random
search with ASHA that stops by accuracy (grace 3); ``promote+random`` is mmtune's schedule, whose rungs rank by fronts,
with random proposals; ``first only`` is mmtune told nothing but the accuracy; ``mmtune`` is the default.

Score: what is missing of the hypervolume, the mean over the logarithm of the budget from 1 to 30 trainings, as the
ratio to random's on the same seeds with a 90 % interval by bootstrap; in brackets what is missing in the end. The last
line is mmtune's worst ratio.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace

import numpy as np
from own_table import SETTINGS, OwnTable, own_table
from regret import BUDGET, on_grid, ratio_of
from setting import print_setting

from mmtune.spec.sections import Objective
from mmtune.study.box import Box
from mmtune.study.simulate import simulate

_FIRST = "first only"
METHODS = {
    **{name: SETTINGS[name] for name in ("random", "random+stop", "promote+random", "mmtune")},
    "nsga2": ("none", "nsga2", None),
    _FIRST: SETTINGS["mmtune"],
}
PRICES = ("device_seconds", "peak_memory_gib")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0], epilog="Example: python benchmarks/fronts.py --seeds 8"
    )
    parser.add_argument("--seeds", type=int, default=32, help="searches of each method")
    parser.add_argument("--first-seed", type=int, default=100, help="the others count up from here")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print_setting()
    worst, seeds = 0.0, range(args.first_seed, args.first_seed + args.seeds)
    for price in PRICES:
        table = own_table(others=[price])
        if table is None:
            return
        box = Box(table.recordings, [("val_accuracy", "max"), (price, "min")])
        print(f"\nval_accuracy and {price}, {BUDGET:g} trainings, {args.seeds} seeds from {args.first_seed}")
        missing = {}
        for method in dict.fromkeys(["random", *args.methods]):
            missing[method] = {seed: [_missing(table, box, price, method, seed)] for seed in seeds}
            ratio, low, high = ratio_of(missing[method], missing["random"])
            if method == "mmtune":
                worst = max(worst, ratio)
            end = np.mean([curves[0][-1] for curves in missing[method].values()])
            print(f"  {method:<16}{ratio:.2f} [{low:.2f}, {high:.2f}]  ({end:.3f})", flush=True)
    print(f"ratio: {worst:.3f}")


def _missing(table: OwnTable, box: Box, price: str, method: str, seed: int) -> np.ndarray:
    """Of the whole front's hypervolume, at the budgets of :func:`regret.on_grid`."""
    spec = table.searched_by(*METHODS[method], seed=seed)
    if method != _FIRST:
        spec = replace(spec, objectives=(Objective(metric="val_accuracy"), Objective(metric=price)))
    searched = simulate(spec, table.recordings, workers=1, seconds=BUDGET * table.training, trials=None)
    now: dict[str, tuple[float, ...]] = {}
    curve = []
    for spent, trial, point in searched.points:
        now[trial] = point
        curve.append((spent / table.training, 1 - (box.share_of(np.array(list(now.values()))) or 0.0)))
    return on_grid(curve)


if __name__ == "__main__":
    main()
