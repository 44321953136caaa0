"""Tables against a slow second reading with the csv module, cell by cell and row by row."""

import csv
import io
import math
import random

import pandas as pd
import pytest

from analysis.reading import damaged_lines, read_reports, read_rows
from analysis.studies import load_reports, load_studies, study_cost
from mmtune import records

TRICKY = """\
trial,time,epoch,val_accuracy,val_loss,steps,stopped,device_kind,device_seconds,note
t0001,2026-01-02T03:04:05Z,1,nan,0.1,7,,"A, ""fast"" one",1.5,12
t0000,2026-01-02T03:04:06Z,1,0.5,inf,,true,12,1e-05,"two
lines"
too,short
t0001,2026-01-02T03:04:07Z,2,,-inf,3,,,0.30000000000000004,nan
t0000,much,too,long,1,2,3,4,5,6,7,8,9
t0001,2026-01-02T03:04:08Z,3,1,0.0,9007199254740993,,nan,2,words

t0000,2026-01-02T03:04:09Z,2,0.25,5e-324,0,,,,
t0000,2026-01-02T03:04"""


def slowly(text):
    """Rows as the csv module has them, parsed by Python's own int and float; torn, short and long ones left out."""
    header, *lines = csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    return [dict(zip(header, map(parsed, header, line), strict=True)) for line in lines if len(line) == len(header)]


def parsed(name, cell):
    if cell == "" or name in ("trial", "time", "device_kind", "family", "state", "error"):
        return cell or None
    if cell in ("true", "false"):
        return cell == "true"
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            pass
    return cell


def same(one, other):
    is_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return is_nan or (one == other and type(one) is type(other))


def test_cells_mean_what_the_csv_module_and_python_say(tmp_path):
    path = tmp_path / "reports.csv"
    path.write_text(TRICKY, newline="")
    table, rows = read_reports(path), sorted(slowly(TRICKY), key=lambda row: str(row["trial"]), reverse=True)
    assert table["trial"].to_list() == [row["trial"] for row in rows]
    assert table["epoch"].to_list() == [row["epoch"] for row in rows] == [1, 2, 3, 1, 2]
    assert table["time"].to_list() == [pd.Timestamp(row["time"]) for row in rows]
    assert str(table["steps"].dtype) == "Int64"  # with gaps, beyond what a float holds
    assert [None if pd.isna(cell) else cell for cell in table["steps"]] == [row["steps"] for row in rows]
    assert table["device_kind"].to_list() == [row["device_kind"] or "" for row in rows]
    assert table["stopped"].to_list() == [None, None, None, True, None]
    assert list(map(same, table["note"], (row["note"] for row in rows))) == [True] * 5
    for name in ("val_accuracy", "val_loss", "device_seconds"):
        floats = [math.nan if row[name] is None else float(row[name]) for row in rows]
        assert list(map(same, table[name].to_list(), floats)) == [True] * 5, name
    assert table["cumulative_device_seconds"].to_list() == [1.5, 1.5 + 0.30000000000000004, 3.8, 1e-05, 1e-05]


def test_what_the_quick_reader_cannot_read_goes_cell_by_cell(tmp_path):
    path = tmp_path / "reports.csv"
    path.write_bytes(b"trial,epoch,note\nt0000,1,\xff\n")
    with pytest.raises(ValueError, match="reports.csv: is damaged"):
        records.read_csv(path)
    with pytest.raises(ValueError, match="reports.csv: is damaged"):
        read_reports(path)
    assert read_rows(tmp_path / "nothing.csv") == []


def test_a_report_that_comes_later_is_seen(studies):
    path = studies.write("demo", [], studies.reports(studies.trial(0), [1, 2]))
    table = load_reports(path)
    assert len(table) == 2
    table["epoch"] = 0  # it is the caller's own
    assert damaged_lines(path / "reports.csv") == damaged_lines(path / "trials.csv") == 0
    records.CsvAppender(path / "reports.csv").append({"trial": "t0000", "epoch": 3, "device_seconds": 0.5})
    assert load_reports(path)["epoch"].tolist() == [1, 2, 3]
    assert load_studies(path)["epochs"].tolist() == [3]
    with (path / "reports.csv").open("a") as file:
        file.write("t0000,4\nt0000,five,,,,,,,,,\nt0000,5")
    assert damaged_lines(path / "reports.csv") == 2 and len(load_reports(path)) == 3


