"""What a study would do before it does anything: data that is there, trials that fit, sizes of models and files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.slots.cluster import Node, workers_that_fit
from mmtune.spec.search_spec import SearchSpec
from mmtune.study.checks import check_data, fit_to_data, open_pictures, study_dataset
from mmtune.study.disk import DRAWS, Disk, ModelSizes, disk_of, first_trials, play, predict_disk
from mmtune.study.forecast import Forecast, forecast, probe_corners
from mmtune.study.learn import learn
from mmtune.study.memory import predict_memory

if TYPE_CHECKING:
    from trainables.data.reading.dataset import DatasetRef


@dataclass(frozen=True)
class Plan:
    """What a study would do on a cluster."""

    spec: SearchSpec  # with objectives that follow the task
    slots: int  # trials at the same time
    workers_fit: int  # workers of the spec's size that the cluster holds
    trials: int | None
    epochs: int | None  # at most, over all trials
    parameters: list[tuple[str, int, int]]  # family, parameters, trainable: the largest of its corners
    disk: Disk  # of the study's folder
    forecast: Forecast  # what it will take
    notes: list[str]


def make_plan(
    spec: SearchSpec,
    nodes: Sequence[Node],
    *,
    data_dir: str | None = None,
    storage: str | Path | None = None,
    probes: bool = False,
    is_brief: bool = False,
) -> Plan:
    """What ``spec`` asks of ``nodes``.

    Args:
        spec: of a study that does not exist yet.
        nodes: of the cluster.
        data_dir: where the dataset lies; None for embedded ones.
        storage: where the study's folder will be, if that is known.
        probes: whether the corners of the space are trained a little, to know time and memory.
        is_brief: whether a start waits for it: memory is worked out of fewer trials.

    Raises:
        ValueError: data that is missing or that no trial could succeed on, resources the cluster does not have,
            studies that nothing can be learnt from, or a corner that cannot be probed here.
    """
    check_data(spec, data_dir)
    spec, learnt = learn(spec, storage)
    slots, fit = count_slots(spec, nodes)
    spec = fit_to_data(spec, data_dir)
    models = ModelSizes(spec.resources.workers)
    sizes = list(_model_sizes(spec, data_dir, models))
    open_pictures(spec, data_dir)
    trials = spec.budget.trials
    drawn = first_trials(spec, data_dir, count=trials or DRAWS, sizes=models)
    games = play(spec, drawn, slots=slots)
    probed, start_seconds = probe_corners(spec, data_dir, models) if probes else ([], 0.0)
    memory = None if probes else predict_memory(spec, drawn, is_brief=is_brief)
    about = forecast(spec, drawn, games, memory, slots=slots, probed=probed, start_seconds=start_seconds)
    if about.trials is None:
        disk = predict_disk(spec, data_dir, slots=slots, sizes=models)
    else:
        disk = disk_of(spec, data_dir, drawn, games, num=about.trials)
        about = replace(about, disk_gib=disk.over / 2**30)
    notes = [*spec.warnings, *learnt, *data_notes(study_dataset(spec, data_dir), spec.fixed.get("target"))]
    notes += _unlabelled(spec, data_dir)
    return Plan(
        spec=spec,
        slots=slots,
        workers_fit=fit,
        trials=trials,
        epochs=None if trials is None else trials * spec.epochs,
        parameters=sizes,
        disk=disk,
        forecast=about,
        notes=notes,
    )


def _unlabelled(spec: SearchSpec, data_dir: str | None) -> Iterator[str]:
    """What becomes of training rows without a label, where there are some: a line."""
    from trainables.data.companions import wants_unlabelled
    from trainables.data.reading.dataset import load_table, load_target

    dataset = study_dataset(spec, data_dir)
    is_train = load_table(dataset).split == "train"
    num = int((is_train & ~load_target(dataset, spec.fixed.get("target")).is_labelled).sum())
    if num == 0:
        return
    configs = [spec.trial_config(params, data_dir) for params in spec.corners(limit=24)]
    ratios = {config.unlabelled_ratio if wants_unlabelled(config) else 0 for config in configs}
    what = f"dataset {spec.dataset}: {num:,} of {int(is_train.sum()):,} training rows have no label"
    if ratios == {0}:
        yield f"{what} and are left out: UDA (uda.mode fixed or dynamic) and the VAEs alone learn from such rows"
        return
    counts = " or ".join(str(ratio) for ratio in sorted(ratios - {0}))
    some = " in some trials, in others they are left out" if 0 in ratios else ""
    yield f"{what} and join what needs none{some}: {counts} beside each labelled row of a batch (unlabelled_ratio)"


def data_notes(dataset: DatasetRef, target: str | None = None) -> list[str]:
    """What a user should know of the dataset: see :func:`trainables.data.reading.notes.dataset_notes`.

    Raises:
        ValueError: files that cannot be read, or labels that nothing can be learnt from.
    """
    from trainables.data.reading.notes import dataset_notes

    return dataset_notes(dataset, target)


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


def _model_sizes(spec: SearchSpec, data_dir: str | None, models: ModelSizes) -> Iterator[tuple[str, int, int]]:
    """Parameters and trainable ones of each family's largest corner."""
    sizes: dict[str, tuple[int, int]] = {}
    for params in spec.corners(limit=24):
        config = spec.trial_config(params, data_dir)
        size = models.of(config)
        found = size.num_parameters, size.num_trainable
        sizes[config.family] = max(sizes.get(config.family, (0, 0)), found)
    for family, (total, trainable) in sorted(sizes.items()):
        yield family, total, trainable
