"""Finalists over their seeds: which trials count, what of them is written, and where it is shown."""

import math
import statistics

import pandas as pd
import pytest
from scipy import stats

from analysis.confirm import confirm_note, confirm_table, finalist_table, finalists_of, write_confirm
from analysis.report import write_report
from analysis.studies import load_studies
from mmtune import records
from trainables.files import write_atomic

SCORES = {"demo/t0003": [0.80, 0.84, 0.82], "demo/t0001": [0.79, 0.78, 0.80]}  # on the test split, by seed


@pytest.fixture
def confirming(studies):
    """A study of two finalists on three seeds, a third that failed, and a trial that is still to come."""
    rows = []
    for name, scores in SCORES.items():
        for seed, score in enumerate(scores, start=2):
            facts = {"test_accuracy": score, "test_loss": 1 - score, "test_auroc_left_out": 1}
            own = {"finalist": name, "seed": seed, "val_accuracy": score + 0.01, **facts}
            rows.append(studies.trial(len(rows), family="text" if "3" in name else "image", **own))
    rows.append(studies.trial(len(rows), state="FAILED", finalist="demo/t0001", seed=5, val_accuracy=None))
    rows[-1] |= {"family": "image", "error": "nan", "best_epoch": None}
    rows.append(studies.trial(len(rows), state="RUNNING", finalist="by hand", seed=2, val_accuracy=0.1))
    root = studies.of(*[row for row in rows if row["val_accuracy"] is not None], name="demo-confirm")
    write_atomic(root / "trials.csv", records.csv_text(list(dict.fromkeys(key for row in rows for key in row)), rows))
    info = records.read_json(root / "study.json")
    records.write_json(root / "study.json", info | {"params": ["family", "finalist", "seed"]})
    return root


def test_means_deviations_and_intervals(confirming):
    found = confirm_table(load_studies(confirming), "val_accuracy", "max").set_index("trial")
    assert list(found.index) == ["t0003", "t0001", "by hand"] and list(found["study"]) == ["demo", "demo", ""]
    for name, scores in SCORES.items():
        row = found.loc[name.rpartition("/")[2]].to_dict()
        assert row["seeds"] == 3 and row["failed"] == ("1" in name)
        assert row["test_accuracy"] == pytest.approx(statistics.mean(scores))
        assert row["test_accuracy_sd"] == pytest.approx(statistics.stdev(scores))
        expected = stats.t.interval(0.95, 2, loc=statistics.mean(scores), scale=stats.sem(scores))
        assert (row["test_accuracy_low"], row["test_accuracy_high"]) == pytest.approx(expected)
        assert row["val_accuracy"] == pytest.approx(statistics.mean(scores) + 0.01)
        assert row["val_accuracy_sd"] == pytest.approx(statistics.stdev(scores))
        assert row["test_loss"] == pytest.approx(1 - statistics.mean(scores))
    to_come = found.loc["by hand"].to_dict()
    assert to_come["seeds"] == 0 and math.isnan(to_come["test_accuracy"])
    assert sum(found["probability_best"].dropna().to_list()) == pytest.approx(1)
    assert "test_auroc_left_out" not in found
    by_loss = confirm_table(load_studies(confirming), "val_loss", "min")
    assert list(by_loss["trial"])[:2] == ["t0003", "t0001"] and by_loss.loc[0, "test_loss"] == pytest.approx(0.18)


def test_the_table_for_people(confirming):
    confirmed = confirm_table(load_studies(confirming), "val_accuracy", "max")
    header, rows = finalist_table(confirmed, "val_accuracy")
    assert header[0] == "finalist" and "test_accuracy ± sd" in header
    assert rows[0][:4] == ["demo/t0003", "text", "3", "0.8200 ± 0.0200"]
    assert rows[1][2] == "3, 1 failed" and rows[2][2:] == ["0", "", "", "", ""]
    assert "looked at 6 times" in confirm_note(confirmed)


@pytest.mark.slow
def test_csv_and_report(confirming, tmp_path):
    table = load_studies(confirming)
    written = write_confirm(table, "val_accuracy", "max", tmp_path)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "confirm.csv", keep_default_na=False, na_values=[""]).fillna({"study": ""}), written
    )
    files = write_report(confirming)
    assert files.confirm is not None and files.confirm.read_text() == (tmp_path / "confirm.csv").read_text()
    page = files.html.read_text(encoding="utf-8")
    assert "<h2>Finalists</h2>" in page and "0.8200 ± 0.0200" in page


@pytest.mark.slow
def test_a_search_has_no_finalists(studies):
    root = studies.of(studies.trial(0), studies.trial(1, val_accuracy=0.6))
    assert finalists_of(load_studies(root)).empty and confirm_table(load_studies(root), "val_accuracy", "max").empty
    files = write_report(root)
    assert files.confirm is None and "Finalists" not in files.html.read_text(encoding="utf-8")