@pytest.mark.parametrize("mode", ["max", "min"])
def test_trials_are_what_their_reports_add_up_to(studies, mode):
    """Random studies with epochs trained twice, missing values and trials without a row, by plain loops."""
    rng = random.Random(mode)
    trials, reports = [], []
    for number in range(60):
        state = rng.choice([*records.STATES, None])
        row = studies.trial(number, state=state, epochs=rng.randint(0, 4), device_seconds=rng.random() * 9)
        epochs = [epoch for epoch in (1, 2, 3, 2, 3, 4) if rng.random() < 0.7]
        for report in studies.reports(row | {"epochs": 4}, epochs):
            report |= {name: rng.choice([None, rng.random()]) for name in ("device_seconds", "train_seconds")}
            report |= {"val_accuracy": rng.choice([0.5, None, math.nan, math.inf, rng.random()])}
            reports.append(report | {"val_loss": rng.random(), "peak_memory_gib": rng.choice([None, rng.random()])})
        if state is not None:
            trials.append(row)
    rng.shuffle(reports)
    path = studies.write("demo", trials, reports, objectives=[{"metric": "val_accuracy", "mode": mode}])
    table = load_studies(path).set_index("trial")
    told = {trial["trial"]: trial for trial in trials}
    assert sorted(table.index) == sorted({*told, *(report["trial"] for report in reports)})
    for trial, row in table.iterrows():
        mine = [report for report in reports if report["trial"] == trial]
        known = told.get(str(trial), {"state": "RUNNING"})
        is_over = known["state"] in records.ENDED
        epochs = mine[-1]["epoch"] if mine and not is_over else known.get("epochs") or 0
        for name in ("wall_seconds", "device_seconds", "train_seconds"):
            before = sum(report.get(name) or 0.0 for report in mine if report["epoch"] <= epochs)
            beside = (known.get(name) or 0.0) - before
            costs = [math.fsum(report[name] for report in mine if report.get(name) is not None)]
            costs += [beside] if beside > 1e-6 else []
            assert same(float(table[name].fillna(0.0)[trial]), math.fsum(costs))
        if is_over:
            assert row["epochs"] == known["epochs"] and row["val_accuracy"] == known["val_accuracy"]
        elif mine:
            is_current = [all(r["epoch"] < later["epoch"] for later in mine[i + 1 :]) for i, r in enumerate(mine)]
            current = [report for report, is_it in zip(mine, is_current, strict=True) if is_it]
            finite = [r for r in current if r["val_accuracy"] is not None and math.isfinite(r["val_accuracy"])]
            assert row["epochs"] == mine[-1]["epoch"]
            if finite:
                pick = max if mode == "max" else min
                best = pick(finite, key=lambda report: report["val_accuracy"])  # the first of equals
                assert (row["best_epoch"], row["val_loss"]) == (best["epoch"], best["val_loss"])
            peaks = [report["peak_memory_gib"] for report in mine if report["peak_memory_gib"] is not None]
            assert row["peak_memory_gib"] == max(peaks, default=known.get("peak_memory_gib"))
    assert study_cost(path).device_hours == pytest.approx(table["device_seconds"].sum() / 3600)


@pytest.mark.parametrize("cell", ["nan", "inf", "-Infinity", "NaN", "1_0", " 1", "0x1", "x", "", "٣"])
@pytest.mark.parametrize("name", ["val_accuracy", "device_seconds", "epoch", "trial", "note"])
def test_who_runs_a_study_and_who_reads_it_leave_out_the_same_rows(name, cell, tmp_path):
    path = tmp_path / "reports.csv"
    rows = [{"trial": "t0000", "epoch": number, "val_accuracy": 0.5, "device_seconds": 1.0} for number in (1, 2)]
    rows[1][name] = cell
    path.write_text(records.csv_text(["trial", "epoch", "val_accuracy", "device_seconds", "note"], rows))
    kept = records.read_csv(path)
    assert [int(row["epoch"]) for row in kept] == list(read_reports(path)["epoch"])
    assert damaged_lines(path) == 2 - len(kept)
