"""A study from its first second to its last: create, plan, run, resume.

Resuming does not use Tuner.restore, which restarts silently from a truncated snapshot, forgets ASHA's rungs
and can repeat epochs. The study folder is the state: Optuna's journal has the trials and their parameters,
reports.csv every epoch, and each trial's checkpoint its own reports. A session builds a new Tuner around
them, hands out unfinished trials under their own ids, and each goes on from its checkpoint.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

import mmtune
from mmtune import records
from mmtune.records import StudyFolder
from mmtune.slots.cluster import HEAD, Node, cluster_nodes, local_node, ray_session, workers_that_fit
from mmtune.spec.search_spec import SearchSpec, load_spec
from trainables.files import write_atomic

_PACKAGES = ("ray", "torch", "torchvision", "transformers", "optuna", "numpy", "pandas")
_MAX_CRASHES = 3  # sessions of Tune in a row that ended with an exception and without a new report

_interrupted = threading.Event()


# --- creating -----------------------------------------------------------------------------------------
def new_folder(spec: SearchSpec, storage: str | Path) -> StudyFolder:
    """Where the study of ``spec`` would go; makes nothing.

    Raises:
        ValueError: something is there already.
    """
    folder = StudyFolder(Path(storage).expanduser().resolve() / spec.study)
    if folder.root.exists() and (not folder.root.is_dir() or any(folder.root.iterdir())):
        is_study = folder.info.exists()
        advice = f"go on with it: mmtune resume {folder.root}" if is_study else "it is not a study"
        raise ValueError(f"study '{spec.study}' exists in {folder.root.parent}; {advice}, or choose another --name")
    return folder


def create_study(spec: SearchSpec, *, storage: str | Path, data_dir: str | None = None) -> StudyFolder:
    """A new study folder with its spec and study.json.

    Raises:
        ValueError: the folder exists.
    """
    folder = new_folder(spec, storage)
    info = {
        "study": spec.study,
        "mmtune": mmtune.__version__,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "git_commit": _git_commit(),
        "argv": sys.argv,
        "started": _now(),
        "seeds": {"sampler": spec.sampler.seed, "trial": spec.fixed.get("seed", 1)},
        "params": list(spec.space.keys),
        "objectives": [{"metric": item.metric, "mode": item.mode} for item in spec.objectives],
        "max_epochs": spec.epochs,
        "budget": vars(spec.budget),
        "data_dir": None if data_dir is None else str(Path(data_dir).expanduser().resolve()),
        "sessions": [],
    }
    temporary = folder.root.with_name(f".{folder.root.name}.{os.getpid()}.new")
    new = StudyFolder(temporary)
    try:
        write_atomic(new.spec, spec.to_yaml())
        records.write_json(new.info, info)
        if folder.root.exists():
            folder.root.rmdir()  # empty, as checked above
        temporary.rename(folder.root)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit that this code is checked out at; None when it is installed, wherever that is."""
    here = Path(__file__)

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *arguments], cwd=here.parent, capture_output=True, text=True, check=False)

    try:
        is_tracked = git("ls-files", "--error-unmatch", here.name).returncode == 0
        return git("rev-parse", "HEAD").stdout.strip() if is_tracked else None
    except FileNotFoundError:  # no git here
        return None


def _now() -> str:
    from mmtune.study.recorder import now

    return now()


# --- planning -----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Plan:
    """What a study would do on a cluster."""

    slots: int  # trials at the same time
    workers_fit: int  # workers of the spec's size that the cluster holds
    trials: int | None
    epochs: int | None  # at most, over all trials
    parameters: list[tuple[str, int, int]]  # family, parameters, trainable: the largest of its corners
    memory_gib: float  # of one worker, roughly
    disk_gib: float  # checkpoints of all trials
    notes: list[str]


def make_plan(spec: SearchSpec, nodes: Sequence[Node], *, data_dir: str | None = None) -> Plan:
    """What ``spec`` asks of ``nodes``.

    Raises:
        ValueError: data that is missing, or resources the cluster does not have.
    """
    check_data(spec, data_dir)
    slots, fit = count_slots(spec, nodes)
    sizes = list(_model_sizes(spec, data_dir))
    largest = max((4 * total + 12 * trainable for _, total, trainable in sizes), default=0)
    checkpoint = max((16 * trainable for _, _, trainable in sizes), default=0)
    trials = spec.budget.trials
    notes = [*spec.warnings, *data_notes(spec.dataset, data_dir)]
    return Plan(
        slots=slots,
        workers_fit=fit,
        trials=trials,
        epochs=None if trials is None else trials * spec.epochs,
        parameters=sizes,
        memory_gib=1.0 + largest / 2**30,
        disk_gib=(trials or 1) * checkpoint / 2**30,
        notes=notes,
    )


