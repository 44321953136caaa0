"""Who the finalists are, and the search file that trains them again: on folders written by hand, then for real."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from mmtune import records
from mmtune.models.confirm import confirming_spec, settings
from mmtune.spec.search_spec import load_spec
from mmtune.study.create import create_study
from trainables.config import TrialConfig
from trainables.families import FAMILIES
from trainables.files import write_atomic

SEARCH = """\
study: s
family: {type: categorical, choices: [text, fusion]}
dataset: openclipart
fixed: {epochs: 3, patience: 2, max_train_rows: 128, max_text_len: 16, image_size: 32, model.text_encoder: tiny-bert,
        model.lock_text: false, seed: 2}
space:
  optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
  model.image_encoder: {type: categorical, choices: [tiny-cnn], when: {family: fusion}}
  model.lock_image: {type: categorical, choices: [false], when: {family: fusion}}
scheduler: {name: asha, grace_epochs: 1, reduction_factor: 2}
budget: {trials: 3}
resources: {concurrent_trials: 1}
"""
FUSION = {"family": "fusion", "model.image_encoder": "tiny-cnn", "model.lock_image": False}
ROWS = [  # family, lr, val_accuracy, state
    ("text", 0.001, 0.50, "PRUNED"), ("fusion", 0.001, 0.70, "COMPLETE"), ("fusion", 0.002, 0.90, "FAILED"),
    ("fusion", 0.001, 0.65, "COMPLETE"), ("fusion", 0.004, 0.60, "PAUSED"), ("text", 0.003, 0.55, "COMPLETE"),
]  # fmt: skip


def write_study(storage, text=SEARCH, rows=ROWS, data_dir=None):
    """A study that ended with these trials."""
    spec = load_spec(text)
    folder = create_study(spec, storage=storage, data_dir=data_dir)
    table = []
    for number, (family, lr, value, state) in enumerate(rows):
        trial = records.trial_id(number)
        params = {"optim.lr": lr, **(FUSION if family == "fusion" else {"family": "text"})}
        config = spec.trial_config(params, data_dir).to_dict()
        write_atomic(folder.trial(trial) / "config.yaml", yaml.safe_dump(config))
        params = {**params, "family": family}
        table.append({"trial": trial, "state": state, "epochs": 1, "best_epoch": 1, **params, "val_accuracy": value})
    write_atomic(folder.trials, records.csv_text(list(dict.fromkeys(key for row in table for key in row)), table))
    return folder


def confirming(*folders, top=3, seeds=2, by_family=False, **how):
    return confirming_spec([f.root for f in folders], top=top, seeds=seeds, by_family=by_family, **how)


@pytest.mark.parametrize(
    "how, expected",
    [
        ({"top": 3}, ["t0001", "t0004", "t0005"]),  # t0002 failed, t0003 has t0001's settings
        ({"top": 1}, ["t0001"]),
        ({"top": 9}, ["t0001", "t0004", "t0005", "t0000"]),
        ({"top": 1, "by_family": True}, ["t0001", "t0005"]),
        ({"top": 2, "by_family": True}, ["t0001", "t0004", "t0005", "t0000"]),
    ],
)
def test_the_finalists(tmp_path, how, expected):
    spec, data_dir = confirming(write_study(tmp_path), **how)
    assert list(spec.finalists) == [f"s/{trial}" for trial in expected] and data_dir is None
    assert spec.study == "s-confirm" and spec.resources == load_spec(SEARCH).resources


def test_each_is_trained_as_it_was_but_whole_and_on_fresh_seeds(tmp_path):
    folder = write_study(tmp_path)
    spec, _ = confirming(folder, top=4, seeds=3)
    assert [(row["seed"], row["finalist"]) for row in spec.try_first] == [
        (seed, name)
        for seed in (1, 3, 4)
        for name in spec.finalists  # 2 chose them
    ]
    assert spec.scheduler.name == "none" and spec.budget.trials == 12 and load_spec(spec.to_yaml()) == spec
    for row in spec.try_first:
        written = yaml.safe_load((folder.trial(row["finalist"][2:]) / "config.yaml").read_text())
        assert spec.trial_config(row) == TrialConfig(**{**written, "seed": row["seed"]})
    assert "s/t0001: val_accuracy 0.7000 with seed 2" in spec.to_yaml()


def test_finalists_of_several_studies(tmp_path):
    one = write_study(tmp_path)
    two = write_study(tmp_path, SEARCH.replace("study: s", "study: two").replace("seed: 2", "seed: 1"))
    spec, _ = confirming(one, two, top=3, seeds=2, name="both", overrides=["budget.device_hours=3"])
    assert list(spec.finalists) == ["s/t0001", "s/t0004", "s/t0005"]  # the other study's have the same settings
    assert spec.study == "both" and spec.budget.device_hours == 3
    other = SEARCH.replace("study: s", "study: three").replace("concurrent_trials: 1", "workers: 2")
    three = write_study(tmp_path, other, [("text", 0.005, 0.95, "COMPLETE")])
    spec, _ = confirming(one, three, top=2)
    assert list(spec.finalists) == ["three/t0000", "s/t0001"]
    assert any("differ in their resources; those of s are taken" in note for note in spec.warnings)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("dataset: openclipart", "dataset: emoji", "different data cannot be ranked together: s: openclipart, "),
        ("seed: 2", "seed: 2, target: tags", "studies of different data cannot be ranked together"),
        ("budget:", "objectives: [{metric: val_loss}]\nbudget:", "the studies have different objectives"),
    ],
)
def test_studies_that_do_not_compare(tmp_path, old, new, message):
    one, two = write_study(tmp_path), write_study(tmp_path, SEARCH.replace("study: s", "study: two").replace(old, new))
    with pytest.raises(ValueError, match=message):
        confirming(one, two)


def test_what_is_refused(tmp_path):
    folder = write_study(tmp_path)
    with pytest.raises(ValueError, match=r"--set fixed.epochs=9: a finalist keeps its settings; give budget"):
        confirming(folder, overrides=["fixed.epochs=9"])
    empty = write_study(tmp_path, SEARCH.replace("study: s", "study: e"), [("text", 0.001, 0.5, "FAILED")])
    with pytest.raises(ValueError, match="e: no finished trial with a finite val_accuracy yet"):
        confirming(empty)
    spec, _ = confirming(folder)
    again = create_study(spec, storage=tmp_path)
    write_atomic(again.trials, folder.trials.read_bytes())
    with pytest.raises(ValueError, match="s-confirm: repeats finalists itself"):
        confirming(again)
    (folder.trial("t0001") / "config.yaml").unlink()
    with pytest.raises(ValueError, match="config.yaml: missing, so trial t0001 cannot be trained again"):
        confirming(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_settings_make_the_config_again(family):
    """Of a config with nothing but defaults only the epochs are left; what is set comes back."""
    data = {"family": family, "dataset": "openclipart"}
    plain = TrialConfig.from_params(data)
    assert settings(plain) == {"epochs": plain.epochs}
    config = TrialConfig.from_params({**data, "seed": 7, "optim.lr": 0.002, "uda.mode": "dynamic"})
    again = TrialConfig.from_params({**data, "seed": 7, **settings(config)})
    assert again == config


# --- on real Ray --------------------------------------------------------------------------------------
TIMING = {"time", *records.SUMS, "samples_per_second", *records.PEAKS}


def mmtune(tmp_path, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "mmtune.cli", *arguments], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def finish(process):
    out, err = process.communicate(timeout=1500)
    assert process.returncode == 0, err
    return out


def ends(folder):
    """What a confirming study says of each trial, times aside, and the test results that it keeps."""
    rows = records.read_csv(folder / "trials.csv")
    facts = ("trial", "state", "epochs", "finalist", "seed")
    shown = [{key: row[key] for key in row if key in facts or key.startswith(("val_", "test_"))} for row in rows]
    reports = [
        {key: cell for key, cell in row.items() if key not in TIMING}
        for row in records.read_csv(folder / "reports.csv")
    ]
    return shown, sorted(reports, key=lambda row: (row["trial"], int(row["epoch"])))


@pytest.mark.slow
def test_search_then_confirm_killed_and_resumed_equals_an_undisturbed_one(tmp_path):
    """The best of each family on two seeds. The other way begins where a kill between the two leaves it."""
    (tmp_path / "s.yaml").write_text(SEARCH)
    out = finish(mmtune(tmp_path, "run", "s.yaml", "--confirm", "2"))
    assert "finalists over their seeds" in out and "looked at 4 times" in out
    whole, killed = tmp_path / "studies" / "s-confirm", tmp_path / "other" / "s-confirm"
    shutil.copytree(tmp_path / "studies" / "s", tmp_path / "other" / "s")
    process = mmtune(tmp_path, "resume", "other/s")
    deadline = time.monotonic() + 1200
    while len(records.read_csv(killed / "reports.csv")) < 5:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    tested = {path: path.stat().st_mtime_ns for path in (killed / "trials").glob("*/test.json")}
    assert len(tested) in (1, 2)
    out = finish(mmtune(tmp_path, "resume", "other/s"))
    assert "recovered" in out and "looked at 4 times" in out
    assert ends(killed) == ends(whole)
    assert all(path.stat().st_mtime_ns == when for path, when in tested.items())  # not looked at again
    shown, reports = ends(whole)
    assert [row["seed"] for row in shown] == ["1", "1", "3", "3"] and len({row["test_accuracy"] for row in shown}) > 1
    assert all(row["state"] == "COMPLETE" and row["test_accuracy"] for row in shown)
    confirmed = records.read_rows(whole / "report" / "confirm.csv")
    assert {row["family"] for row in confirmed} == {"text", "fusion"}
    for row in confirmed:
        scores = [float(one["test_accuracy"]) for one in shown if one["finalist"] == f"s/{row['trial']}"]
        assert row["seeds"] == len(scores) == 2 and row["test_accuracy"] == pytest.approx(sum(scores) / 2)
