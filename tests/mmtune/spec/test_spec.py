"""Search files as people write them, right and wrong; the families and datasets here are stand-ins."""

from __future__ import annotations

import copy
import pickle
import random
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import optuna
import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

from mmtune.search.samplers import TpeOptions
from mmtune.search.schedulers import AshaOptions
from mmtune.space.corners import corners
from mmtune.space.optuna_names import suggest
from mmtune.spec.document import SpecError
from mmtune.spec.search_spec import load_spec
from mmtune.spec.shipped import shipped_search_files
from trainables.config import TrialConfig

GOOD = """\
# Fusion with dynamic UDA.
#   mmtune run demo

study: demo
family: fusion
dataset: openclipart
objectives:
  - {metric: val_macro_f1, mode: max}
  - {metric: device_seconds}
fixed: {epochs: 9, batch_size: 32, optim.weight_decay: 0, model.kind: late}
space:
  optim.lr:      {type: float, low: 1.0e-5, high: 5.0e-4, log: true}
  model.dropout: {type: float, low: 0, high: 0.5}
  uda.mode:      {type: categorical, choices: [none, fixed, dynamic]}
  uda.lam:       {type: float, low: 0.01, high: 10.0, log: true, when: {uda.mode: [fixed, dynamic]}}
  uda.n:         {type: int, low: 1, high: 20, log: true,        when: {uda.mode: dynamic}}
  uda.k:         {type: int, low: 0, high: 4, at_most: uda.n,    when: {uda.mode: dynamic}}
try_first:
  - {optim.lr: 5.0e-5, uda.mode: dynamic, uda.lam: 1, uda.n: 5, uda.k: 1}
sampler: {name: tpe, seed: 3, multivariate: true}
scheduler: {name: asha, grace_epochs: 4, reduction_factor: 3}
budget: {trials: 48, device_hours: 200}
resources: {workers: 2, gpus_per_worker: 1, concurrent_trials: 4}
"""

FAMILIES = """\
study: compare
family: {type: categorical, choices: [text, image, fusion]}
dataset: openclipart
fixed: {epochs: 4}
space:
  model.hidden:        {type: categorical, choices: [64, 128]}
  optim.lr:
    - {type: float, low: 1.0e-5, high: 1.0e-4, log: true, when: {family: [text, image]}}
    - {type: float, low: 1.0e-4, high: 1.0e-3, log: true, when: {family: fusion}}
  model.text_encoder:  {type: categorical, choices: [small, large], when: {family: [text, fusion]}}
  model.kind:          {type: categorical, choices: [early, late], when: {family: fusion}}
  model.dropout:       {type: float, low: 0.0, high: 0.5, when: {model.kind: early}}
budget: {wall_hours: 1}
"""


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    hidden: int = Field(64, ge=1)


class _Text(_Config):
    text_encoder: str = "small"


class _Image(_Config):
    image_encoder: str = "small"


class _Fusion(_Config):
    kind: Literal["early", "late"] = "early"
    dropout: float = Field(0.1, ge=0, lt=1)
    text_encoder: str = "small"
    image_encoder: str = "small"


class _Needs(_Config):
    width: int


CONFIGS: dict[str, Any] = {"text": _Text, "image": _Image, "fusion": _Fusion, "needs": _Needs}


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch, request):
    if "real" in request.fixturenames:
        return
    families, formats = ModuleType("trainables.families"), ModuleType("trainables.data.formats")
    families.FAMILIES = {name: f"trainables.families.{name}" for name in CONFIGS}  # type: ignore[attr-defined]
    families.family_config = CONFIGS.__getitem__  # type: ignore[attr-defined]
    formats.DATASETS = {"openclipart": "...", "moviescope": "..."}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trainables.families", families)
    monkeypatch.setitem(sys.modules, "trainables.data.formats", formats)


@pytest.fixture
def real():
    """The families and datasets that there are."""


def problems(text: str, **how: Any) -> list[tuple[str, int | None, str]]:
    with pytest.raises(SpecError) as caught:
        load_spec(text, **how)
    return [(key, line, message) for key, line, message in caught.value.problems]


def line_of(part: str, text: str) -> int:
    (line,) = [i for i, line in enumerate(text.splitlines(), 1) if part in line]
    return line


# --- what a good file gives ---------------------------------------------------------------------------
def test_good_file():
    spec = load_spec(GOOD)
    assert (spec.study, spec.family, spec.families, spec.dataset) == ("demo", "fusion", ("fusion",), "openclipart")
    assert [(o.metric, o.mode) for o in spec.objectives] == [("val_macro_f1", "max"), ("device_seconds", "min")]
    assert spec.epochs == 9 and spec.budget.trials == 48 and spec.budget.device_hours == 200.0
    assert spec.budget.wall_hours is None and spec.resources.concurrent_trials == 4
    assert spec.sampler.seed == 3 and spec.sampler.options == TpeOptions(multivariate=True)
    assert spec.scheduler.options == AshaOptions(grace_epochs=4) and spec.resources.isolation == "slot"
    assert spec.space.keys == ("optim.lr", "model.dropout", "uda.mode", "uda.lam", "uda.n", "uda.k")
    assert spec.warnings == ()


