"""Contract over every search file that ships. Small random models stand for the names on a hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import optuna
import pytest
import torch

from mmtune.records import COSTS
from mmtune.search.schedulers import AshaOptions
from mmtune.space.corners import corners
from mmtune.space.optuna_names import suggest, to_optuna
from mmtune.spec.search_spec import SearchSpec, load_spec
from mmtune.spec.shipped import shipped_search_files
from trainables.batch import Batch
from trainables.config import TrialConfig
from trainables.data.formats import dataset_module
from trainables.data.reading.table import Neighbours
from trainables.data.reading.tabular import Tabular
from trainables.data.requirements import requirements
from trainables.families import FAMILIES, family_inputs, family_module
from trainables.loop import train
from trainables.metrics import METRICS
from trainables.model import load_port
from trainables.parts import runs_in_parts, set_batch_norms
from trainables.task import Task

FILES = shipped_search_files()
NAMES = sorted(FILES)
COLLECTIONS = ("demo", "smoke")  # other folders are families, and their files datasets

TABULAR = Tabular(
    numeric=np.zeros((3, 2), np.float32), mean=np.zeros(2), std=np.ones(2), has_missing=np.zeros(2, bool),
    codes=np.zeros((3, 2), np.int64), values={"a": ("1", "2", "3"), "b": ("1", "2")},
    graph=Neighbours(np.arange(3), np.arange(4), 5),
)  # fmt: skip


pytestmark = pytest.mark.usefixtures("small_hub")


@cache
def spec_of(name: str) -> SearchSpec:
    return load_spec(FILES[name])


def header(name: str) -> list[str]:
    """The comment at the top, a line each, without the last: where editors find the schema."""
    lines = FILES[name].read_text(encoding="utf-8").splitlines()
    end = next(at for at, line in enumerate(lines) if not line.startswith("#"))
    assert lines[end - 1] == "# yaml-language-server: $schema=../schema.json"
    return [line.removeprefix("#") for line in lines[: end - 1]]


def alternatives(name: str) -> list[SearchSpec]:
    """The file as it is, and with all that its header proposes."""
    proposed = re.findall(r"--set ('[^']*'|[^\s;]+)", "\n".join(header(name)))
    given = [spec_of(name)]
    return [*given, load_spec(FILES[name], overrides=[item.strip("'") for item in proposed])] if proposed else given


def tried_first(spec: SearchSpec) -> list[dict[str, Any]]:
    """What a study makes of the rows of ``try_first``, asked in its own way."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    rows = []
    for row in spec.try_first:
        study.enqueue_trial(to_optuna(spec.space, row))
        rows.append(suggest(spec.space, study.ask()))
    return rows


def configs(name: str, *, num_corners: int) -> Iterator[TrialConfig]:
    for spec in alternatives(name):
        for params in [*tried_first(spec), *corners(spec.space, limit=num_corners)]:
            yield spec.trial_config(params, None if dataset_module(spec.dataset).IS_EMBEDDED else "/data")


# --- names and headers -------------------------------------------------------------------------------
def test_every_family_has_an_embedded_study_and_a_smoke_test():
    assert {f"{family}/openclipart" for family in FAMILIES} <= set(NAMES)
    assert {f"smoke/{family}" for family in FAMILIES} == {name for name in NAMES if name.startswith("smoke/")}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_named_by_what_it_searches(name):
    spec, (folder, stem) = spec_of(name), name.split("/")
    assert spec.warnings == ()
    assert spec.study == f"{folder}-{stem}"
    if folder not in COLLECTIONS:
        assert (spec.family, spec.dataset) == (folder, stem)
    if folder == "smoke":
        assert spec.family == stem and dataset_module(spec.dataset).IS_EMBEDDED


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_header_has_the_commands_that_run_it(name):
    spec, lines = spec_of(name), header(name)
    data = "" if dataset_module(spec.dataset).IS_EMBEDDED else " --data DIR"
    assert re.fullmatch(r" [A-Z].*[.?!]", lines[0]), "`mmtune list spaces` shows this line"
    assert lines[1:3] == [f"   mmtune run    {name}{data}", f"   mmtune resume studies/{spec.study}"]
    assert lines[-1].startswith(" Measured")


def test_study_names_differ():
    names = [spec_of(name).study for name in NAMES]
    assert len(names) == len(set(names))


