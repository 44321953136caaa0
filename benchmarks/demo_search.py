"""Wall seconds until mmtune reaches the validation accuracy that plain Ray Tune ends with, on the demo search.

plain: a Tune function per trial with stock ASHA and OptunaSearch (define-by-run, the file's ``try_first`` as
``points_to_evaluate``), as a competent user of Ray would write it: one CPU and one thread a trial, as many trials at a
time as there are cores, no caches. Each trial loads its encoders and, every epoch, decodes, tokenises (padded to the
file's ``max_text_len``) and runs the locked encoders over every sample (``plain.py``). Families, models, initial
weights, learning rate schedule, batch size, epochs, trials, seeds and ASHA's settings are those of
``search_spaces/demo/openclipart.yaml``; UDA is left out, since a plain script has no augmented texts.

mmtune: ``mmtune run demo/openclipart`` from an empty cache.

Each side is a process of its own, timed from its start by who starts it. Plain runs first, until its trials are done or
``--plain-minutes`` are over; S is its best accuracy, t_plain when it was first reached. t_mmtune is when mmtune first
reports S or better. The ratio is t_plain / t_mmtune, 0 if mmtune never gets there.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from setting import print_setting, scratch_folder

_SEARCH = "demo/openclipart"
_METRIC = "val_accuracy"
_GRACE = 4  # the file's grace_epochs, which a shorter trial has to lower
_SLACK = 1e-6  # accuracies are the same fraction computed in two ways


class Point(NamedTuple):
    """One report of one side."""

    seconds: float  # since the side's process started
    trial: str
    epoch: int
    value: float


class Side(NamedTuple):
    """What was seen of one side."""

    points: list[Point]
    seconds: float  # from start to end
    load: float  # the machine's load average meanwhile, its mean


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog="Example: python benchmarks/demo_search.py --plain-minutes 4 --trials 12",
    )
    parser.add_argument("--plain-minutes", type=float, default=12.0, help="the most that plain Ray Tune may take")
    parser.add_argument("--trials", type=int, default=24, help="trials of both sides")
    parser.add_argument("--epochs", type=int, default=12, help="epochs of a trial that is not stopped")
    parser.add_argument("--plain-side", metavar="FOLDER", help=argparse.SUPPRESS)  # the process of the plain side
    args = parser.parse_args()
    if args.plain_side is not None:
        return run_plain_side(Path(args.plain_side), args)

    from mmtune.spec.search_spec import load_spec
    from mmtune.spec.shipped import find_search_file

    load_spec(find_search_file(_SEARCH), overrides=_overrides(args))  # says what is wrong before anything runs
    print_setting()
    with scratch_folder() as folder:
        (folder / "plain").mkdir()
        numbers = ["--trials", str(args.trials), "--epochs", str(args.epochs)]
        command = [sys.executable, __file__, "--plain-side", str(folder / "plain"), *numbers]
        plain = watch([*command, "--plain-minutes", str(args.plain_minutes)], folder / "plain" / "reports.csv", folder)
        command = [sys.executable, "-m", "mmtune.cli", "run", _SEARCH, "--storage", str(folder), "--name", "study"]
        command += [part for override in _overrides(args) for part in ("--set", override)]
        ours = watch(command, folder / "study" / "reports.csv", folder)
    print_side("plain", plain)
    print_side("mmtune", ours)
    print_comparison(plain.points, ours.points)


def _overrides(args: argparse.Namespace) -> list[str]:
    values = {"budget.trials": args.trials, "fixed.epochs": args.epochs}
    if args.epochs < _GRACE:
        values["scheduler.grace_epochs"] = args.epochs
    return [f"{key}={value}" for key, value in values.items()]


# --- running both sides -----------------------------------------------------------------------------------
def watch(command: Sequence[str], reports: Path, folder: Path) -> Side:
    """Runs a side to its end, and notes its reports as they come in.

    Raises:
        RuntimeError: it failed, or reported nothing.
    """
    log = folder / "side.log"
    points: list[Point] = []
    loads: list[float] = []
    with log.open("w") as out:
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            is_running = True
            while is_running:
                is_running = process.poll() is None
                rows = _read_rows(reports)
                seconds = time.monotonic() - began
                points += [
                    Point(seconds, row["trial"], int(row["epoch"]), float(row[_METRIC])) for row in rows[len(points) :]
                ]
                loads.append(os.getloadavg()[0])
                time.sleep(0.1 if is_running else 0)
            seconds = time.monotonic() - began
        finally:
            if process.poll() is None:  # we were interrupted: it closes Ray by itself
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(timeout=60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
    if process.returncode != 0 or not points:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{tail}")
    return Side(points, seconds, sum(loads) / len(loads))


def _read_rows(path: Path) -> list[dict[str, str]]:
    """Whole lines of a side's reports."""
    if not path.exists():
        return []
    text = path.read_text()
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))