def test_trial_config_merges_and_makes_floats():
    spec = load_spec(GOOD)
    params = {"optim.lr": 1, "model.dropout": 0, "uda.mode": "dynamic", "uda.lam": 1, "uda.n": 2, "uda.k": 1}
    merged = spec.config_params(params)
    assert [type(merged[key]) for key in ("optim.lr", "optim.weight_decay", "model.dropout", "uda.lam")] == [float] * 4
    assert type(merged["uda.n"]) is int and type(merged["batch_size"]) is int
    config = spec.trial_config(params, data_dir=Path("/data"))
    assert isinstance(config, TrialConfig)
    assert (config.family, config.dataset, config.objective) == ("fusion", "openclipart", "val_macro_f1")
    assert (config.model.kind, config.model.dropout, config.data_dir) == ("late", 0.0, "/data")
    assert spec.trial_config(params).data_dir is None


def test_numbers_in_try_first_become_floats():
    assert [type(v) for v in load_spec(GOOD).try_first[0].values()] == [float, str, float, int, int]


def test_searched_family():
    spec = load_spec(FAMILIES)
    assert spec.family is None and spec.families == ("text", "image", "fusion")
    assert spec.space.keys[0] == "family"
    assert (spec.budget.trials, spec.objectives[0].metric) == (None, "val_accuracy")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for params in [*(suggest(spec.space, study.ask()) for _ in range(100)), *corners(spec.space)]:
        config = spec.trial_config(params)
        assert config.family == params["family"]
        assert ("model.dropout" in params) == (params["family"] == "fusion" and params["model.kind"] == "early")
        assert (config.optim.lr >= 1e-4) == (config.family == "fusion") or config.optim.lr == 1e-4


def test_smallest_file():
    spec = load_spec("study: s\nfamily: text\ndataset: openclipart\nbudget: {trials: 1}\n")
    assert spec.space.keys == () and list(corners(spec.space)) == [{}]
    assert spec.trial_config({}).family == "text"


@pytest.mark.parametrize("section", ["fixed", "space", "try_first", "sampler", "resources", "scheduler", "objectives"])
def test_an_empty_section_is_none(section):
    text = f"study: s\nfamily: text\ndataset: openclipart\nbudget: {{trials: 1}}\n{section}:\n"
    assert load_spec(text) == load_spec(text.replace(f"{section}:\n", ""))


