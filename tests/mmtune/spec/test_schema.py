"""The JSON Schema against search files, right and wrong: what it refuses, ``load_spec`` refuses too."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from mmtune.spec.document import SpecError
from mmtune.spec.schema import SCHEMA_FILE, schema_text, search_schema
from mmtune.spec.search_spec import load_spec
from mmtune.spec.shipped import shipped_search_files
from trainables.data.formats import DATASETS
from trainables.families import FAMILIES, family_config

FILES = shipped_search_files()
GOOD = """\
study: s
family: fusion
dataset: openclipart
objectives:
  - {metric: val_macro_f1, mode: max}
  - {metric: device_seconds}
fixed: {epochs: 9, optim.weight_decay: 0, model.kind: late}
space:
  optim.lr:      {type: float, low: 1.0e-5, high: 5.0e-4, log: true}
  model.dropout:
    - {type: float, low: 0, high: 0.5, when: {uda.mode: dynamic}}
    - {type: categorical, choices: [0.1, 0.2], when: {uda.mode: [none]}}
  uda.mode:      {type: categorical, choices: ["none", dynamic]}
  uda.n:         {type: int, low: 1, high: 20, log: true, when: {uda.mode: dynamic}}
  uda.k:         {type: int, low: 0, high: 4, at_most: uda.n, when: {uda.mode: dynamic}}
try_first:
  - {optim.lr: 5.0e-5, uda.mode: dynamic, uda.n: 5, uda.k: 1}
