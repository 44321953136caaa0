"""A metric, a sampler and a scheduler are one row each: whoever adds it there finds it everywhere else."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml

from analysis.studies import mode_of
from mmtune.cli.listing import LISTS
from mmtune.search.samplers import SAMPLERS, SamplerKind, TpeOptions, make_sampler
from mmtune.search.schedulers import SCHEDULERS, AshaOptions, SchedulerKind
from mmtune.spec.document import SpecError
from mmtune.spec.schema import schema_text
from mmtune.spec.search_spec import load_spec
from trainables.config import TrialConfig
from trainables.metrics import METRICS, Metric, compute_metrics
from trainables.progress import Progress
from trainables.task import Task

TEXT = """
study: s
family: text
dataset: openclipart
objectives: [{metric: val_worst}]
space: {optim.lr: {type: float, low: 0.1, high: 0.2}}
sampler: {name: mine, n_startup_trials: 3}
scheduler: {name: halving, grace_epochs: 2}
budget: {trials: 1}
"""


@pytest.fixture
def rows(monkeypatch):
    """One more entry in each table, nothing else."""
    worst = Metric(
        "worst", ("regression",), "min", "largest error", "the target's", lambda split: abs(split.errors).max()
    )
    monkeypatch.setitem(METRICS, "worst", worst)
    sampler = SamplerKind("mine", "a sampler of one's own", TpeOptions, lambda ask, options: (ask, options))
    monkeypatch.setitem(SAMPLERS, "mine", sampler)
    scheduler = SchedulerKind("halving", "a scheduler of one's own", AshaOptions, SCHEDULERS["asha"].make)
    monkeypatch.setitem(SCHEDULERS, "halving", scheduler)


def test_nothing_knows_them_before():
    with pytest.raises(SpecError) as error:
        load_spec(TEXT)
    assert all(f"'{name}' is unknown" in str(error.value) for name in ("val_worst", "mine", "halving"))
    assert list(jsonschema.Draft7Validator(json.loads(schema_text())).iter_errors(yaml.safe_load(TEXT)))


def test_search_files_take_them(rows):
    spec = load_spec(TEXT)
    assert (spec.objectives[0].metric, spec.objectives[0].mode) == ("val_worst", "min")
    assert spec.sampler.options == TpeOptions(n_startup_trials=3) and spec.scheduler.options == AshaOptions(
        grace_epochs=2
    )
    made: Any = make_sampler("mine", options=spec.sampler.options, study_seed=1, number=4)
    assert made == (made[0], spec.sampler.options)
    with pytest.raises(SpecError, match="did you mean 'grace_epochs'"):
        load_spec(TEXT.replace("grace_epochs", "grace_epoch"))
    with pytest.raises(SpecError, match="must be at least 1"):
        load_spec(TEXT.replace("grace_epochs: 2", "grace_epochs: 0"))


def test_lists_and_the_schema_have_them(rows):
    for what, name in (("metrics", "val_worst"), ("samplers", "mine"), ("schedulers", "halving")):
        assert [row for row in LISTS[what]()[1] if row[0] == name], what
    validator = jsonschema.Draft7Validator(json.loads(schema_text()))
    assert not list(validator.iter_errors(yaml.safe_load(TEXT)))
    assert list(validator.iter_errors(yaml.safe_load(TEXT.replace("n_startup_trials", "n_startup"))))


def test_training_and_analysis_minimise_it(rows):
    logits, labels = np.array([[1.0], [4.0]]), np.array([2.0, 1.0])
    assert compute_metrics(logits, labels, Task("regression"))["worst"] == 3.0
    config = TrialConfig.from_params({"family": "text", "dataset": "openclipart", "objective": "val_worst"})
    progress = Progress()
    for epoch, value in enumerate([3.0, 1.0, 2.0], start=1):
        progress.advance({"epoch": epoch, "val_worst": value}, config)
    assert (progress.best_epoch, progress.best_value, progress.bad_epochs) == (2, 1.0, 1)
    assert mode_of("val_worst") == "min"