# --- each problem: (in GOOD, replace this, by that, key, part of the message); the line is that of the change ---
CASES = [
    ("study: demo", "study: Demo", "study", "'Demo' does not fit"),
    ("study: demo", "study: 7", "study", "7; a string is expected"),
    ("study: demo", "study: demo\nstudy: x", "study", "is given twice, first on line 4"),
    ("study: demo", "study: &a demo", "syntax", "&a: anchors and aliases are not allowed"),
    ("study: demo", "study: !!python/name:os.system demo", "study", "the tag tag:yaml.org,2002:python/name:os.system"),
    ("study: demo", "stdy: demo", "stdy", "unknown key, did you mean 'study'?"),
    (
        "family: fusion",
        "family: fusoin",
        "family",
        "'fusoin' is unknown, did you mean 'fusion'? Known: text, image, fus",
    ),
    ("family: fusion", "family: no", "family", "YAML reads no as false; quote it"),
    ("family: fusion", "family: [text, image]", "family", "to search it write {type: categorical, choices: [...]}"),
    ("family: fusion", "family: {type: int, low: 1, high: 2}", "family.type", "is categorical"),
    ("dataset: open", "dataset: opne", "dataset", "did you mean 'openclipart'?"),
    (
        "{metric: val_macro_f1, mode: max}",
        "{metric: val_macro_f2, mode: max}",
        "objectives[0].metric",
        "'val_macro_f1'?",
    ),
    (
        "{metric: val_macro_f1, mode: max}",
        "{metric: val_macro_f1, mode: min}",
        "objectives[0].mode",
        "larger, write max",
    ),
    ("{metric: val_macro_f1, mode: max}", "{metric: epochs}", "objectives[0].metric", "'epochs' is a cost"),
    ("{metric: val_macro_f1, mode: max}", "val_macro_f1", "objectives[0]", "write {metric: val_accuracy, mode: max}"),
    ("{metric: val_macro_f1, mode: max}", "{mode: max}", "objectives[0]", "has no metric"),
    ("{metric: device_seconds}", "{metric: val_macro_f1}", "objectives[1].metric", "is there already"),
    ("{metric: device_seconds}", "{metrik: epochs}", "objectives[1].metrik", "did you mean 'metric'?"),
    ("epochs: 9", "epocs: 9", "fixed.epocs", "unknown key, did you mean 'epochs'?"),
    ("epochs: 9", "epochs: 9.0", "fixed.epochs", "9.0 is not a whole number"),
    ("epochs: 9", "epochs: true", "fixed.epochs", "true is not a number"),
    ("epochs: 9", "epochs: 0", "fixed.epochs", "0 must be at least 1"),
    ("epochs: 9", "lr: 9", "fixed.lr", "did you mean 'optim.lr'?"),
    ("epochs: 9", "optim: {lr: 1.0}", "fixed.optim", "is a section; write flat keys such as optim."),
    ("epochs: 9", "family: text", "fixed.family", "belongs at the top level"),
    ("epochs: 9", "data_dir: /x", "fixed.data_dir", "comes from --data"),
    ("epochs: 9", "objective: x", "fixed.objective", "is the metric of the first of objectives"),
    ("epochs: 9", "precision: no", "fixed.precision", "YAML reads no as false; quote it"),
    ("epochs: 9", "optim.lr: 0.1", "space.optim.lr", "is both fixed and searched"),
    ("epochs: 9", "uda.temperature: 1e-1", "fixed.uda.temperature", "'1e-1' is a string in YAML; write 1.0e-1"),
    ("epochs: 9", "epochs: 010", "fixed.epochs", "YAML reads 010 as 8"),
    ("epochs: 9", "epochs: 1:30", "fixed.epochs", "YAML reads 1:30 as 90"),
    ("model.kind: late", "model.kind: lat", "fixed.model.kind", "'lat' is unknown, did you mean 'late'? Known: early"),
    ("model.kind: late", "model.kid: late", "fixed.model.kid", "unknown key, did you mean 'model.kind'?"),
    ("low: 1.0e-5", "low: 1e-5", "space.optim.lr.low", "'1e-5' is a string in YAML; write 1.0e-5"),
    ("low: 1.0e-5", "low: .nan", "space.optim.lr.low", "nan is not finite"),
    ("low: 1.0e-5", "low: null", "space.optim.lr.low", "null is not a number"),
    ("low: 1.0e-5", "low: [1]", "space.optim.lr.low", "is a list; a number is expected"),
    ("low: 1.0e-5", "low: 1.0", "space.optim.lr.low", "1.0 is above high (0.0005)"),
    ("low: 1.0e-5, ", "", "space.optim.lr", "has no low"),
    ("low: 1.0e-5", "low: 1.0e-5, choices: [1]", "space.optim.lr.choices", "has no meaning for type: float"),
    ("low: 1.0e-5", "low: 1.0e-5, lg: true", "space.optim.lr.lg", "unknown key, did you mean 'log'?"),
    ("high: 5.0e-4, log: true", "high: 5.0e-4, log: 1", "space.optim.lr.log", "1 is neither true nor false"),
    ("high: 5.0e-4", "high: 50", "space.optim.lr.high", "50.0 must be at most 10.0"),
    ("high: 0.5", "high: 1", "space.model.dropout.high", "1.0 must be below 1.0"),
    ("{type: float, low: 0, high: 0.5}", "{type: flot, low: 0}", "space.model.dropout.type", "did you mean 'float'?"),
    ("{type: float, low: 0, high: 0.5}", "{low: 0}", "space.model.dropout", "has no type: float, int, categorical"),
    ("{type: float, low: 0, high: 0.5}", "0.5", "space.model.dropout", "is 0.5; a domain is such as {type: float"),
    ("{type: float, low: 0, high: 0.5}", "[]", "space.model.dropout", "is an empty list"),
    (
        "model.dropout: {type: float, low: 0,",
        "eval_batch_size: {type: float, low: 0,",
        "space.eval_batch_size.type",
        "type: int",
    ),
    ("model.dropout:", "model.droput:", "space.model.droput", "unknown key, did you mean 'model.dropout'?"),
    ("model.dropout:", "epochs:", "space.epochs", "it is the fidelity that the scheduler compares"),
    ("model.dropout:", "dataset:", "space.dataset", "scores on different data do not compare"),
    ("model.dropout:", "objective:", "space.objective", "see objectives"),
    ("model.dropout:", "seed:", "space.seed", "would select luck"),
    ("model.dropout:", "family:", "space.family", "belongs at the top level"),
    ("[none, fixed, dynamic]", "[none, fixed, dynamc]", "space.uda.mode.choices[2]", "did you mean 'dynamic'?"),
    ("[none, fixed, dynamic]", "[none, off, fixed, dynamic]", "space.uda.mode.choices[1]", "YAML reads off as false"),
    ("[none, fixed, dynamic]", "[none, none, fixed, dynamic]", "space.uda.mode.choices", "'none' occurs twice"),
    ("[none, fixed, dynamic]", "none", "space.uda.mode.choices", "is 'none'; a list is expected"),
    ("[none, fixed, dynamic]", "[]", "space.uda.mode.choices", "is empty"),
    (
        "when: {uda.mode: [fixed, dynamic]}",
        "when: {uda.mod: fixed}",
        "space.uda.lam.when.uda.mod",
        "did you mean 'uda.mode'?",
    ),
    ("when: {uda.mode: [fixed, dynamic]}", "when: {uda.mode: [fixd]}", "space.uda.lam.when.uda.mode", "mean 'fixed'?"),
    (
        "when: {uda.mode: [fixed, dynamic]}",
        "when: {uda.mode: no}",
        "space.uda.lam.when.uda.mode",
        "YAML reads no as fa",
    ),
    ("when: {uda.mode: [fixed, dynamic]}", "when: {uda.mode: []}", "space.uda.lam.when.uda.mode", "is empty"),
    ("when: {uda.mode: [fixed, dynamic]}", "when: fixed", "space.uda.lam.when", "write {other_key: [values]}"),
    ("when: {uda.mode: [fixed, dynamic]}", "when: {uda.n: 1}", "space.uda.lam.when.uda.n", "is a number"),
    ("when: {uda.mode: [fixed, dynamic]}", "when: {family: txt}", "space.uda.lam.when.family", "did you mean 'text'?"),
    ("when: {uda.mode: [fixed, dynamic]}", "when: {model.kind: lat}", "space.uda.lam.when.model.kind", "mean 'late'?"),
    ("at_most: uda.n", "at_most: uda.N", "space.uda.k.at_most", "did you mean 'uda.n'?"),
    ("at_most: uda.n", "at_most: uda.lam", "space.uda.k.at_most", "an int can only be bounded by an int"),
    ("at_most: uda.n", "at_most: batch_size", "space.uda.k.at_most", "is fixed at 32; write that as high"),
    ("at_most: uda.n", "at_most: 3", "space.uda.k.at_most", "is 3; a string is expected"),
    ("low: 0, high: 4", "low: 2, high: 4", "space.uda.k.at_most", "'uda.n' can be 1, below low (2)"),
    ("optim.lr: 5.0e-5", "optim.lr: 5e-5", "try_first[0].optim.lr", "write 5.0e-5"),
    ("optim.lr: 5.0e-5", "optim.lr: 5.0", "try_first[0].optim.lr", "5.0 is not in 1.0e-05 to 0.0005"),
    ("optim.lr: 5.0e-5", "optim.lrr: 5.0", "try_first[0].optim.lrr", "did you mean 'optim.lr'?"),
    ("optim.lr: 5.0e-5", "batch_size: 16", "try_first[0].batch_size", "is fixed at 32, not searched"),
    ("uda.k: 1}", "uda.k: 1.0}", "try_first[0].uda.k", "1.0 is not a whole number"),
    (
        "uda.mode: dynamic, uda.lam: 1, ",
        "uda.mode: dynamic, uda.lam: 1, uda.lam: 2, ",
        "try_first[0].uda.lam",
        "given twice",
    ),
    ("name: tpe", "name: tep", "sampler.name", "'tep' is unknown, did you mean 'tpe'?"),
    ("name: tpe", "name: random", "sampler.multivariate", "unknown key. Known: name, seed"),
    ("multivariate: true", "multivariat: true", "sampler.multivariat", "did you mean 'multivariate'?"),
    ("multivariate: true", "multivariate: 1", "sampler.multivariate", "1 is neither true nor false"),
    ("multivariate: true", "n_startup_trials: -1", "sampler.n_startup_trials", "-1 must be at least 0"),
    ("multivariate: true", "n_ei_candidates: 0", "sampler.n_ei_candidates", "0 must be at least 1"),
    ("multivariate: true", "multivariate: false, group: true", "sampler.group", "needs multivariate: true"),
    ("name: tpe, seed: 3, multivariate: true", "name: qmc, qmc_type: sobl", "sampler.qmc_type", "'sobol'?"),
    ("name: tpe, seed: 3, multivariate: true", "name: nsga2, mutation_prob: 2", "sampler.mutation_prob", "at most 1"),
    ("seed: 3, multivariate: true", "seed: 1.5", "sampler.seed", "1.5 is not a whole number"),
    (
        "name: tpe, seed: 3, multivariate: true",
        "name: brute_force",
        "sampler.name",
        "needs a step in each float; without one: optim.lr, model.dropout, uda.lam",
    ),
    ("name: asha", "name: ahsa", "scheduler.name", "did you mean 'asha'?"),
    ("grace_epochs: 4", "grace_epochs: 10", "scheduler.grace_epochs", "10 is above the epochs of a trial (9)"),
    ("grace_epochs: 4", "grace_epochs: 0", "scheduler.grace_epochs", "0 must be at least 1"),
    ("grace_epochs: 4", "grace: 4", "scheduler.grace", "did you mean 'grace_epochs'?"),
    ("reduction_factor: 3", "reduction_factor: 1", "scheduler.reduction_factor", "1 must be at least 2"),
    ("trials: 48", "trials: 0", "budget.trials", "0 must be at least 1"),
    ("trials: 48", "trails: 48", "budget.trails", "did you mean 'trials'?"),
    ("trials: 48", "trials: true", "budget.trials", "true is not a number"),
    ("trials: 48", "trials: 1e2", "budget.trials", "'1e2' is a string in YAML; write 1.0e+2"),
    ("device_hours: 200", "device_hours: 0", "budget.device_hours", "0 must be above 0"),
    ("device_hours: 200", "device_hours: .inf", "budget.device_hours", "inf is not finite"),
    ("budget: {trials: 48, device_hours: 200}", "budget: {}", "budget", "give trials, device_hours or wall_hours"),
    ("budget: {trials: 48, device_hours: 200}", "budget: 48", "budget", "is 48; a mapping is expected"),
    ("workers: 2", "workers: 0", "resources.workers", "0 must be at least 1"),
    ("workers: 2", "isolation: thread", "resources.isolation", "Known: slot, process"),
    ("workers: 2", "max_trial_retries: -1", "resources.max_trial_retries", "-1 must be at least 0"),
    ("gpus_per_worker: 1", "gpus_per_worker: 2", "resources.gpus_per_worker", "a worker drives one device"),
    ("gpus_per_worker: 1", "gpus_per_worker: 1.0e-5", "resources.gpus_per_worker", "1.0e-05 is below 0.0001, Ray's"),
    ("gpus_per_worker: 1", "cpus_per_worker: 0", "resources.cpus_per_worker", "a worker without a GPU needs a share"),
    ("concurrent_trials: 4", "concurrent_trials: 0", "resources.concurrent_trials", "0 must be at least 1"),
    (
        "concurrent_trials: 4",
        "concurrent_trials: atuo",
        "resources.concurrent_trials",
        "neither auto nor a whole number",
    ),
    ("resources: {", "resurces: {", "resurces", "did you mean 'resources'?"),
    ("budget: {trials: 48, device_hours: 200}", "budget: {trials: 48}\n\tx: 1", "syntax", "a tab; indent with spaces"),
    ("budget: {trials: 48, device_hours: 200}", "budget: {<<: {trials: 4}}", "budget.<<", "merge keys are not allowed"),
    ("budget: {trials: 48, device_hours: 200}", "budget: {trials: 4}\n? [a]\n: b", "syntax", "a key must be a word"),
]


