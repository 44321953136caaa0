"""What would keep every trial of a study from succeeding, found before anything is created.

1. The dataset's files are there.
2. The objectives fit the kind of task; a file that names none gets what its task is tuned by.
3. Training and validation have labelled rows, and batches have one for every worker.
4. The settings of each corner of the space fit the task, the family's inputs and the encoders.
5. Every picture can be decoded, and has the regions that trials read: they are opened once, which fills the cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.records import COSTS
from mmtune.slots.requirements import corner_params, requirements_of
from mmtune.spec.search_spec import SearchSpec

if TYPE_CHECKING:
    from trainables.config import TrialConfig
    from trainables.data.reading.dataset import DatasetRef
    from trainables.data.reading.table import Target


def fit_to_data(spec: SearchSpec, data_dir: str | None) -> SearchSpec:
    """The spec with objectives that follow the task, if its settings fit the data in ``data_dir``.

    Raises:
        ValueError: everything that would keep trials from succeeding, a line each.
    """
    from trainables.data.reading.dataset import load_target

    check_data(spec, data_dir)
    target = load_target(study_dataset(spec, data_dir), spec.fixed.get("target"))
    spec = spec.of_task(target.task)
    configs = _configs(spec, data_dir)
    problems = dict.fromkeys(line for config in configs for line in _same_rows(spec, config))
    if problems:
        raise ValueError("\n".join(problems))
    problems = dict.fromkeys(_objective_problems(spec, target)) | dict.fromkeys(_row_problems(spec, configs, target))
    problems = problems or dict.fromkeys(_setting_problems(spec, configs, target))
    if problems:
        raise ValueError("\n".join(problems))
    return spec


def study_dataset(spec: SearchSpec, data_dir: str | None) -> DatasetRef:
    """The dataset of a study's trials, without what single ones put in front of its texts."""
    from trainables.data.reading.dataset import DatasetRef

    return DatasetRef(spec.dataset, data_dir, needs_pictures=spec.fixed.get("model.regions", "grid") == "grid")


def region_files(spec: SearchSpec) -> list[str]:
    """The files of regions that trials read, by the corners of the space."""
    found = [spec.config_params(params) for params in corner_params(spec, limit=64)]
    files = {one.get("model.region_file"): None for one in found if one.get("model.regions") == "detector"}
    return [name for name in files if name is not None]


def open_pictures(spec: SearchSpec, data_dir: str | None) -> None:
    """Fills the cache with the pictures of the first trial that reads them, unless one of a size is filled already, and
    with all regions of detectors.

    Raises:
        ValueError: pictures that cannot be decoded, or that have no regions: how many, and the first.
    """
    needed = requirements_of(spec, corner_params(spec, limit=64), data_dir)
    needed = [need for need in needed if need.modality == "image" and need.view is None]
    for need in needed:
        if need.input.is_regions:
            need.build()
    needed = [need for need in needed if not need.input.is_regions]
    if needed and not any(need.is_done for need in needed):
        needed[0].without_features().build()


def check_data(spec: SearchSpec, data_dir: str | None) -> None:
    """Raises ValueError if the dataset's files are not where they should be."""
    from trainables.data.formats import dataset_module

    if data_dir is not None and not Path(data_dir).is_dir():
        raise ValueError(f"--data {data_dir}: no such folder")
    for path in dataset_module(spec.dataset).sources(data_dir):
        if not path.exists():
            raise ValueError(f"dataset {spec.dataset}: {path} is missing")


def _objective_problems(spec: SearchSpec, target: Target) -> Iterator[str]:
    from trainables.metrics import objective_names

    kind, allowed = target.task.kind, objective_names(target.task)
    for objective in spec.objectives:
        if objective.metric not in allowed and objective.metric not in COSTS:
            yield (
                f"objectives: '{objective.metric}' does not exist for a {kind} task, which {_target_name(spec)} is. "
                f"Known: {', '.join(allowed)}"
            )


def _row_problems(spec: SearchSpec, configs: Sequence[TrialConfig], target: Target) -> Iterator[str]:
    """Splits without rows, and batches that the workers cannot share."""
    from trainables.data.open import labelled_rows

    for config in configs:
        try:
            rows = labelled_rows(config, target)
            num_rows = len(rows["train"]) * (2 if config.uda.mode == "aug" else 1)
        except ValueError as error:
            yield str(error)
            return
        if (spec.finalists or spec.confirm) and len(rows["test"]) == 0:
            yield f"dataset {spec.dataset}: no labelled rows in split test, on which finalists are tested"
            return
        size, workers = num_rows // math.ceil(num_rows / config.batch_size), spec.resources.workers
        if size < workers:
            yield f"batch_size: {config.batch_size} gives batches of {size} rows, which {workers} workers cannot share"


def _setting_problems(spec: SearchSpec, configs: Sequence[TrialConfig], target: Target) -> Iterator[str]:
    """Settings of a corner that do not fit the task, the family's inputs, the encoders or the device."""
    import torch

    from trainables.data.open import labelled_rows
    from trainables.data.requirements import requirements
    from trainables.losses import build_supervised_loss
    from trainables.precision import choose_precision
    from trainables.uda import check_uda

    device, train = torch.device("cpu"), labelled_rows(configs[0], target)["train"]
    for loss in {config.loss: None for config in configs}:
        try:
            build_supervised_loss(loss, target.task, labels=target.labels, rows=train, device=device)
        except ValueError as error:
            yield str(error)
    for config in configs:
        try:
            check_uda(config.uda, target.task.with_positive(config.positive_class))
            requirements(config)
            if getattr(config.model, "weights", None) is not None:
                from trainables.model import model_size  # brings torch._dynamo: seconds, and a new variable

                model_size(config, workers=spec.resources.workers)
            if config.uda.mode != "none" and config.uda.vectors and not Path(config.uda.vectors).is_file():
                yield f"uda.vectors: {config.uda.vectors} is no file"
            if not spec.resources.gpus_per_worker:
                choose_precision(config.precision, device)
        except ValueError as error:
            yield str(error)


def _same_rows(spec: SearchSpec, config: TrialConfig) -> Iterator[str]:
    """Trials on other rows than the study's cannot be compared with the rest."""
    from trainables.data.reading.dataset import DatasetRef, load_table

    study, own = study_dataset(spec, config.data_dir), DatasetRef.of(config).plain
    if study != own and load_table(study).ids != load_table(own).ids:
        num = len(load_table(own).ids) - len(load_table(study).ids)
        yield (
            f"model.regions: {num:,} rows of {spec.dataset} have no picture, which grid needs and detector does not: "
            "trials would differ in their rows; add those pictures, or give each kind a study of its own"
        )


def _configs(spec: SearchSpec, data_dir: str | None) -> list[TrialConfig]:
    return [spec.trial_config(params, data_dir) for params in corner_params(spec, limit=64)]


def _target_name(spec: SearchSpec) -> str:
    from trainables.data.formats import dataset_module

    name = spec.fixed.get("target") or next(iter(dataset_module(spec.dataset).TARGETS), None)
    return f"dataset {spec.dataset}" + ("" if name is None else f", target {name},")
