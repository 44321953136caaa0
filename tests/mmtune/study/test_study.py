"""A Study is its folder: its tables are the CSV files, and looking changes nothing."""

from __future__ import annotations

import csv
import pickle

import pandas as pd
import pytest

import mmtune
from mmtune import records
from mmtune.records import StudyFolder
from mmtune.spec.search_spec import load_spec
from mmtune.study.create import create_study

SPEC = load_spec("""\
study: s
family: text
dataset: openclipart
space: {optim.lr: {type: float, low: 0.0001, high: 0.01, log: true}}
budget: {trials: 3}
""")
TRIALS = [
    {"trial": "t0000", "state": "COMPLETE", "epochs": 2, "best_epoch": 2, "optim.lr": 0.001, "val_accuracy": 0.5,
     "val_loss": 1.0, "wall_seconds": 4.0, "device_seconds": 4.0, "error": ""},
    {"trial": "t0001", "state": "PRUNED", "epochs": 1, "best_epoch": 1, "optim.lr": 0.002, "val_accuracy": 0.25,
     "val_loss": 2.0, "wall_seconds": 1.0, "device_seconds": 1.0, "error": ""},
    {"trial": "t0002", "state": "FAILED", "epochs": 0, "best_epoch": None, "optim.lr": 0.003, "val_accuracy": None,
     "val_loss": None, "wall_seconds": None, "device_seconds": None, "error": "boom"},
]  # fmt: skip
REPORTS = [
    {"trial": trial, "time": f"2026-01-02T03:0{at}:05Z", "epoch": epoch, "train_loss": 2.5, "val_accuracy": accuracy,
     "wall_seconds": seconds, "device_seconds": seconds}
    for at, (trial, epoch, accuracy, seconds) in enumerate(
        [("t0000", 1, 0.125, 1.5), ("t0001", 1, 0.25, 1.0), ("t0000", 2, 0.5, 2.5)])
]  # fmt: skip


def write(folder: StudyFolder) -> mmtune.Study:
    folder.trials.write_text(records.csv_text(list(TRIALS[0]), TRIALS))
    folder.reports.write_text(records.csv_text(list(REPORTS[0]), REPORTS))
    return mmtune.open(folder.root)


@pytest.fixture
def study(tmp_path) -> mmtune.Study:
    return write(create_study(SPEC, storage=tmp_path))


def test_tables_are_the_csv_files(study, tmp_path):
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for table, name in ((study.trials, "trials.csv"), (study.reports, "reports.csv")):
        with (study.path / name).open(newline="") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: row["trial"])
        assert len(table) == len(rows) == 3
        for (_, mine), row in zip(table.iterrows(), rows, strict=True):
            for column, text in row.items():
                value = mine[column]
                if text == "":
                    assert pd.isna(value) or value == "", column
                elif column == "time":
                    assert value == pd.Timestamp(text)
                else:
                    assert value == (text if isinstance(value, str) else float(text)), column
    assert study.spec == SPEC and study.name == "s" and study.path == tmp_path / "s"
    assert study.cost.states == {"COMPLETE": 1, "PRUNED": 1, "FAILED": 1}
    assert study.cost.device_hours == pytest.approx(5.0 / 3600)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_best_and_the_front(study):
    assert study.best()["trial"] == "t0000" and study.best("val_loss")["trial"] == "t0000"
    front = study.pareto()
    assert front["trial"].to_list() == ["t0001", "t0000"]
    assert front["extra_cost_per_point"].to_list()[1] == pytest.approx((4.0 - 1.0) / (0.25 / 0.01))
    assert study.pareto(cost="epochs")["trial"].to_list() == ["t0001", "t0000"]
    with pytest.raises(ValueError, match="'val_acuracy' is unknown, did you mean 'val_accuracy'"):
        study.best("val_acuracy")
    with pytest.raises(ValueError, match="'device_second' is unknown, did you mean 'device_seconds'"):
        study.pareto("device_second")


@pytest.mark.slow
def test_figures_are_pictures_in_a_notebook_and_on_disk(study, tmp_path):
    for figure in (study.plot_pareto(), study.plot_curves(top=1)):
        assert figure._repr_png_().startswith(b"\x89PNG")
        figure.savefig(tmp_path / "figure.pdf")
        assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match="no report has val_f1"):
        study.plot_curves("val_f1")


def test_jupyter_shows_a_table_and_escapes_what_is_in_it(tmp_path):
    evil = "<script>alert(1)</script>"
    domain = "model.text_encoder: {type: categorical, choices: [tiny-bert]}"
    spec = load_spec(SPEC.to_yaml().replace("optim.lr: {type: float, low: 0.0001, high: 0.01, log: true}", domain))
    folder = create_study(spec, storage=tmp_path / "a&b")
    rows = [{**row, "model.text_encoder": evil} for row in TRIALS * 4]
    rows = [{**row, "trial": records.trial_id(at)} for at, row in enumerate(rows)]
    folder.trials.write_text(records.csv_text(list(rows[0]), rows))
    study = mmtune.open(folder.root)
    page = study._repr_html_()
    assert evil not in page and "&lt;script&gt;" in page and "a&amp;b" in page
    assert page.count("<tr>") == 11 and "10 of 12 trials shown" in page and "0.5000" in page
    assert repr(study) == f"<Study s: 12 trials (4 complete, 4 pruned, 4 failed), in {folder.root}>"


def test_before_its_first_trial_and_after_its_folder_is_gone(tmp_path):
    folder = create_study(SPEC, storage=tmp_path)
    study = mmtune.open(str(folder.root))
    assert repr(study) == f"<Study s: 0 trials, in {folder.root}>" and "0 trials" in study._repr_html_()
    assert not study.is_finished
    for look in (lambda: study.trials, lambda: study.reports, study.best, study.plot_curves):
        with pytest.raises(ValueError, match="no trial"):
            look()
    assert {write(folder), mmtune.open(folder.root)} == {study}
    assert study.is_finished
    assert pickle.loads(pickle.dumps(study)) == study
    folder.root.rename(tmp_path / "moved")
    assert repr(study) == f"<Study s: gone, in {folder.root}>" and "gone" in study._repr_html_()
    assert mmtune.open(tmp_path / "moved").best().at["trial"] == "t0000"
    assert mmtune.open(tmp_path / "moved") != study
    with pytest.raises(ValueError, match="no such study folder"):
        study.trials  # noqa: B018


def test_a_study_is_found_by_name(study, tmp_path, monkeypatch):
    (tmp_path / "studies").mkdir()
    study.path.rename(tmp_path / "studies" / "s")
    monkeypatch.chdir(tmp_path)
    assert mmtune.open("s").path == tmp_path / "studies" / "s"
    assert repr(mmtune.open("s")).endswith(", in studies/s>")
    for given, message in (("photos", "photos: no such study folder"), (".", "not a study folder")):
        with pytest.raises(ValueError, match=message):
            mmtune.open(given)