@pytest.mark.parametrize("old, new, key, message", CASES, ids=[f"{key}: {new[:30]}" for _, new, key, _ in CASES])
def test_one_problem(old, new, key, message):
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new)
    found = problems(text)
    mine = [problem for problem in found if problem[0] == key]
    assert len(mine) == 1, found
    assert message in mine[0][2]
    if new != "optim.lr: 0.1":  # there the searched key is the one that is named
        assert mine[0][1] == line_of(old, GOOD) + new.count("\n") - (key == "syntax" and "? [a]" in new)
    others = {problem[0] for problem in found} - {key} - ({"study"} if key == "stdy" else set())
    assert not others, found


@pytest.mark.parametrize(
    "old, new, key, line, message",
    [
        ("study: demo\n", "", "study", None, "is missing"),
        ("family: fusion\n", "", "family", None, "is missing. Known: text, image"),
        ("dataset: openclipart\n", "", "dataset", None, "is missing. Known: openclipart"),
        ("budget: {trials: 48, device_hours: 200}\n", "", "budget", None, "is missing: give trials"),
        ("{trials: 48, device_hours: 200}", "{trials: 48, wall_hours: *a}", "syntax", 22, "*a: anchors"),
        ("  uda.mode: ", " \tuda.mode: ", "syntax", 14, "tab"),
        (
            "budget: {trials: 48, device_hours: 200}",
            "budget: {trials: 48",
            "syntax",
            23,
            "while parsing a flow mapping",
        ),
        ("fixed: {", "fixed: [{", "syntax", 11, "expected"),
        (
            "try_first:\n",
            "try_first:\n" + 48 * "  - {uda.mode: none}\n",
            "try_first",
            18,
            "49 trials, more than budget.trials (48)",
        ),
        ("trials: 48,", "trials: 48,\n  trials: 47,", "budget.trials", 23, "is given twice, first on line 22"),
        ("optim.lr: 5.0e-5", "\n     optim.lr: 5.0", "try_first[0].optim.lr", 20, "is not in"),
    ],
)
def test_one_problem_elsewhere(old, new, key, line, message):
    assert old in GOOD
    (found,) = problems(GOOD.replace(old, new))
    assert found[:2] == (key, line)
    assert message in found[2]