sampler: {name: tpe, seed: 3, multivariate: true}
scheduler: {name: asha, grace_epochs: 4}
budget: {trials: 48, device_hours: 200}
resources: {workers: 2, gpus_per_worker: 1, concurrent_trials: 4}
"""


@pytest.fixture(scope="module")
def schema() -> Draft7Validator:
    Draft7Validator.check_schema(search_schema())
    return Draft7Validator(search_schema())


def places(schema: Draft7Validator, text: str) -> set[str]:
    """Where the schema finds something wrong, as 'space.optim.lr.low'."""
    found, waiting = set[str](), list(schema.iter_errors(yaml.safe_load(text)))
    while waiting:
        error = waiting.pop()
        found.add(".".join(str(part) for part in error.absolute_path))
        waiting += error.context or []
    return found


def test_the_schema_that_ships_is_this_one():
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), "it is old; run: python scripts/generate"


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_every_search_file_fits(schema, name):
    text = FILES[name].read_text(encoding="utf-8")
    assert places(schema, text) == set()
    (line,) = [line for line in text.splitlines() if line.startswith("# yaml-language-server: ")]
    assert (FILES[name].parent / line.partition("$schema=")[2]).resolve() == SCHEMA_FILE.resolve()


def test_a_good_file_fits(schema):
    load_spec(GOOD)
    assert places(schema, GOOD) == set()


@pytest.mark.parametrize(
    "old, new, place",
    [
        ("study: s", "study: S", "study"),
        ("study: s", "study: s\nepochs: 3", ""),
        ("family: fusion\n", "", ""),
        ("family: fusion", "family: fusoin", "family"),
        ("family: fusion", "family: {type: categorical, choices: [fusoin]}", "family.choices.0"),
        ("dataset: openclipart", "dataset: opencliprt", "dataset"),
        ("{metric: val_macro_f1, mode: max}", "{metric: device_seconds}", "objectives.0.metric"),
        ("{metric: val_macro_f1, mode: max}", "{metric: val_macro_f1, mode: min}", "objectives.0.mode"),
        ("{metric: device_seconds}", "{metric: device_second}", "objectives.1.metric"),
        ("epochs: 9", "epochs: '9'", "fixed.epochs"),
        ("epochs: 9", "epochs: 0", "fixed.epochs"),
        ("epochs: 9", "epocs: 9", "fixed"),
        ("epochs: 9", "compile: 1", "fixed.compile"),
        ("epochs: 9", "family: text", "fixed"),
        ("model.kind: late", "model.kind: lat", "fixed.model.kind"),
        ("model.kind: late", "model.kid: late", "fixed"),
        ("model.kind: late", "model.tirg_w_r: 1.0", "fixed"),  # of another family
        ("low: 1.0e-5", "low: 1e-5", "space.optim.lr.low"),
        ("high: 5.0e-4", "high: 50", "space.optim.lr.high"),
        ("low: 1.0e-5, ", "", "space.optim.lr"),
        ("low: 1.0e-5", "lo: 1.0e-5", "space.optim.lr"),
        ("low: 1.0e-5", "low: 1.0e-5, choices: [1]", "space.optim.lr"),
        ("type: float, low: 1.0e-5", "type: flot, low: 1.0e-5", "space.optim.lr.type"),
        ("type: int, low: 1,", "type: float, low: 1,", "space.uda.n.type"),
        ('["none", dynamic]', '["none", dynamc]', "space.uda.mode.choices.1"),
        ("choices: [0.1, 0.2]", "choices: [0.1, 2]", "space.model.dropout.1.choices.1"),
        ("when: {uda.mode: dynamic}}\n    -", "when: {uda.mod: dynamic}}\n    -", "space.model.dropout.0.when"),
        ("when: {uda.mode: dynamic}}\n    -", "when: {uda.mode: []}}\n    -", "space.model.dropout.0.when.uda.mode"),
        ("at_most: uda.n", "at_most: uda.N", "space.uda.k.at_most"),
        ("  optim.lr: ", "  epochs: ", "space"),
        ("optim.lr: 5.0e-5", "optim.lr: 50", "try_first.0.optim.lr"),
        ("optim.lr: 5.0e-5", "optim.lrr: 5.0e-5", "try_first.0"),
        ("name: tpe", "name: tep", "sampler.name"),
        ("name: tpe", "name: random", "sampler"),
        ("multivariate: true", "multivariate: 1", "sampler.multivariate"),
        ("grace_epochs: 4", "grace_epochs: 0", "scheduler.grace_epochs"),
        ("trials: 48, device_hours: 200", "", "budget"),
        ("trials: 48", "trials: 0", "budget.trials"),
        ("gpus_per_worker: 1", "gpus_per_worker: 2", "resources.gpus_per_worker"),
        ("concurrent_trials: 4", "concurrent_trials: all", "resources.concurrent_trials"),
    ],
)
def test_a_mistake_is_seen_where_it_is(schema, old, new, place):
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new)
    assert place in places(schema, text)
    with pytest.raises(SpecError):
        load_spec(text)


def test_a_target_is_one_of_the_datasets(schema):
    for dataset, target, wrong in [
        ("openclipart", "tags", set()),
        ("openclipart", "nothing", {"fixed.target"}),
        ("table", "nothing", set()),
    ]:
        assert places(schema, file("text", dataset, {"target": target})) == wrong


def test_a_searched_family_has_the_keys_of_all(schema):
    text = FILES["demo/openclipart"].read_text(encoding="utf-8")
    for old, new in [("  model.tirg_w_r:", "  model.tirg_wr:"), ("family: lit_tirg, o", "family: lit_trig, o")]:
        assert text.count(old) == 1 and places(schema, text.replace(old, new))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_every_key_of_it_is_there(schema, family):
    fixed = {f"model.{name}": field.default for name, field in family_config(family).model_fields.items()}
    for dataset in DATASETS:
        assert places(schema, file(family, dataset, fixed)) == set()
    for key in fixed:
        assert places(schema, file(family, "openclipart", {**fixed, key: {"a": []}})) >= {f"fixed.{key}"}


def file(family: str, dataset: str, fixed: dict[str, Any]) -> str:
    return yaml.safe_dump({"family": family, "dataset": dataset, "fixed": fixed, "budget": {"trials": 1}})


def test_what_an_editor_shows_is_what_the_field_says():
    definitions = search_schema()["definitions"]
    assert definitions["optim.lr"] == {
        "description": "Peak learning rate, of everything whose multiplier is 1.",
        "default": 5e-4,
        "exclusiveMinimum": 0,
        "maximum": 10,
        "type": "number",
    }
    assert definitions["domains:optim.lr"]["description"] == definitions["optim.lr"]["description"]
