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
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from own_table import GRACE, OwnTable, own_table, with_price
from regret import BUDGET, on_grid, ratio_of
from setting import print_setting

from mmtune.search.schedulers import SCHEDULERS
from mmtune.spec.sections import Objective, SchedulerSpec
from mmtune.study.box import Box
from mmtune.study.simulate import simulate, with_setting

METHODS: Mapping[str, tuple[str, str]] = {  # scheduler and sampler
    "random": ("none", "random"),
    "nsga2": ("none", "nsga2"),
    "random+stop": ("asha_stopping", "random"),
    "promote+random": ("asha", "random"),
    "first only": ("asha", "parzen"),
    "mmtune": ("asha", "parzen"),
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
    table = own_table()
    if table is None:
        return
    worst, seeds = 0.0, range(args.first_seed, args.first_seed + args.seeds)
    for price in PRICES:
        print(f"\nval_accuracy and {price}, {BUDGET:g} trainings, {args.seeds} seeds from {args.first_seed}")
        missing = {}
        for method in dict.fromkeys(["random", *args.methods]):
            missing[method] = {seed: [_missing(table, price, method, seed)] for seed in seeds}
            ratio, low, high = ratio_of(missing[method], missing["random"])
            if method == "mmtune":
                worst = max(worst, ratio)
            end = np.mean([curves[0][-1] for curves in missing[method].values()])
            print(f"  {method:<16}{ratio:.2f} [{low:.2f}, {high:.2f}]  ({end:.3f})", flush=True)
    print(f"ratio: {worst:.3f}")


def _missing(table: OwnTable, price: str, method: str, seed: int) -> np.ndarray:
    """Of the whole front's hypervolume, at the budgets of :func:`regret.on_grid`."""
    scheduler, sampler = METHODS[method]
    objectives = [("val_accuracy", "max"), (price, "min")]
    spec = with_setting(table.spec, sampler=sampler, scheduler=scheduler, seed=seed)
    if scheduler == "asha_stopping":
        options = SCHEDULERS[scheduler].options.model_validate({"grace_epochs": GRACE})
        spec = replace(spec, scheduler=SchedulerSpec(name=scheduler, options=options))
    if method != "first only":
        spec = replace(spec, objectives=tuple(Objective(metric=name) for name, _ in objectives))
    recordings = with_price(table, price)
    box = Box(recordings, objectives)
    searched = simulate(spec, recordings, workers=1, seconds=BUDGET * table.training, trials=None)
    now: dict[str, tuple[float, ...]] = {}
    curve = []
    for spent, trial, point in searched.points:
        now[trial] = point
        curve.append((spent / table.training, 1 - (box.share_of(np.array(list(now.values()))) or 0.0)))
    return on_grid(curve)


if __name__ == "__main__":
    main()