def test_all_problems_at_once_in_the_layout_of_the_conventions(tmp_path):
    path = tmp_path / "moviescope.yaml"
    path.write_text(
        "family: fusoin\n"
        "dataset: moviescope\n"
        "fixed:\n"
        "  epocs: 3\n"
        "space:\n"
        "  optim.lr: {type: float, high: 1.0,\n"
        "             low: 1e-5}\n"
        "budget: {trials: 0}\n"
    )
    with pytest.raises(SpecError) as caught:
        load_spec(path, overrides=["resources.workers=none"])
    assert str(caught.value) == (
        f"{path} has 5 problems:\n"
        "  family (line 1): 'fusoin' is unknown, did you mean 'fusion'? Known: text, image, fusion, needs\n"
        "  fixed.epocs (line 4): unknown key, did you mean 'epochs'?\n"
        "  space.optim.lr.low (line 7): '1e-5' is a string in YAML; write 1.0e-5\n"
        "  budget.trials (line 8): 0 must be at least 1\n"
        "  resources.workers (--set resources.workers=none): 'none' is not a number"
    )
    assert isinstance(caught.value, ValueError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.problems) == (str(caught.value), caught.value.problems)


def test_one_problem_is_singular():
    with pytest.raises(SpecError, match=r"^search file has 1 problem:\n  study \(line 4\): "):
        load_spec(GOOD.replace("study: demo", "study: '-'"))


def test_a_broken_domain_is_not_also_a_missing_reference():
    text = GOOD.replace("choices: [none, fixed, dynamic]", "chioces: [none, fixed, dynamic]")
    assert {key for key, _, _ in problems(text)} == {"space.uda.mode.chioces"}


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "file: is empty"),
        (b"# only a comment\n", "file: is empty"),
        (b"- a\n- b\n", "file (line 1): is a list; a search file is a mapping of study, family, dataset, ..."),
        (b"hello", "file (line 1): is 'hello'"),
        (b"\xff\xfe\x00\x01", "file: is not text in UTF-8"),
        (b"a: \x00", "syntax (line 1): character #x0000 is not allowed"),
        (b"a: 1\n---\nb: 2\n", "syntax (line 2): expected a single document in the stream, but found another document"),
        (b"a: " + b"[" * 5000, "syntax: is nested too deeply"),
        (b'a: "\\UFFFFFFFF"', "syntax: is not valid YAML"),
        (b'study: "\\uD800"', "study (line 1): '\\ud800' is not valid Unicode"),
        (b"study: " + b"9" * 5000, "study (line 1): '999999"),
    ],
)
def test_files_that_are_no_search_files(tmp_path, content, message):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert f"\n  {message}" in str(caught.value)
    assert all(len(line) < 300 for line in str(caught.value).splitlines())


