"""What a user may call a model, on study folders written by hand."""

import json

import pytest

from mmtune import records
from mmtune.models.reference import find_model

SPEC = """study: one
family: text
dataset: openclipart
objectives: [{metric: val_accuracy, mode: max}]
space: {optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}}
budget: {trials: 3}
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "studies" / "one"
    for trial in ("t0000", "t0001", "t0002"):
        (root / "trials" / trial).mkdir(parents=True)
        for name in ("model.json", "best.safetensors", "config.yaml"):
            (root / "trials" / trial / name).write_text("{}")
    (root / "spec.yaml").write_text(SPEC)
    info = {"params": ["optim.lr"], "objectives": [{"metric": "val_accuracy", "mode": "max"}], "budget": {"trials": 3}}
    (root / "study.json").write_text(json.dumps(info))
    states = zip(("t0000", "t0001", "t0002"), ("PRUNED", "COMPLETE", "FAILED"), (0.5, 0.7, 0.9), strict=True)
    rows = [{"trial": trial, "state": state, "epochs": 1, "val_accuracy": value} for trial, state, value in states]
    (root / "trials.csv").write_text(records.csv_text(list(rows[0]), rows))
    return root


def test_a_trial_a_study_and_a_folder(study, tmp_path):
    by_name, by_path = find_model("one/t0000"), find_model(study / "t0000")
    assert by_name.folder.resolve() == by_path.folder == study / "trials" / "t0000"
    assert (by_path.study, by_path.trial, by_path.name) == (study, "t0000", "one/t0000")
    assert find_model("one").trial == "t0001"  # the best that ended well
    assert find_model(study / "trials" / "t0002").name == "one/t0002"
    alone = tmp_path / "trained"
    (study / "trials" / "t0001").rename(alone)
    found = find_model("trained")
    assert (found.study, found.trial, found.name) == (None, None, "trained")


def test_what_is_none_is_said_in_one_line(study, tmp_path):
    def said(text):
        with pytest.raises(ValueError) as caught:
            find_model(text)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such model; give STUDY/t0007" in said("nothing")
    assert "'t0009' is unknown, did you mean" in said("one/t0009")
    (tmp_path / "empty").mkdir()
    assert "neither a study nor a trained model" in said("empty")
    (study / "trials" / "t0000" / "best.safetensors").unlink()
    assert "weights were not kept" in said("one/t0000")
    assert "mmtune train" in said("one/t0000")
    assert find_model("one/t0000", needs_weights=False).trial == "t0000"
    (study / "trials" / "t0002" / "model.json").unlink()
    assert "ended before its first epoch" in said("one/t0002")
    (study / "trials.csv").write_text("trial,state\n")
    assert "no trial yet" in said("one")


def test_looks_at_the_test_split_are_part_of_what_a_study_took(study):
    from analysis.studies import study_cost

    assert study_cost(study).test_looks == 0
    appender = records.CsvAppender(study / records.TESTED)
    for _ in range(3):
        appender.append({"time": records.now(), "model": "one/t0001", "without": ""})
    assert study_cost(study).test_looks == 3