# --- figures ----------------------------------------------------------------------------------------------
def improvements(points: Sequence[Point]) -> list[Point]:
    """The points that were better than all before."""
    best: list[Point] = []
    for point in points:
        if not best or point.value > best[-1].value:
            best.append(point)
    return best


def first_at(points: Sequence[Point], value: float) -> Point | None:
    """The first point with ``value`` or better."""
    return next((point for point in points if point.value >= value - _SLACK), None)


def print_side(name: str, side: Side) -> None:
    """A side's totals, and when its best so far went up."""
    points, best = side.points, improvements(side.points)
    trials = len({point.trial for point in points})
    print(f"\n{name}: {trials} trials, {len(points)} epochs in {side.seconds:.0f} s at a mean load of {side.load:.1f}")
    print(f"  first report after {points[0].seconds:.1f} s; best {_METRIC} {best[-1].value:.4f}")
    for point in best if len(best) <= 12 else [best[0], *best[-11:]]:
        print(f"  {point.seconds:7.1f} s  {point.value:.4f}  {point.trial} epoch {point.epoch}")


def print_comparison(plain: Sequence[Point], ours: Sequence[Point]) -> None:
    """When each side reached what plain reached, and the ratio at plain's best."""
    print("\naccuracy  plain s  mmtune s  ratio")
    steps = improvements(plain)
    for point in steps[-8:]:
        mine = first_at(ours, point.value)
        reached = f"{mine.seconds:8.1f}  {point.seconds / mine.seconds:5.1f}" if mine else "   never"
        print(f"  {point.value:.4f}  {point.seconds:7.1f}  {reached}")
    target, mine = steps[-1], first_at(ours, steps[-1].value)
    if mine is None:
        best = improvements(ours)[-1].value
        print(f"mmtune never reached {target.value:.4f}: its best after {ours[-1].seconds:.0f} s is {best:.4f}")
        print("ratio: 0")
        return
    print(f"ratio: {target.seconds / mine.seconds:.1f}")


# --- plain Ray Tune -----------------------------------------------------------------------------------------
def run_plain_side(folder: Path, args: argparse.Namespace) -> None:
    """The search as a plain script: writes reports.csv into ``folder``."""
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    from mmtune.search.schedulers import AshaOptions
    from mmtune.spec.search_spec import load_spec
    from mmtune.spec.shipped import find_search_file

    spec = load_spec(find_search_file(_SEARCH), overrides=_overrides(args))
    fixed = {key: value for key, value in spec.fixed.items() if not key.startswith("uda.")}
    fixed |= {"dataset": spec.dataset, "objective": _METRIC, "seed": spec.fixed.get("seed", 1)}
    slots = len(os.sched_getaffinity(0))

    class Reports(tune.Callback):
        """A line per report, as it reaches the driver."""

        def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
            path = folder / "reports.csv"
            is_new = not path.exists()
            with path.open("a") as file:
                file.write(f"trial,epoch,{_METRIC}\n" * is_new)
                file.write(f"{trial.trial_id}-{trial.config['family']},{result['epoch']},{result[_METRIC]!r}\n")

        def __reduce__(self) -> Any:
            return tune.Callback, ()

    asha = spec.scheduler.options
    assert isinstance(asha, AshaOptions)
    ray.init("local", num_cpus=slots, include_dashboard=False, log_to_driver=False, object_store_memory=256 * 2**20)
    try:
        tune.Tuner(
            tune.with_resources(plain_trial, {"CPU": 1}),
            tune_config=tune.TuneConfig(
                num_samples=args.trials,
                max_concurrent_trials=slots,
                time_budget_s=60 * args.plain_minutes,
                search_alg=OptunaSearch(
                    PlainSpace(fixed), metric=_METRIC, mode="max", seed=spec.sampler.seed,
                    points_to_evaluate=[_plain_names(row) for row in spec.try_first],
                ),
                scheduler=ASHAScheduler(
                    time_attr="epoch", metric=_METRIC, mode="max", max_t=spec.epochs,
                    grace_period=asha.grace_epochs, reduction_factor=spec.rules.eta,
                ),
            ),
            run_config=tune.RunConfig(
                name="plain", storage_path=str(folder), verbose=0, callbacks=[Reports()],
            ),
        ).fit()  # fmt: skip
    finally:
        ray.shutdown()