def test_files_that_cannot_be_read(tmp_path):
    for path, message in [(tmp_path / "no.yaml", "does not exist"), (tmp_path, "is a directory"), ("a\0b", "cannot")]:
        with pytest.raises(SpecError, match=f"has 1 problem:\n  file: {message}"):
            load_spec(path)


# --- keys of the family -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "old, new, key, message",
    [
        (
            ", when: {family: fusion}}\n  model.d",
            "}\n  model.d",
            "space.model.kind",
            "family text, image has no such key; add when: {family: [fusion]}",
        ),
        ("[text, fusion]}", "[text, image]}", "space.model.text_encoder", "family image has no such key"),
        (
            "fixed: {",
            "fixed: {model.image_encoder: x, ",
            "fixed.model.image_encoder",
            "family text has no such key; search it with one",
        ),
        ("{model.kind: early}", "{model.text_encoder: small}", "space.model.dropout", "family text has no such key"),
        ("model.hidden:  ", "model.hiden:  ", "space.model.hiden", "unknown key, did you mean 'model.hidden'?"),
        ("[text, image, fusion]", "[text, imag, image, fusion]", "family.choices[1]", "did you mean 'image'?"),
        (
            "when: {family: fusion}}\n  model.t",
            "when: {family: [image, fusion]}}\n  model.t",
            "space.optim.lr[1]",
            "alternatives 1 and 2 both hold when family is image; their",
        ),
        ("low: 1.0e-4, high: 1.0e-3", "low: 1.0e-4, high: 99", "space.optim.lr[1].high", "must be at most 10.0"),
        (
            "{family: fusion}}\n  model.t",
            "{family: fusio}}\n  model.t",
            "space.optim.lr[1].when.family",
            "did you mean 'fusion'?",
        ),
    ],
)
def test_keys_exist_in_every_family_that_they_are_for(old, new, key, message):
    assert FAMILIES.count(old) == 1
    found = problems(FAMILIES.replace(old, new))
    assert [problem[0] for problem in found] == [key]
    assert message in found[0][2]


def test_family_of_one_choice_less_by_override():
    spec = load_spec(FAMILIES, overrides=["family=text"])
    assert spec.family == "text"
    assert [warning.split()[0] for warning in spec.warnings] == [
        "space.optim.lr,",
        "space.model.kind",
        "space.model.dropout",
    ]
    assert all("model.kind" not in params for params in corners(spec.space))


def test_a_key_that_the_family_needs():
    text = "study: s\nfamily: needs\ndataset: openclipart\nbudget: {trials: 1}\n"
    ((key, _, message),) = problems(text)
    assert (key, message) == ("model.width", "is missing, family needs needs it")
    assert load_spec(text + "fixed: {model.width: 3}\n").trial_config({}).model.width == 3


@pytest.mark.parametrize("choice", ["x", "7"])
def test_thousands_of_choices_are_refused_in_seconds(choice):
    choices = ", ".join([choice] * 20_000)
    text = GOOD.replace("{type: float, low: 0, high: 0.5}", f"{{type: categorical, choices: [{choices}]}}")
    start = time.perf_counter()
    found = problems(text)
    assert time.perf_counter() - start < 20  # each against each other took 167
    assert any("has 20000 values, at most 1000" in message for _, _, message in found)


HEAD = "study: s\nfamily: text\ndataset: openclipart\nbudget: {trials: 1}\n"


def test_thousands_of_problems_and_of_parameters_are_said_in_seconds():
    start = time.perf_counter()
    many = "".join(f"  optim.x{at}: {{type: int, low: 1, high: 2}}\n" for at in range(20_000))
    assert ("space", "has 20,000 parameters, at most 1,000") in {
        (key, message) for key, _, message in problems(f"{HEAD}space:\n{many}")
    }
    few = "".join(f"  optim.x{at}: {{type: int, low: 1, high: 2}}\n" for at in range(900))
    with pytest.raises(SpecError, match=r"has 900 problems:\n(.*\n){50}  \.\.\. and 850 more$") as caught:
        load_spec(f"{HEAD}space:\n{few}")
    assert len(caught.value.problems) == 900
    assert time.perf_counter() - start < 20  # every corner with every unknown key took minutes


@pytest.mark.parametrize(
    "section",
    ["fixed: {{{key}: 3, epohcs: 3}}", "fixed: {{epohcs: 3}}\nspace: {{{key}: {{type: int, low: 1, high: 2}}}}"],
)
@pytest.mark.parametrize("key", ["model", "optim", "optim.lr.low"])
def test_a_section_in_place_of_a_key_hides_nothing(section, key):
    found = {name: message for name, _, message in problems(f"{HEAD}{section.format(key=key)}\n")}
    assert found["fixed.epohcs"] == "unknown key, did you mean 'epochs'?" and len(found) == 2


def test_corners_find_values_that_do_not_fit_together():
    text = (
        "study: s\nfamily: text\ndataset: openclipart\nbudget: {trials: 1}\n"
        "fixed: {patience: 3, optim.schedule: plateau}\n"
        "space:\n  optim.plateau_patience: {type: int, low: 1, high: 4}\n"
    )
    ((key, line, message),) = problems(text)
    assert (key, line) == ("space.optim.plateau_patience", 7)
    assert message.startswith("4 must be below patience (3)")
    load_spec(text.replace("high: 4", "high: 2"))


