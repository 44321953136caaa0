"""A dict says what a search file says: the same spec, the same problems, only without lines."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import yaml

from mmtune.spec.document import SpecError
from mmtune.spec.overrides import override_texts
from mmtune.spec.search_spec import load_spec
from mmtune.spec.shipped import shipped_search_files
from mmtune.spec.values import Values
from trainables.yamltree import Tree

TEXT = """\
study: mine
family: {type: categorical, choices: [text, fusion]}
dataset: openclipart
fixed: {epochs: 3, max_text_len: 16, image_size: 32, model.text_encoder: tiny-bert}
space:
  optim.lr: {type: float, low: 1.0e-5, high: 1.0e-2, log: true}
  model.image_encoder: {type: categorical, choices: [tiny-cnn], when: {family: fusion}}
  uda.mode: {type: categorical, choices: ["none", dynamic]}
  uda.n: {type: int, low: 1, high: 20, log: true, when: {uda.mode: dynamic}}
try_first:
  - {family: text, optim.lr: 1.0e-3, uda.mode: "none"}
scheduler: {name: asha, grace_epochs: 1, reduction_factor: 3}
budget: {trials: 4}
"""
FILES = shipped_search_files()
NAMES = ["demo/openclipart", "mmbv/moviescope", "hybrid_vae/openclipart"]


@pytest.mark.parametrize("name", [*NAMES, *(pytest.param(n, marks=pytest.mark.slow) for n in [*FILES][::9])])
def test_a_dict_gives_the_spec_of_the_file(name):
    of_file = load_spec(FILES[name])
    of_dict = load_spec(yaml.safe_load(FILES[name].read_text(encoding="utf-8")))
    assert of_dict == of_file == load_spec(of_dict.to_yaml())


def test_values_of_numpy_and_other_plain_types():
    class Name(StrEnum):
        FUSION = "fusion"

    given = {
        "a": (np.int64(3), np.float32(0.5), np.float64(1e-5)), "b": {"c": Path("x/y"), "d": Name.FUSION},
        "e": MappingProxyType({"f": None}), "g": True,
    }  # fmt: skip
    plain = Values(given)
    assert not plain.problems
    assert plain.data == {"a": [3, 0.5, 1e-5], "b": {"c": "x/y", "d": "fusion"}, "e": {"f": None}, "g": True}
    assert [type(value) for value in plain.data["a"]] == [int, float, float] and type(plain.data["b"]["d"]) is str
    assert yaml.safe_load(yaml.safe_dump(plain.data)) == plain.data


@pytest.mark.parametrize(
    "change, line",
    [
        ({"famly": "text"}, "famly: unknown key, did you mean 'family'?"),
        ({"fixed": {"epochs": "three"}}, "fixed.epochs: 'three' is not a number"),
        ({"fixed": {"epochs": {1, 2}}}, "fixed.epochs: is a set, which no search file can hold"),
        ({"fixed": {"epochs": 3, 4: 5}}, "fixed: a key must be a word, not 4"),
        (
            {"space": {"optim.lr": {"type": "float", "low": np.array([1.0]), "high": 1.0}}},
            "space.optim.lr.low: is a nd",
        ),
        ({"try_first": [{"family": "txt"}]}, "try_first[0].family: 'txt' is unknown, did you mean 'text'"),
        ({"budget": {"trials": 0}}, "budget.trials: 0 must be at least 1"),
        ({"study": "\ud800"}, "study: is not valid Unicode"),
    ],
)
def test_problems_have_their_keys(change, line):
    with pytest.raises(SpecError) as caught:
        load_spec(yaml.safe_load(TEXT) | change)
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("the dict has ") and "line" not in first
    assert any(found.startswith(f"  {line}") for found in lines), lines


def test_every_problem_at_once_as_a_file_has_them():
    broken = TEXT
    for old, new in (("epochs: 3", "epochs: three"), ("study: mine", "stdy: mine"), ("dynamic}}", "dyn}}")):
        broken = broken.replace(old, new)
    found = []
    for search in (broken, yaml.safe_load(broken)):
        with pytest.raises(SpecError) as caught:
            load_spec(search, overrides=["budget.trails=3"])
        found.append({(problem.key, problem.message) for problem in caught.value.problems})
    assert found[0] == found[1] and len(found[0]) >= 4


def test_what_holds_itself_and_what_is_a_config():
    search: dict = {}
    search["fixed"] = search
    with pytest.raises(SpecError, match="nested too deeply, or holds itself"):
        load_spec(search)
    with pytest.raises(ValueError, match="the dict is the config of one trial, not a search file"):
        load_spec({"family": "text", "dataset": "openclipart", "epochs": 2, "optim": {"lr": 1e-3}})


@pytest.mark.parametrize(
    "value",
    [3, 1e-5, "1e-5", "none", "no", "a: b", "", None, True, [1, (2.5, "x")], {"low": 1e-4, "choices": ["no"]}, "é"],
)
def test_overrides_say_the_value_that_was_given(value):
    (text,) = override_texts({"space.optim.lr": value})
    key, _, written = text.partition("=")
    assert key == "space.optim.lr" and Tree(written).data == Values(value).data and not Tree(written).problems


def test_overrides_that_yaml_cannot_say():
    with pytest.raises(ValueError, match=r"--set fixed.x.1: is a object, which no search file can hold"):
        override_texts({"fixed.x": [1, object()]})