class PlainSpace:
    """The space of search_spaces/demo/openclipart.yaml as an Optuna function, without UDA."""

    def __init__(self, fixed: dict[str, Any]) -> None:
        self.fixed = fixed

    def __call__(self, trial: Any) -> dict[str, Any]:
        family = trial.suggest_categorical("family", ["text", "image", "fusion", "lit_tirg"])
        if family == "lit_tirg":
            trial.suggest_float("optim.lr_lit_tirg", 1e-4, 2e-3, log=True)
            trial.suggest_float("model.tirg_w_r", 0.1, 20.0, log=True)
        else:
            trial.suggest_float("optim.lr", 3e-4, 1e-2, log=True)
        if family == "fusion":
            kind = trial.suggest_categorical("model.kind", ["early", "late"])
            if kind == "late":
                trial.suggest_categorical("model.merge", ["logit_mean", "prob_mean", "logit_weighted"])
        trial.suggest_categorical("model.hidden", [128, 256, 512])
        trial.suggest_float("model.dropout", 0.0, 0.5)
        return {"fixed": self.fixed}  # Ray adds what was suggested


_ALWAYS = {  # the file's parameters with one choice
    "text": {"model.lock_text": True},
    "image": {"model.lock_image": True},
    "fusion": {},
    "lit_tirg": {"model.joint_layers": 1, "model.num_image_tokens": 4, "model.pool_f": "mean"},
}


def _plain_names(row: Any) -> dict[str, Any]:
    """A row of try_first in the names of PlainSpace."""
    lr = "optim.lr_lit_tirg" if row["family"] == "lit_tirg" else "optim.lr"
    return {lr if key == "optim.lr" else key: value for key, value in row.items() if not key.startswith("uda.")}


def plain_trial(config: dict[str, Any]) -> None:
    """One trial of plain Ray Tune: a training script with ``tune.report``."""
    import torch
    from plain import PlainDataset, accuracy, plain_model, train_epoch
    from ray import tune
    from torch.utils.data import DataLoader
    from transformers import get_linear_schedule_with_warmup

    from trainables.config import TrialConfig
    from trainables.seeds import derive_seed

    torch.set_num_threads(1)
    params = {key: value for key, value in config.items() if key != "fixed"}
    if "optim.lr_lit_tirg" in params:
        params["optim.lr"] = params.pop("optim.lr_lit_tirg")
    trial_config = TrialConfig.from_params({**config["fixed"], **_ALWAYS[params["family"]], **params})
    optim, size = trial_config.optim, trial_config.batch_size
    datasets = {
        split: PlainDataset(trial_config, split=split, max_length=trial_config.max_text_len)
        for split in ("train", "val")
    }
    generator = torch.Generator().manual_seed(trial_config.seed)
    train = DataLoader(datasets["train"], batch_size=size, shuffle=True, generator=generator)
    val = DataLoader(datasets["val"], batch_size=trial_config.eval_batch_size)
    model = plain_model(trial_config, datasets["train"].task)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=optim.lr, weight_decay=optim.weight_decay)
    steps = trial_config.epochs * len(train)
    schedule = get_linear_schedule_with_warmup(optimizer, round(optim.warmup_ratio * steps), steps)
    for epoch in range(1, trial_config.epochs + 1):
        torch.manual_seed(derive_seed(trial_config.seed, "epoch", epoch))
        loss = train_epoch(model, train, optimizer, schedule=schedule, grad_clip=optim.grad_clip)
        tune.report({"epoch": epoch, "train_loss": loss, _METRIC: accuracy(model, val)})


if __name__ == "__main__":
    main()