# --- warnings -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "old, new, is_warned",
    [
        ("", "", False),
        ("grace_epochs: 4", "grace_epochs: 3", True),
        ("{name: asha, grace_epochs: 4, reduction_factor: 3}", "{name: none}", False),
        ("epochs: 9", "epochs: 4", False),
    ],
)
def test_uda_needs_grace(old, new, is_warned):
    warnings = load_spec(GOOD.replace(old, new) if old else GOOD).warnings
    assert [warning.startswith("scheduler.grace_epochs: 3 lets ASHA judge") for warning in warnings] == [
        True
    ] * is_warned


def test_options_of_a_scheduler_that_is_off_are_refused():
    found = problems(GOOD.replace("name: asha", "name: none"))
    assert [key for key, _, _ in found] == ["scheduler.grace_epochs", "scheduler.reduction_factor"]
    assert load_spec(GOOD, overrides=["scheduler={name: none}"]).scheduler.name == "none"


# --- overrides ----------------------------------------------------------------------------------------
def test_overrides():
    spec = load_spec(
        GOOD,
        overrides=[
            "budget.trials=4",
            "fixed.epochs = 5",
            "fixed.uda.temperature=0.5",
            "space.uda.lam.low=1.0e-4",
            "space.uda.n.when.uda.mode=[dynamic]",
            "space.uda.mode.choices.0=none",
            "space.optim.lr=null",
            "space.optim.beta1={type: float, low: 0.8, high: 0.99}",
            "try_first.0={uda.mode: fixed}",
            "try_first.0.uda.lam=2",
            "objectives.1.metric=num_parameters",
            "resources={}",
        ],
        name="other",
    )
    assert (spec.study, spec.budget.trials, spec.epochs, spec.fixed["uda.temperature"]) == ("other", 4, 5, 0.5)
    assert spec.space.domains["uda.lam"][0].low == 1e-4  # type: ignore[union-attr]
    assert spec.space.keys == ("model.dropout", "uda.mode", "uda.lam", "uda.n", "uda.k", "optim.beta1")
    assert spec.try_first == ({"uda.mode": "fixed", "uda.lam": 2.0},)
    assert (spec.objectives[1].metric, spec.resources.workers) == ("num_parameters", 1)
    assert load_spec(GOOD, overrides=["fixed={}"]).fixed == {}


def test_overrides_reach_into_alternatives():
    spec = load_spec(FAMILIES, overrides=["space.optim.lr.1.high=0.01", "family.choices=[text, fusion]"])
    assert spec.space.domains["optim.lr"][1].high == 0.01  # type: ignore[union-attr]
    assert spec.families == ("text", "fusion")


@pytest.mark.parametrize(
    "override, key, message",
    [
        ("budget.trials", "budget.trials", "write key=value"),
        ("=3", "=", "write key=value"),
        ("budget..trials=3", "budget..trials", "write key=value"),
        ("budget.trials=[", "budget.trials", "while parsing a flow"),
        ("budget.trials=*a", "budget.trials", "anchors"),
        ("budget.trials={a: 1, a: 2}", "budget.trials", "is given twice"),
        ("budget.trails=3", "budget.trails", "did you mean 'trials'?"),
        ("buget.trials=3", "buget", "did you mean 'budget'?"),
        ("budget.trials.x=3", "budget.trials", "is 48; there is no 'x' in it"),
        ("space.optim.lrr.low=1.0", "space.optim.lrr.low", "is not in space, did you mean 'optim.lr'?"),
        ("space.optim.lr.low=1e-5", "space.optim.lr.low", "'1e-5' is a string in YAML; write 1.0e-5"),
        ("space.optim.lr.lo=1.0", "space.optim.lr.lo", "did you mean 'low'?"),
        ("space.optim.lr.0.low=1.0", "space.optim.lr", "there is no entry 0 in it"),
        ("fixed.epocs=3", "fixed.epocs", "did you mean 'epochs'?"),
        ("try_first.7.uda.n=1", "try_first", "has 1 entries, counted from 0; there is no 7"),
        ("try_first.x=1", "try_first", "'x' is not the number of an entry"),
        ("fixed.model.kind=lat", "fixed.model.kind", "did you mean 'late'?"),
        ("model.kind=late", "model", "unknown key"),
    ],
)
def test_problems_of_overrides_name_the_override(override, key, message):
    with pytest.raises(SpecError) as caught:
        load_spec(GOOD, overrides=[override])
    ((found, line, text),) = caught.value.problems
    assert (found, line) == (key, None)
    assert message in text
    assert f"  {key} (--set {override}): " in str(caught.value)


def test_name_is_checked():
    with pytest.raises(SpecError, match=r"study \(name 'A'\): 'A' does not fit"):
        load_spec(GOOD, name="A")


# --- the study's own copy -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text", [GOOD, FAMILIES, GOOD.replace("\n", "\r\n"), "\ufeff" + GOOD], ids=["", "2", "crlf", "bom"]
)
def test_to_yaml_is_the_original_to_the_byte(text, tmp_path):
    path = tmp_path / "demo.yaml"
    path.write_bytes(text.encode())
    assert load_spec(path).to_yaml().encode() == path.read_bytes()


