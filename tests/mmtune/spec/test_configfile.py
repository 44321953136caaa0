"""TrialConfigs as files, right and wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from mmtune.space.corners import corners
from mmtune.spec.configfile import load_config
from mmtune.spec.document import SpecError
from mmtune.spec.search_spec import load_spec
from mmtune.spec.shipped import shipped_search_files
from trainables.config import TrialConfig

GOOD = """\
# Best of s.
family: fusion
dataset: openclipart
epochs: 3
patience: 5
optim: {lr: 1, schedule: cosine}
uda:
  mode: dynamic
  lam: 2
loss:
model: {kind: late, hidden: 64}
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "best.yaml"
        path.write_text(text)
        return path

    return write


def test_good_file(write):
    config = load_config(write(GOOD))
    assert (config.family, config.epochs, config.optim.lr, config.uda.lam) == ("fusion", 3, 1.0, 2.0)
    assert type(config.optim.lr) is float and (config.model.kind, config.model.hidden) == ("late", 64)
    assert config == TrialConfig.from_params(
        {"family": "fusion", "dataset": "openclipart", "epochs": 3, "patience": 5, "optim.lr": 1.0}
        | {"optim.schedule": "cosine", "uda.mode": "dynamic", "uda.lam": 2.0, "model.kind": "late", "model.hidden": 64}
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name.startswith("smoke/") else pytest.mark.slow)
        for name in shipped_search_files()
    ],
)
def test_every_config_of_a_study_comes_back(name, write):
    spec = load_spec(shipped_search_files()[name])
    for params in corners(spec.space, 20):
        config = spec.trial_config(params)
        assert load_config(write(yaml.safe_dump(config.to_dict(), sort_keys=False))) == config


def test_data_dir_replaces_the_files(write):
    path = write(GOOD + "data_dir: /elsewhere\n")
    assert load_config(path).data_dir == "/elsewhere"
    assert load_config(path, data_dir="/here").data_dir == load_config(path, data_dir=Path("/here")).data_dir == "/here"


@pytest.mark.parametrize(
    "old, new, key, line, message",
    [
        ("family: fusion", "family: fusoin", "family", 2, "'fusoin' is unknown, did you mean 'fusion'? Known: text, "),
        ("family: fusion", "family: {type: categorical}", "family", 2, "is a mapping; a string is expected"),
        ("family: fusion", "family: no", "family", 2, "YAML reads no as false; quote it"),
        ("family: fusion\n", "", "family", None, "is missing. Known: text, "),
        ("dataset: openclipart", "dataset: opencliprt", "dataset", 3, "did you mean 'openclipart'?"),
        ("epochs: 3", "epocs: 3", "epocs", 4, "unknown key, did you mean 'epochs'?"),
        ("epochs: 3", "epochs: 3.0", "epochs", 4, "3.0 is not a whole number"),
        ("epochs: 3", "epochs: 0", "epochs", 4, "0 must be at least 1"),
        ("epochs: 3", "epochs: [3]", "epochs", 4, "is a list; a value is expected"),
        ("epochs: 3", "epochs: 3\nepochs: 4", "epochs", 5, "is given twice, first on line 4"),
        ("epochs: 3", "optim.beta1: 0.5", "optim.beta1", 4, "is a flat key; a config is nested, write optim: {beta1: "),
        ("lr: 1,", "lr: 1e-5,", "optim.lr", 6, "'1e-5' is a string in YAML; write 1.0e-5"),
        ("lr: 1,", "lr: 11,", "optim.lr", 6, "11.0 must be at most 10.0"),
        ("lr: 1,", "lrr: 1,", "optim.lrr", 6, "unknown key, did you mean 'optim.lr'?"),
        ("cosine", "cosin", "optim.schedule", 6, "'cosin' is unknown, did you mean 'cosine'? Known: linear, cosine, "),
        ("cosine", "plateau, plateau_patience: 5", "optim.plateau_patience", 6, "5 must be below patience (5), or "),
        ("loss:", "loss: 3", "loss", 10, "is 3; a mapping is expected"),
        ("loss:", "los:", "los", 10, "unknown key"),
        ("kind: late", "kind: lat", "model.kind", 11, "'lat' is unknown, did you mean 'late'? Known: early, late"),
        ("hidden: 64", "hidden: 0", "model.hidden", 11, "0 must be at least 1"),
        ("hidden: 64", "hiden: 64", "model.hiden", 11, "unknown key, did you mean 'model.hidden'?"),
        ("hidden: 64", "lock_text: 1", "model.lock_text", 11, "1 is neither true nor false"),
        ("epochs: 3", "epochs: &a 3", "syntax", 4, "&a: anchors and aliases are not allowed"),
    ],
)
def test_one_problem(write, old, new, key, line, message):
    assert GOOD.count(old) == 1
    with pytest.raises(SpecError) as caught:
        load_config(write(GOOD.replace(old, new)))
    ((found_key, found_line, text),) = caught.value.problems
    assert (found_key, found_line) == (key, line)
    assert message in text


def test_all_problems_at_once(write):
    path = write("family: text\ndataset: openclipart\nseed: -1\noptim:\n  lr: 1e-5\nmodel:\n  hiden: 3\n  depth: 99\n")
    with pytest.raises(SpecError) as caught:
        load_config(path)
    assert str(caught.value) == (
        f"{path} has 4 problems:\n"
        "  seed (line 3): -1 must be at least 0\n"
        "  optim.lr (line 5): '1e-5' is a string in YAML; write 1.0e-5\n"
        "  model.hiden (line 7): unknown key, did you mean 'model.hidden'?\n"
        "  model.depth (line 8): 99 must be at most 8"
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "file: is empty"),
        ("- a\n", "file (line 1): is a list; a config is a mapping of family, dataset, optim, model, ..."),
        ("a: [\n", "syntax (line 2): while parsing a flow node"),
    ],
)
def test_files_that_are_no_configs(write, tmp_path, text, message):
    with pytest.raises(SpecError, match="has 1 problem:\n  ") as caught:
        load_config(write(text))
    assert message in str(caught.value)
    with pytest.raises(SpecError, match="file: does not exist"):
        load_config(tmp_path / "none.yaml")


def test_the_two_kinds_of_file_are_told_apart(write):
    search = "family: text\ndataset: openclipart\nbudget: {trials: 1}\n"
    with pytest.raises(ValueError, match=r"best.yaml is a search file.*; run it: mmtune run .*best.yaml$"):
        load_config(write(search))
    with pytest.raises(
        ValueError, match=r"best.yaml is the config of one trial.*; train it: mmtune train .*best.yaml$"
    ):
        load_spec(write(GOOD))
    with pytest.raises(SpecError, match="epochs .line 4.: is a setting of the trials"):  # in a search file
        load_spec(write(search + "epochs: 3\n"))


def test_errors_of_a_family_say_that_they_are_about_the_model():
    with pytest.raises(ValidationError) as caught:
        TrialConfig.from_params({"family": "text", "dataset": "x", "epochs": 0, "model.hidden": 0, "model.nothing": 1})
    assert [detail["loc"] for detail in caught.value.errors()] == [
        *(("epochs",), ("model", "hidden"), ("model", "nothing"))
    ]
    with pytest.raises(ValidationError) as caught:
        TrialConfig.from_params({"family": "nothing", "dataset": "x"})
    assert [detail["loc"] for detail in caught.value.errors()] == [("family",)]
