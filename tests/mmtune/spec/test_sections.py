"""The sections of a search file as models: what a field is stands beside it, what it takes is checked once."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from mmtune.search.samplers import SAMPLERS
from mmtune.search.schedulers import SCHEDULERS
from mmtune.spec.document import SpecError
from mmtune.spec.domains import KINDS
from mmtune.spec.sampler import SamplerSpec
from mmtune.spec.search_spec import load_spec
from mmtune.spec.sections import Budget, Objective, Resources, SchedulerSpec

OPTIONS = [row.options for row in (*SAMPLERS.values(), *SCHEDULERS.values())]
MODELS = [Objective, SamplerSpec, SchedulerSpec, Budget, Resources, *KINDS.values(), *OPTIONS]
SMALL = "study: s\nfamily: text\ndataset: openclipart\nbudget: {trials: 1}\n"


@pytest.mark.parametrize("model", MODELS)
def test_every_field_says_what_it_is(model):
    assert all(field.description is not None for field in model.model_fields.values())
    assert all(field.description.split("\n\n")[0].endswith(".") for field in model.model_fields.values())


def test_a_metric_has_its_own_direction():
    assert Objective(metric="val_loss").mode == "min" and Objective(metric="val_accuracy").mode == "max"
    with pytest.raises(ValidationError, match="'val_loss' is better when smaller, write min"):
        Objective(metric="val_loss", mode="max")


def test_null_is_the_default():
    nulls = "sampler: {name: null, seed: null, random_share: null}\nresources: {workers: null, isolation: null}\n"
    assert load_spec(SMALL + nulls) == load_spec(SMALL)


def test_what_is_wrong_with_several_keys_of_a_section_is_said_at_once():
    with pytest.raises(SpecError) as caught:
        load_spec(SMALL + "resources: {workers: 0, cpus_per_worker: 0, isolation: no, concurrent_trials: 1.5, x: 1}\n")
    assert {key: message.split(".")[0] for key, _, message in caught.value.problems} == {
        "resources.workers": "0 must be at least 1",
        "resources.cpus_per_worker": "is 0; a worker without a GPU needs a share of a CPU",
        "resources.isolation": "YAML reads no as false; quote it",
        "resources.concurrent_trials": "1",  # 1.5 is not a whole number
        "resources.x": "unknown key",
    }


def test_trackers_are_known_and_there_once():
    text = (
        "study: s\nfamily: text\ndataset: openclipart\nspace: {uda.mode: {type: categorical, choices: [none, aug]}}\n"
    )
    text = text.replace("none", '"none"') + "budget: {trials: 2}\n"
    assert load_spec(text).trackers == ()
    spec = load_spec(text + "trackers: [mlflow]\n")
    assert spec.trackers == ("mlflow",) == load_spec(spec.to_yaml()).trackers
    for given, said in (
        ("[mlfow]", "did you mean 'mlflow'"), ("mlflow", "a list is expected: [mlflow]"),
        ("[mlflow, mlflow]", "'mlflow' is there already"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=re.escape(said)):
            load_spec(f"{text}trackers: {given}\n")