# --- what a study would do with it ---------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_target_and_objectives_fit_the_dataset(name):
    for spec in alternatives(name):
        targets = dataset_module(spec.dataset).TARGETS
        kind = targets[spec.fixed.get("target") or next(iter(targets))]
        known = [f"val_{row.name}" for row in METRICS.values() if kind in row.kinds]
        searched = {objective.metric for objective in spec.objectives if objective.metric not in COSTS}
        assert searched <= set(known), f"a {kind} task has {known}"


@pytest.mark.parametrize("name", NAMES)
def test_a_study_begins_with_the_rows_as_they_are_written(name):
    spec = spec_of(name)
    for row, params in zip(spec.try_first, tried_first(spec), strict=True):
        assert {key: params[key] for key in row} == row


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_scheduler_waits_for_what_begins_late(name):
    """docs/methods.md#grace: no rung before frozen parts train and annealed weights are there."""
    for spec in alternatives(name):
        late = [0]
        for params in corners(spec.space, limit=64):
            late += [int(value) for key, value in params.items() if re.fullmatch(r"model\.\w+_epochs", key)]
        options = spec.scheduler.options
        assert spec.scheduler.name == "none" or (isinstance(options, AshaOptions) and options.grace_epochs > max(late))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_data_can_serve_every_corner(name):
    """Inputs exist, the encoder has so many positions, and UDA augments a modality that the family reads."""
    for config in configs(name, num_corners=64):
        requirements(config)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_models_of_the_space_predict(name):
    """What is tried first, and eight other models of the space at most."""
    spec, by_model = spec_of(name), {}
    for config in configs(name, num_corners=8):
        by_model.setdefault((config.family, repr(config.model)), config)
    first, others = list(by_model.values())[: len(spec.try_first)], list(by_model.values())[len(spec.try_first) :]
    for config in [*first, *others[:: -(-len(others) // 8) or 1]]:
        targets = dataset_module(config.dataset).TARGETS
        kind: Any = targets[config.target or next(iter(targets))]
        task = Task(kind, ("rating",) if kind == "regression" else tuple("abcde"))
        with torch.no_grad():
            logits = model_of(config, task)(batch_of(config, task)).logits
        assert logits.shape == (3, task.num_outputs) and logits.isfinite().all()


def model_of(config: TrialConfig, task: Task) -> torch.nn.Module:
    ports = {
        modality: load_port(modality, input, tabular=TABULAR, dataset=config.dataset)
        for modality, input in family_inputs(config).items()
    }
    return family_module(config.family).build(config.model, task, ports).eval()


def batch_of(config: TrialConfig, task: Task) -> Batch:
    inputs = family_inputs(config)
    ids = torch.randint(5, 90, (3, 6), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[:, -1] = 2, 3  # what opens and closes a text of the stand-ins
    image = inputs.get("image")
    regions = None if image is None or not image.is_regions else torch.ones(3, image.num_tokens, image.width + 5)
    labels = {"multiclass": torch.ones(3, dtype=torch.int64), "multilabel": torch.ones(3, task.num_outputs)}
    return Batch(
        input_ids=ids if "text" in inputs else None,
        attention_mask=torch.ones_like(ids) if "text" in inputs else None,
        pixel_values=torch.randint(0, 256, (3, 3, 64, 64)).to(torch.uint8) if image and regions is None else None,
        image_features=regions,
        numeric=torch.zeros(3, 2) if "numeric" in inputs else None,
        categories=torch.ones(3, 2, dtype=torch.int64) if "categorical" in inputs else None,
        neighbours=torch.ones(3, 2, dtype=torch.int64) if "graph" in inputs else None,
        labels=labels.get(task.kind, torch.ones(3)),
        ids=["a", "b", "c"],
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_micro_batch_cuts_a_batch_norm(name):
    spec, seen = spec_of(name), set()
    for config in configs(name, num_corners=16):
        kind = (repr(config.model), config.micro_batch_size, config.batch_norm, config.batch_size)
        if config.micro_batch_size is not None and kind not in seen:
            seen.add(kind)
            with torch.device("meta"):
                model = model_of(config, Task("multiclass", tuple("abcde")))
            set_batch_norms(model, config)
            runs_in_parts(model, config, num_rows=-(-config.batch_size // spec.resources.workers))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_smoke_file_trains(family, tmp_path):
    small = ["fixed.max_train_rows=32", "fixed.epochs=1"]
    spec = load_spec(FILES[f"smoke/{family}"], overrides=small)
    config = spec.trial_config(next(corners(spec.space)))
    outcome = train(config, folder=tmp_path)
    assert outcome.reason == "epochs" and len(outcome.reports) == 1
    assert 0 <= outcome.reports[0][config.objective] <= 1
