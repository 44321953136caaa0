"""Seconds between trials: mmtune's slot against a plain Tune function that builds a TorchTrainer per trial.

Measured on both sides is the time from the end of a trial's last epoch (trained, validated, checkpointed) to the end
of the next trial's first optimiser step, so everything in between counts: the report, the scheduler, the sampler, the
study's files, processes and imports where there are any, opening the data, building the model, DDP, and that step.

Both sides train the same configurations with the same loop (``trainables.loop.train``: tiny-bert and tiny-cnn, early
fusion, a few hundred rows), one trial at a time, with the same cache, already filled. In the workers of both sides two
functions of the loop are wrapped to append a line ``event trial time.time()`` to a file; mmtune itself is not changed.

slot: a real study, with everything that ``mmtune run`` does. plain: Ray's documented pattern for Tune with Train V2,
with stock OptunaSearch, and at its best: health checks every 0.1 s, no preemption watcher, no Train metrics, the
dashboard off, the driver actor reused from trial to trial and free of charge.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setting import print_setting, scratch_folder

if TYPE_CHECKING:
    from trainables.state import State

_SPEC = """
study: overhead
family: fusion
dataset: openclipart
objectives: [{{metric: val_accuracy, mode: max}}]
fixed:
  epochs: {epochs}
  max_train_rows: 256
  max_text_len: 16
  image_size: 32
  precision: fp32
  model.text_encoder: tiny-bert
  model.image_encoder: tiny-cnn
  model.lock_text: false
  model.lock_image: false
space:
  optim.lr: {{type: float, low: 1.0e-4, high: 1.0e-2, log: true}}
  model.hidden: {{type: int, low: 32, high: 256}}
sampler: {{name: tpe, seed: 1}}
scheduler: {{name: none}}
budget: {{trials: {trials}}}
resources: {{workers: {workers}, cpus_per_worker: 1, concurrent_trials: 1}}
"""
_PLAIN_ENVIRONMENT = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1"}  # beside what mmtune sets for both sides


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog="Example: python benchmarks/trial_overhead.py --trials 6 --plain-trials 3 --workers 1",
    )
    parser.add_argument("--trials", type=int, default=16, help="trials of the slot; one fewer gaps are measured")
    parser.add_argument("--plain-trials", type=int, default=5, help="trials of the plain side, 15 to 35 s each")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="ranks of a trial; each is measured")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of a trial")
    args = parser.parse_args()
    if min(args.trials, args.plain_trials) < 3:
        parser.error("--trials and --plain-trials: at least 3")

    print_setting()
    ratios = []
    with scratch_folder() as folder:
        fill_cache(args.epochs)
        for workers in args.workers:
            print(f"\n{workers} worker{'s' * (workers > 1)} (gloo), {args.epochs} epochs a trial")
            slot = measure(run_slot, folder / f"slot-{workers}", args.trials, workers, args.epochs)
            plain = measure(run_plain, folder / f"plain-{workers}", args.plain_trials, workers, args.epochs)
            _print_side("slot", slot)
            _print_side("plain", plain)
            ratios.append(statistics.median(plain[1]) / statistics.median(slot[1]))
            load = os.getloadavg()[0]
            print(f"  plain / slot: {ratios[-1]:.0f} (medians; load now {load:.2f})", flush=True)
    print(f"ratio: {min(ratios):.1f}")


def _print_side(side: str, measured: tuple[float, list[float]]) -> None:
    start, gaps = measured
    listed = " ".join(f"{gap:.3f}" for gap in gaps)
    print(f"  {side:<5} median {statistics.median(gaps):.3f} s, from {min(gaps):.3f} to {max(gaps):.3f}: {listed}")
    print(f"  {'':<5} start to the first step of the first trial {start:.1f} s", flush=True)


def fill_cache(epochs: int) -> None:
    """Prepares the data, so that no side pays for it."""
    from mmtune.spec.search_spec import load_spec
    from trainables.data.open import open_data

    config = load_spec(_SPEC.format(epochs=epochs, trials=1, workers=1)).trial_config({"optim.lr": 1e-3})
    open_data(config)


def measure(run: Any, folder: Path, trials: int, workers: int, epochs: int) -> tuple[float, list[float]]:
    """Seconds until the first step of all, and the seconds between each two trials."""
    folder.mkdir()
    events = folder / "events.txt"
    text = _SPEC.format(epochs=epochs, trials=trials, workers=workers)
    began = time.time()
    run(text, folder, events)
    first, last = _read_events(events)
    order = sorted(first, key=first.__getitem__)
    if len(order) != trials or first.keys() != last.keys():
        raise RuntimeError(f"{len(order)} of {trials} trials left their times in {events}")
    gaps = [first[later] - last[earlier] for earlier, later in itertools.pairwise(order)]
    return first[order[0]] - began, gaps


def _read_events(path: Path) -> tuple[dict[str, float], dict[str, float]]:
    """trial -> its first optimiser step's end, and -> its last epoch's end."""
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for line in path.read_text().splitlines():
        event, trial, seconds = line.split()
        if event == "step":
            first.setdefault(trial, float(seconds))
        else:
            last[trial] = float(seconds)
    return first, last


def watch_loop(events: str) -> None:
    """Runs in a worker: from now on rank 0 writes down each trial's first step and the end of each epoch."""
    from trainables import loop, step

    take_step, fit_epoch = step.take_step, loop.fit_epoch
    seen: set[str] = set()

    def write(event: str, state: State) -> None:
        if state.ranks.rank == 0:
            with open(events, "a") as file:
                file.write(f"{event} {state.folder.name} {time.time():.4f}\n")

    def watched_step(state: State) -> Any:
        result = take_step(state)
        if state.folder.name not in seen:
            seen.add(state.folder.name)
            write("step", state)
        return result

    def watched_epoch(state: State) -> dict[str, Any]:
        row = fit_epoch(state)
        write("epoch", state)
        return row

    step.take_step, loop.fit_epoch = watched_step, watched_epoch


