"""Search files as people write them; the families and datasets here are stand-ins."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from spec_files import FAMILIES, GOOD, problems

from mmtune.search.samplers import TpeOptions
from mmtune.search.schedulers import AshaOptions
from mmtune.space.corners import corners
from mmtune.space.optuna_names import suggest
from mmtune.spec.document import SpecError
from mmtune.spec.search_spec import load_spec
from trainables.config import TrialConfig

pytestmark = pytest.mark.usefixtures("stand_ins")


# --- what a good file gives ---------------------------------------------------------------------------
def test_good_file():
    spec = load_spec(GOOD)
    assert (spec.study, spec.family, spec.families, spec.dataset) == ("demo", "fusion", ("fusion",), "openclipart")
    assert [(o.metric, o.mode) for o in spec.objectives] == [("val_macro_f1", "max"), ("device_seconds", "min")]
    assert spec.epochs == 9 and spec.budget.trials == 48 and spec.budget.device_hours == 200.0
    assert spec.budget.wall_hours is None and spec.resources.concurrent_trials == 4
    assert spec.sampler.seed == 3 and spec.sampler.options == TpeOptions(multivariate=True)
    assert spec.scheduler.options == AshaOptions(grace_epochs=4, reduction_factor=3)
    assert spec.resources.isolation == "slot"
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


@pytest.mark.slow
def test_loading_needs_neither_ray_nor_optuna():
    code = "import sys, mmtune.spec.search_spec; print([m for m in ('ray', 'optuna', 'torch') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


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


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["x", "7"])
def test_thousands_of_choices_are_refused_in_seconds(choice):
    choices = ", ".join([choice] * 20_000)
    text = GOOD.replace("{type: float, low: 0, high: 0.5}", f"{{type: categorical, choices: [{choices}]}}")
    start = time.perf_counter()
    found = problems(text)
    assert time.perf_counter() - start < 20  # each against each other took 167
    assert any("has 20000 values, at most 1000" in message for _, _, message in found)


HEAD = "study: s\nfamily: text\ndataset: openclipart\nbudget: {trials: 1}\n"


@pytest.mark.slow
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


def test_how_many_go_on_follows_the_kind_of_budget():
    text = GOOD.replace(", reduction_factor: 3", "")
    assert load_spec(text).rules.eta == 3
    for limit in ("device_hours: 3", "wall_hours: 3", "epochs: 300"):
        assert load_spec(text, overrides=[f"budget={{{limit}}}"]).rules.eta == 4
    assert load_spec(GOOD, overrides=["budget={device_hours: 3}"]).rules.eta == 3


def test_options_of_a_scheduler_that_is_off_are_refused():
    found = problems(GOOD.replace("name: asha", "name: none"))
    assert [key for key, _, _ in found] == ["scheduler.grace_epochs", "scheduler.reduction_factor"]
    assert load_spec(GOOD, overrides=["scheduler={name: none}"]).scheduler.name == "none"


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