def test_to_yaml_gives_the_study_its_name(tmp_path):
    path = tmp_path / "from-file.yaml"
    path.write_text(GOOD.replace("study: demo\n", ""))
    spec = load_spec(path)
    assert spec.study == "from-file"
    assert spec.to_yaml() == GOOD.replace("study: demo", "study: from-file")
    flow = tmp_path / "flow.yaml"
    flow.write_text("{family: text, dataset: openclipart, budget: {trials: 1}}")
    assert load_spec(load_spec(flow).to_yaml()) == load_spec(flow)
    path.rename(tmp_path / "From File.yaml")
    with pytest.raises(SpecError, match="study: is missing, and the file's name 'From File' does not fit"):
        load_spec(tmp_path / "From File.yaml")


@pytest.mark.parametrize("text", [GOOD, FAMILIES])
@pytest.mark.parametrize("overrides", [[], ["budget.trials=3"], ["fixed.uda.confidence=null", "fixed.target='1e-5'"]])
@pytest.mark.parametrize("name", [None, "on", "1e5"])
def test_to_yaml_loads_as_an_equal_spec(text, overrides, name):
    spec = load_spec(text, overrides=overrides, name=name)
    again = load_spec(spec.to_yaml())
    assert again == spec
    assert again.space.keys == spec.space.keys and list(corners(again.space)) == list(corners(spec.space))
    assert again.to_yaml() == spec.to_yaml()
    assert pickle.loads(pickle.dumps(spec)) == spec
    if text is GOOD:
        assert again.to_yaml().startswith("# Fusion with dynamic UDA.\n#   mmtune run demo\n\n")


# --- files that come with mmtune ----------------------------------------------------------------------
@pytest.mark.parametrize("name", list(shipped_search_files()))
def test_shipped_search_files_load(name, real):
    spec = load_spec(shipped_search_files()[name])
    assert spec.warnings == ()
    assert load_spec(spec.to_yaml()) == spec


def test_loading_needs_neither_ray_nor_optuna():
    code = "import sys, mmtune.spec.search_spec; print([m for m in ('ray', 'optuna', 'torch') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# --- anything at all ----------------------------------------------------------------------------------
def nodes(tree: Any, path: tuple = ()) -> list[tuple]:
    """The paths of all that is in a tree."""
    found = [path] if path else []
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        found += nodes(value, (*path, key))
    return found


ODDITIES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    10**400,
    2**60,
    1.5,
    float("nan"),
    float("inf"),
    -1e308,
    1e308,
    "",
    "x",
    "1e-5",
    "no",
    "uda.mode",
    "a.b",
    "family",
    [],
    {},
    [[]],
    [None],
    {"": 1},
    {"a": {"b": 1}},
    {"type": "float"},
    [{"type": "int", "low": 0, "high": 1}],
    {"type": "categorical", "choices": []},
    {"type": "categorical", "choices": [[1], {}]},
    "dynamic",
    "fusion",
    "val_loss",
]


def mutate(tree: Any, rng: random.Random) -> Any:
    path = rng.choice(nodes(tree))
    parent = tree
    for part in path[:-1]:
        parent = parent[part]
    other = tree
    for part in rng.choice(nodes(tree)):
        other = other[part]
    kind = rng.randrange(5)
    if kind == 0:
        del parent[path[-1]]
    elif kind == 1:
        parent[path[-1]] = copy.deepcopy(rng.choice(ODDITIES))
    elif kind == 2:
        parent[path[-1]] = copy.deepcopy(other)
    elif kind == 3 and isinstance(parent, dict):
        parent[rng.choice(["x", "low", "uda.mode", "family", "", "when", "1"])] = parent.pop(path[-1])
    elif isinstance(parent, list):
        parent.append(copy.deepcopy(other))
    return tree


@pytest.mark.parametrize("start", range(0, 400, 50))
def test_any_document_loads_or_gives_a_spec_error(start):
    loaded = 0
    for seed in range(start, start + 50):
        rng = random.Random(seed)
        tree = yaml.safe_load(rng.choice([GOOD, FAMILIES]))
        for _ in range(rng.choice([1, 1, 2, 5])):
            tree = mutate(tree, rng)
        text = yaml.safe_dump(tree, default_flow_style=None) + "\n"
        if rng.random() < 0.2:  # torn or garbled text as well
            at = rng.randrange(len(text))
            text = (
                text[:at]
                + rng.choice(["", "\t", "{", "'", "&a ", "- ", ": ", "\x01"])
                + text[at + rng.randrange(3) :]
                + "\n"
            )
        try:
            spec = load_spec(text)
        except SpecError as error:
            assert error.problems and len(str(error).splitlines()) == len(error.problems) + 1
            continue
        loaded += 1
        assert load_spec(spec.to_yaml()) == spec
        for params in corners(spec.space, 20):
            spec.trial_config(params)
    assert loaded > 0  # some changes do no harm


@pytest.mark.parametrize("start", range(0, 200, 100))
def test_any_override_loads_or_gives_a_spec_error(start):
    tree = yaml.safe_load(FAMILIES)
    for seed in range(start, start + 100):
        rng = random.Random(seed)
        key = ".".join(map(str, rng.choice(nodes(tree))))
        value = yaml.safe_dump(rng.choice(ODDITIES), default_flow_style=True).removesuffix("...\n").strip()
        try:
            spec = load_spec(FAMILIES, overrides=[f"{key}={value}"])
        except SpecError as error:
            assert all(isinstance(problem.message, str) for problem in error.problems)
            continue
        assert load_spec(spec.to_yaml()) == spec