def check_data(spec: SearchSpec, data_dir: str | None) -> None:
    """Raises ValueError if the dataset's files are not where they should be."""
    from trainables.data.formats import dataset_module

    if data_dir is not None and not Path(data_dir).is_dir():
        raise ValueError(f"--data {data_dir}: no such folder")
    for path in dataset_module(spec.dataset).sources(data_dir):
        if not path.exists():
            raise ValueError(f"dataset {spec.dataset}: {path} is missing")


def data_notes(dataset: str, data_dir: str | None) -> list[str]:
    """A line if the reader left rows of the dataset out.

    Raises:
        ValueError: files that cannot be read.
    """
    from trainables.data.reading.dataset import DatasetRef, load_table

    problems = load_table(DatasetRef(dataset, data_dir)).problems
    if not problems:
        return []
    where = "" if data_dir is None else f" --data {data_dir}"
    return [
        f"dataset {dataset}: rows left out or repaired: {len(problems)}, the first: {problems[0]} "
        f"(all: mmtune data check {dataset}{where})"
    ]


def count_slots(spec: SearchSpec, nodes: Sequence[Node]) -> tuple[int, int]:
    """Trials at the same time, and workers that fit.

    Raises:
        ValueError: not even one trial can be placed, or fewer than ``concurrent_trials``.
    """
    wanted = spec.resources
    fit = workers_that_fit(nodes, cpus=wanted.cpus_per_worker, gpus=wanted.gpus_per_worker)
    slots = fit // wanted.workers
    gpus = f" and {wanted.gpus_per_worker:g} GPU" if wanted.gpus_per_worker else ""
    each = f"{wanted.cpus_per_worker:g} CPU{gpus}"
    has = ", ".join(f"{node.cpus:g} CPU and {node.gpus:g} GPU" for node in nodes) or "nothing"
    asked = 1 if wanted.concurrent_trials == "auto" else wanted.concurrent_trials
    if slots < asked:
        raise ValueError(
            f"resources: {asked} concurrent trial{'s' * (asked > 1)} of {wanted.workers} worker"
            f"{'s' * (wanted.workers > 1)} with {each} each cannot be placed; the cluster has {has}"
        )
    if wanted.concurrent_trials != "auto":
        slots = wanted.concurrent_trials
    return min(slots, spec.budget.trials or slots), fit


def _model_sizes(spec: SearchSpec, data_dir: str | None) -> Iterator[tuple[str, int, int]]:
    """Parameters and trainable ones of each family's largest corner."""
    from trainables.model import model_size

    sizes: dict[str, tuple[int, int]] = {}
    for params in spec.space.corners(limit=24):
        config = spec.trial_config(params, data_dir)
        sizes[config.family] = max(sizes.get(config.family, (0, 0)), model_size(config))
    for family, (total, trainable) in sorted(sizes.items()):
        yield family, total, trainable


# --- running ------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Ending:
    """How a session ended."""

    folder: StudyFolder
    is_complete: bool  # the budget is used up and no trial is unfinished
    is_interrupted: bool  # by a signal
    error: str | None  # what stopped it beside that
    recovered: str | None  # what a resume found


def run_study(folder: StudyFolder, *, address: str | None = None, say: Callable[[str], None] = print) -> Ending:
    """Runs or resumes the study in ``folder`` until its budget is spent or a signal comes.

    Args:
        folder: from :func:`create_study` or :func:`mmtune.records.open_study`.
        address: of a Ray cluster; None starts a local one.
        say: receives a line on what a resume recovered.

    Raises:
        ValueError: a broken spec, missing data, resources that do not exist, no cluster at ``address``.
        StudyBusyError: another process writes the study.
    """
    spec = load_spec(folder.spec)
    info = records.read_json(folder.info)
    check_data(spec, info["data_dir"])
    with records.study_lock(folder):
        if _is_finished(folder, spec):
            return Ending(folder, is_complete=True, is_interrupted=False, error=None, recovered=None)
        if address is None and not _is_joined() and not os.environ.get("RAY_ADDRESS"):
            count_slots(spec, [local_node()])  # say so before Ray starts
        with ray_session(address), _signals():
            slots, _ = count_slots(spec, cluster_nodes())
            info["sessions"].append({"started": _now(), "pid": os.getpid(), "slots": slots})
            records.write_json(folder.info, info)
            return _Session(folder, spec, info, slots).run(say)