# --- slot -----------------------------------------------------------------------------------------------
def run_slot(text: str, folder: Path, events: Path) -> None:
    """A real study; its workers run ``serve`` after ``watch_loop``."""
    import mmtune.slots.pool
    from mmtune.spec.search_spec import load_spec
    from mmtune.study.create import create_study
    from mmtune.study.run import run_study

    serve, path = mmtune.slots.pool.serve, str(events)

    def watched_serve(settings: dict[str, Any]) -> None:
        from mmtune.slots.worker import serve

        watch_loop(path)
        serve(settings)

    mmtune.slots.pool.serve = watched_serve
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            ending = run_study(create_study(load_spec(text), storage=folder))
    finally:
        mmtune.slots.pool.serve = serve
    if not ending.is_complete:
        raise RuntimeError(f"the study did not finish: {ending.error}\n{said.getvalue()}")


# --- plain ----------------------------------------------------------------------------------------------
def run_plain(text: str, folder: Path, events: Path) -> None:
    """Tune over a function that builds a TorchTrainer, as Ray documents it."""
    from mmtune.slots.cluster import HEAD, ray_session
    from mmtune.spec.search_spec import load_spec

    before = {key: os.environ.get(key) for key in _PLAIN_ENVIRONMENT}
    os.environ.update(_PLAIN_ENVIRONMENT)
    spec = load_spec(text)
    try:
        with ray_session(None):
            from ray import tune
            from ray.tune.search.optuna import OptunaSearch

            fixed = {**spec.config_params({}), "optim.lr": 1e-3}
            settings = {"fixed": fixed, "folder": str(folder), "events": str(events),
                        "workers": spec.resources.workers}  # fmt: skip
            searcher = OptunaSearch(metric="val_accuracy", mode="max", seed=1)
            results = tune.Tuner(
                tune.with_resources(plain_driver, {"CPU": 0, HEAD: 0.0001}),
                param_space={"lr": tune.loguniform(1e-4, 1e-2), "hidden": tune.randint(32, 257), **settings},
                tune_config=tune.TuneConfig(
                    num_samples=spec.budget.trials or 1, search_alg=searcher, max_concurrent_trials=1,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(name="plain", storage_path=str(folder), verbose=0),
            ).fit()  # fmt: skip
            if results.num_errors:
                raise RuntimeError(f"the plain side failed: {results.errors[0]}")
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})


def plain_driver(config: dict[str, Any]) -> None:
    """One trial: drives a TorchTrainer of its own."""
    import ray.train
    from ray import tune
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    trial = tune.get_context().get_trial_id()
    TorchTrainer(
        plain_train,
        train_loop_config={**config, "trial": trial},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ray.train.ScalingConfig(num_workers=config["workers"], resources_per_worker={"CPU": 1}),
        run_config=ray.train.RunConfig(
            name=f"train-{trial}", storage_path=f"{config['folder']}/runs", callbacks=[TuneReportCallback()]
        ),
    ).fit()


def plain_train(config: dict[str, Any]) -> None:
    """What each worker of a trial runs: mmtune's loop, with Ray Train's own report after every epoch."""
    import ray.train
    import torch
    import torch.distributed
    from ray.train.torch import get_device

    from trainables import loop
    from trainables.config import TrialConfig
    from trainables.ranks import Ranks

    torch.set_num_threads(1)
    watch_loop(config["events"])
    context = ray.train.get_context()
    world = context.get_world_size()
    group = torch.distributed.group.WORLD if world > 1 else None
    ranks = Ranks(rank=context.get_world_rank(), world=world, device=get_device(), group=group)
    params = {**config["fixed"], "optim.lr": config["lr"], "model.hidden": config["hidden"]}
    state = loop.setup(TrialConfig.from_params(params), folder=Path(config["folder"]) / config["trial"], ranks=ranks)
    while state.progress.reason is None:  # loop.train, but Ray wants a report from every rank
        ray.train.report(loop.fit_epoch(state))
    loop.outcome(state, state.progress.reason)


if __name__ == "__main__":
    main()
