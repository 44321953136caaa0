import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from analysis.studies import choose_objective, load_reports, load_studies, mode_of, objectives, study_cost
from mmtune import records
from trainables.files import write_atomic

LOSS = [{"metric": "val_loss", "mode": "min"}]


def test_one_row_a_trial_with_typed_columns(studies):
    image = studies.trial(1, family="image", **{"model.hidden": 64, "optim.lr": 1})
    failed = studies.trial(2, state="FAILED", best_epoch=None, val_accuracy=None, error="nan")
    table = load_studies(studies.write("demo", [studies.trial(0), image, failed]))
    assert list(table.columns[:2]) == ["study", "trial"]
    assert list(table["study"]) == ["demo"] * 3
    assert list(table["trial"]) == ["t0000", "t0001", "t0002"]
    assert table["model.hidden"].isna().tolist() == [True, False, True]
    assert table.at[1, "model.hidden"] == 64
    assert table["optim.lr"].tolist() == [3e-4, 1.0, 3e-4]
    assert pd.isna(table.at[2, "val_accuracy"])
    assert table["error"].tolist() == ["", "", "nan"]  # text, whatever it looks like
    assert (table["device_hours"] * 3600).tolist() == pytest.approx([30.0] * 3)
    assert table.at[0, "ended"] - table.at[0, "started"] == pd.Timedelta(minutes=1)
    assert table.attrs["params"] == ["optim.lr", "model.hidden"]


def test_csv_round_trip(studies, tmp_path):
    trials = [studies.trial(n, family=f, val_accuracy=0.1 + n / 7) for n, f in enumerate(["text", "image", "fusion"])]
    table = load_studies(studies.write("demo", trials))
    table.to_csv(tmp_path / "table.csv", index=False)
    again = pd.read_csv(tmp_path / "table.csv")
    for column in ("trial", "family", "epochs", "optim.lr", "val_accuracy", "device_hours"):
        assert again[column].tolist() == table[column].tolist()


def test_family_comes_from_the_search_file_when_it_is_not_searched(studies):
    table = load_studies(studies.write("demo", [studies.trial(0)], family="mmbv"))
    assert table["family"].tolist() == ["mmbv"]


def test_studies_of_one_name_remain_distinguishable(studies):
    one, two = (studies.of(studies.trial(0), name=name) for name in ("a/demo", "b/demo"))
    other = studies.of(studies.trial(0), name="other")
    table = load_studies([one, two, other])
    assert table["study"].tolist() == [str(one), str(two), "other"]
    with pytest.raises(ValueError, match="given twice"):
        load_studies([one, one.parent / "." / one.name])


def test_studies_with_other_params_stand_in_one_table(studies):
    one = studies.of(studies.trial(0, **{"model.hidden": 64}), name="one")
    two = studies.of(studies.trial(0), name="two", family="text")
    table = load_studies([one, two])
    assert table["model.hidden"].isna().tolist() == [False, True]
    assert table["family"].tolist() == ["text", "text"]


def test_torn_last_line_is_left_out(studies):
    trial = studies.trial(0)
    path = studies.of(trial)
    whole = load_reports(path)
    with (path / "reports.csv").open("a") as file:
        file.write("t0000,4,2026-01-02T03:0")
    pd.testing.assert_frame_equal(load_reports(path), whole)


def test_interrupted_trials_count_by_their_reports(studies):
    running = studies.trial(
        1, state="RUNNING", epochs=None, best_epoch=None, val_accuracy=None, device_seconds=None, wall_seconds=None
    )
    reports = studies.reports(studies.trial(0)) + studies.reports(studies.trial(1, device_seconds=60.0), [1, 2])
    path = studies.write("demo", [studies.trial(0), running], reports)
    row = load_studies(path).iloc[1]
    assert (row["state"], row["epochs"], row["best_epoch"]) == ("RUNNING", 2, 2)
    assert row["val_accuracy"] == pytest.approx(0.5 * 2 / 3)
    assert row["device_seconds"] == pytest.approx(40.0)
    cost = study_cost(path)
    assert cost.device_hours == pytest.approx((30.0 + 40.0) / 3600)
    assert cost.wall_hours == pytest.approx((30.0 + 20.0) / 3600)
    assert cost.states == {"RUNNING": 1, "COMPLETE": 1}


def test_study_killed_before_its_first_trials_csv(studies):
    path = studies.write("demo", None, studies.reports(studies.trial(0), [1]))
    table = load_studies(path)
    assert table["state"].tolist() == ["RUNNING"]
    assert study_cost(path).device_hours == pytest.approx(10 / 3600)


def test_rows_that_changed_since_trials_csv_was_written_count(studies):
    path = studies.of(*(studies.trial(number, state="RUNNING") for number in (0, 1)))
    columns = records.csv_text(["trial", "state", "epochs", "device_seconds"], [])
    (path / "changes.csv").write_text(
        f"{columns}t0001,PAUSED,3,30.0\nt0002,RUNNING,,\nt0001,COMPLETE,3,31.0\nt0002,FAI"
    )
    assert load_studies(path)["state"].tolist() == ["RUNNING", "COMPLETE", "RUNNING"]
    assert study_cost(path).device_hours == pytest.approx(61 / 3600)