def _is_finished(folder: StudyFolder, spec: SearchSpec) -> bool:
    """Whether the ledger has as many trials as the budget, all of them over: no reason to start Ray."""
    states = [row["state"] for row in records.read_csv(folder.trials)]
    is_full = spec.budget.trials is not None and len(states) >= spec.budget.trials
    return is_full and all(state in records.ENDED for state in states)


class _Session:
    def __init__(self, folder: StudyFolder, spec: SearchSpec, info: dict[str, Any], slots: int) -> None:
        from mmtune.study.recorder import Recorder

        self.folder, self.spec, self.info, self.slots = folder, spec, info, slots
        objective = spec.objectives[0]
        self.recorder = Recorder(
            folder,
            objective=(objective.metric, objective.mode),
            params=list(spec.space.keys),
            max_epochs=spec.epochs,
        )
        self.began = time.monotonic()
        self.spent_before = sum(session.get("seconds", 0.0) for session in info["sessions"])

    def run(self, say: Callable[[str], None]) -> Ending:
        from mmtune.search.searcher import open_optuna
        from mmtune.study.recorder import Progress

        names = [(item.metric, item.mode) for item in self.spec.objectives]
        optuna_study = open_optuna(self.folder.optuna_log, name=self.spec.study, objectives=names)
        if not optuna_study.get_trials(deepcopy=False):
            for params in self.spec.try_first:
                optuna_study.enqueue_trial(self.spec.space.to_optuna(params))
        recovered = self._recovered()
        if recovered:
            say(recovered)
        error = None
        crashes, epochs_before = 0, -1
        try:
            with Progress(self.recorder, total=self.spec.budget.trials, slots=self.slots) as self.progress:
                while True:
                    try:
                        error = self._tune(optuna_study)
                        break
                    except Exception as failure:  # Tune itself fell (its actors can be killed for memory): go on
                        epochs = sum(trial.epoch for trial in self.recorder.trials.values())
                        crashes = crashes + 1 if epochs == epochs_before else 1
                        epochs_before = epochs
                        error = f"Ray Tune stopped: {str(failure).strip().splitlines()[-1]}"
                        if crashes >= _MAX_CRASHES or _interrupted.is_set():
                            break
                        self.progress.say(f"{error}; starting it again")
        finally:
            self.recorder.close()
            self.info["sessions"][-1]["seconds"] = time.monotonic() - self.began
            records.write_json(self.folder.info, self.info)
        unfinished = [trial for trial in self.recorder.trials.values() if trial.state not in records.ENDED]
        is_complete = error is None and not unfinished and not _interrupted.is_set()
        return Ending(self.folder, is_complete, _interrupted.is_set(), error, recovered)

    def _recovered(self) -> str | None:
        trials = self.recorder.trials.values()
        if not trials:
            return None
        unfinished = [trial for trial in trials if trial.state not in records.ENDED]
        rows = sum(len(trial.rows) for trial in trials)
        text = f"recovered {len(trials) - len(unfinished)} finished trials and {rows} epochs"
        if unfinished:
            going_on = ", ".join(f"{trial.trial} after epoch {trial.epoch}" for trial in unfinished)
            text += f"; going on with {going_on}"
        return text

    # --- one Tuner ----------------------------------------------------------------------------------
    def _tune(self, optuna_study: Any) -> str | None:
        """One run of Tune over the pool of slots; why it could not go on, or None."""
        from ray import tune

        from mmtune.search.schedulers import make_scheduler
        from mmtune.search.searcher import StudySearcher
        from mmtune.slots.slot import SlotPool, SlotShape
        from mmtune.slots.trial import run_trial

        spec = self.spec
        scratch = self.folder.root / "tune"
        self.progress.say(f"starting {self.slots} slot{'s' * (self.slots > 1)} of {spec.resources.workers} worker(s)")
        shape = SlotShape(
            workers=spec.resources.workers,
            cpus_per_worker=spec.resources.cpus_per_worker,
            gpus_per_worker=spec.resources.gpus_per_worker,
            is_single=spec.resources.isolation == "process",
        )
        environment = {key: os.environ[key] for key in ("MMTUNE_CACHE", "HF_HUB_OFFLINE") if key in os.environ}
        pool = SlotPool(
            count=self.slots,
            shape=shape,
            storage=scratch / "slots",
            max_retries=spec.resources.max_trial_retries,
            env=environment,
        )
        stopper = _stopper(pool, self.progress)

        def ended(trial: str) -> None:
            self.progress.ended(trial)
            pool.forget(trial)

        try:
            pool.prepare(self._requirements())
            searcher = StudySearcher(
                spec=spec,
                study=optuna_study,
                recorder=self.recorder,
                job=self._job,
                is_spent=self._is_spent,
                on_end=ended,
            )
            left = 10**6 if spec.budget.trials is None else spec.budget.trials + searcher.num_unfinished
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tuner = tune.Tuner(
                    tune.with_resources(run_trial, {"CPU": 0, HEAD: 0.0001}),
                    param_space={"broker": pool.name, "objective": spec.objectives[0].metric},
                    tune_config=tune.TuneConfig(
                        num_samples=left,
                        search_alg=searcher,
                        scheduler=make_scheduler(
                            spec, recorder=self.recorder, epochs=spec.epochs, is_spent=self._is_spent
                        ),
                        max_concurrent_trials=self.slots,
                        reuse_actors=True,
                        trial_dirname_creator=_dirname,
                        trial_name_creator=_dirname,
                    ),
                    run_config=tune.RunConfig(
                        name=f"session-{len(self.info['sessions'])}-{int(time.time() * 1000)}",
                        storage_path=str(scratch),
                        verbose=0,
                        stop=stopper,
                        callbacks=[_callback(self.recorder, self.progress)],
                        failure_config=tune.FailureConfig(max_failures=spec.resources.max_trial_retries),
                    ),
                )
                tuner.fit()
        finally:
            pool.close(timeout=5.0 if _interrupted.is_set() else 20.0)
        if pool.lost is not None:
            raise RuntimeError(pool.lost)
        return pool.error

    def _job(self, trial: str, params: dict[str, Any]) -> dict[str, Any]:
        """What a slot's workers get; writes the trial's config.yaml."""
        config = self.spec.trial_config(params, self.info["data_dir"])
        folder = self.folder.trial(trial)
        text = yaml.safe_dump(config.to_dict(), sort_keys=False)
        write_atomic(folder / "config.yaml", text)
        known = self.recorder.trials[trial].epoch if trial in self.recorder.trials else 0
        return {"config": config.to_dict(), "folder": str(folder), "known_epoch": known}

    def _requirements(self) -> list[Any]:
        """What the first trials need from the cache, so that the slots fill it side by side.

        Later trials make what they need beside that when they start, while the other slots go on.
        """
        from trainables.data.loader import requirements

        needed: dict[Any, None] = {}
        for params in self._first_params() or self.spec.space.corners(limit=64):
            config = self.spec.trial_config(params, self.info["data_dir"])
            needed |= dict.fromkeys(need for need in requirements(config) if need.uses_features)
        return list(needed)[: 2 * self.slots]

    def _first_params(self) -> list[dict[str, Any]]:
        """try_first's rows for the first trials; what they leave open takes its default here."""
        first = self.spec.try_first[: self.slots]
        return [dict(params) for params in first if self.spec.family or "family" in params]

    def _is_spent(self) -> bool:
        budget = self.spec.budget
        if budget.device_hours is not None and self.recorder.device_seconds() >= 3600 * budget.device_hours:
            return True
        spent = self.spent_before + time.monotonic() - self.began
        return budget.wall_hours is not None and spent >= 3600 * budget.wall_hours