def test_cost_counts_every_state(studies):
    states = ["COMPLETE", "PRUNED", "FAILED", "INFEASIBLE"]
    path = studies.write("demo", [studies.trial(n, state=state) for n, state in enumerate(states)])
    assert study_cost(path).device_hours == pytest.approx(4 * 30 / 3600)


def test_cost_of_an_epoch_that_was_trained_again(studies):
    trial = studies.trial(0, epochs=4, device_seconds=40.0)
    path = studies.write("demo", [trial], studies.reports(trial, [1, 2, 3, 2, 3, 4]))
    reports = load_reports(path)
    assert reports["is_current"].tolist() == [True, False, False, True, True, True]
    assert reports["cumulative_device_seconds"].tolist() == [10, 20, 30, 40, 50, 60]
    assert load_studies(path)["device_seconds"].tolist() == [60.0]  # trials.csv says 40


def test_rerun_that_was_cut_short_makes_later_epochs_stale(studies):
    trial = studies.trial(0, state="RUNNING", epochs=3)
    path = studies.write("demo", [trial], studies.reports(trial, [1, 2, 3, 2]))
    assert load_reports(path)["is_current"].tolist() == [True, False, False, True]
    assert load_studies(path)["epochs"].tolist() == [2]


def test_objectives(studies):
    path = studies.of(studies.trial(0), objectives=[*LOSS, {"metric": "device_seconds", "mode": "min"}])
    assert objectives(path) == [("val_loss", "min"), ("device_seconds", "min")]
    assert choose_objective(path) == ("val_loss", "min")
    assert choose_objective(path, "val_accuracy") == ("val_accuracy", "max")


def test_studies_that_cannot_be_ranked_together(studies):
    one = studies.of(studies.trial(0), name="one")
    two = studies.of(studies.trial(0), name="two", objectives=LOSS)
    three = studies.of(studies.trial(0), name="three", dataset="moviescope")
    with pytest.raises(ValueError, match=r"one: val_accuracy \(max\), two: val_loss \(min\)"):
        choose_objective([one, two])
    assert choose_objective([one, two], "val_loss") == ("val_loss", "min")
    with pytest.raises(ValueError, match="one: openclipart, three: moviescope"):
        choose_objective([one, three])


def test_unknown_metric_is_told_what_it_may_have_meant():
    with pytest.raises(ValueError, match="'val_acuracy' is unknown, did you mean 'val_accuracy'.*device_seconds"):
        mode_of("val_acuracy")
    assert {name: mode_of(name) for name in records.COSTS} == dict.fromkeys(records.COSTS, "min")


def test_wrong_folders_are_named(studies, tmp_path: Path):
    with pytest.raises(ValueError, match="nowhere: no such study folder"):
        load_studies(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="not a study folder"):
        load_studies(tmp_path)
    with pytest.raises(ValueError, match="no study given"):
        load_studies([])
    empty = studies.write("empty")
    with pytest.raises(ValueError, match="empty: no trial yet"):
        load_studies(empty)
    with pytest.raises(ValueError, match="empty: no trial has reported"):
        load_reports(empty)
    assert study_cost(empty).device_hours == 0
    info = (empty / "study.json").read_text()
    (empty / "study.json").write_text("{")
    with pytest.raises(ValueError, match=r"study\.json: not valid JSON"):
        objectives(empty)
    (empty / "study.json").write_text(info)
    (empty / "spec.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"spec\.yaml: not valid YAML"):
        choose_objective(empty)


@pytest.mark.slow
def test_reading_a_study_needs_neither_ray_nor_torch(studies):
    path = studies.of(studies.trial(0), studies.trial(1, state="PRUNED", epochs=1, val_accuracy=0.2))
    code = f"""
import sys
import analysis.tables
from analysis.studies import load_studies
assert "matplotlib" not in sys.modules, "matplotlib is imported before a picture is drawn"
from analysis.report import write_report
write_report({str(path)!r})
heavy = sorted({{"ray", "optuna", "torch", "transformers"}} & set(sys.modules))
assert not heavy, heavy
assert "matplotlib.pyplot" not in sys.modules, "pyplot keeps global state and looks for a display"
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=root, env={"PYTHONPATH": str(root)}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


def test_a_study_s_caches_and_idle_slots_are_in_its_cost(studies):
    path = studies.of(studies.trial(0, device_seconds=36.0))
    rows = [{"trial": "t0000", "what": "tokens", "device_seconds": seconds} for seconds in (3.0, 6.0)]
    write_atomic(path / "caches.csv", records.csv_text(["trial", "what", "device_seconds"], rows))
    info = records.read_json(path / "study.json") | {"sessions": [{"idle_device_seconds": 7.2}, {}]}
    records.write_json(path / "study.json", info)
    cost = study_cost(path)
    assert cost.device_hours == pytest.approx(45 / 3600) and cost.cache_hours == pytest.approx(9 / 3600)
    assert cost.idle_hours == pytest.approx(0.002)