def _dirname(trial: Any) -> str:
    return f"{trial.config['trial']}-{trial.trial_id}"


def _callback(recorder: Any, progress: Any) -> Any:
    from ray import tune

    class Reports(tune.Callback):
        """Passes every epoch to the ledger and to the terminal."""

        def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
            row = result.get("row")
            if row is None:
                return
            is_stopped = result.get("done") and row["epoch"] < recorder.max_epochs  # the scheduler's decision
            if recorder.add(trial.config["trial"], {**row, "stopped": True} if is_stopped else row):
                progress.reported(trial.config["trial"], row)

        def __reduce__(self) -> Any:
            return tune.Callback, ()

    return Reports()


def _stopper(pool: Any, progress: Any) -> Any:
    from ray import tune
    from ray.tune.stopper import NoopStopper

    class Stop(tune.Stopper):
        """Ends Tune's loop after a signal, or when no slot can be started."""

        def __call__(self, trial_id: str, result: dict) -> bool:
            return False

        def stop_all(self) -> bool:
            if _interrupted.is_set():
                progress.say("stopping: trials keep their last finished epoch (once more to stop at once)")
            return _interrupted.is_set() or pool.error is not None or pool.lost is not None

        def __reduce__(self) -> Any:
            return NoopStopper, ()

    return Stop()


def _is_joined() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


@contextmanager
def _signals() -> Iterator[None]:
    """The first SIGINT or SIGTERM ends the session cleanly, the second at once."""
    _interrupted.clear()

    def handle(number: int, frame: Any) -> None:
        if _interrupted.is_set():
            raise KeyboardInterrupt
        _interrupted.set()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
