"""The ledger: what it writes can be read back, and nothing is written twice."""

import csv
import random
import shutil

import pytest

from mmtune import records
from mmtune.records import StudyFolder
from mmtune.slots.messages import Spent
from mmtune.study.ledger import Ledger
from mmtune.study.tensorboard import Kind
from trainables.clock import PARTS

PARAMS: dict[str, Kind] = {"family": "word", "optim.lr": "number", "uda.n": "number"}


def make(tmp_path):
    return Ledger(StudyFolder(tmp_path), objective=("val_accuracy", "max"), params=PARAMS, max_epochs=3)


def row(epoch, accuracy, **more):
    return {
        "epoch": epoch, "train_loss": 1.0 / epoch, "val_accuracy": accuracy, "val_loss": 2.0 - accuracy,
        "wall_seconds": 0.5, "device_seconds": 1.0, "samples_per_second": 100.0, "peak_memory_gib": epoch / 10, **more,
    }  # fmt: skip


def test_a_study_is_read_back_as_it_was_written(tmp_path):
    ledger = make(tmp_path)
    ledger.start("t0000", {"family": "text", "optim.lr": 1e-3})
    assert ledger.add("t0000", row(1, 0.4, num_parameters=10, num_trainable=5))
    assert ledger.add("t0000", row(2, 0.6))
    assert ledger.add("t0000", row(3, 0.6))
    ledger.end("t0000", records.COMPLETE, facts={"inference_ms_per_sample": 0.25})
    ledger.start("t0001", {"family": "image", "optim.lr": 2e-3, "uda.n": 4})
    ledger.add("t0001", row(1, 0.9, uda_lambda=0.5))  # a column that reports.csv did not have
    ledger.end("t0001", records.FAILED, error="boom, with a comma\nand a second line")
    ledger.close()

    with (tmp_path / "trials.csv").open(newline="") as file:
        trials = list(csv.DictReader(file))
    assert [trial["state"] for trial in trials] == ["COMPLETE", "FAILED"]
    first, second = trials
    assert (first["epochs"], first["best_epoch"], first["val_accuracy"]) == ("3", "2", "0.6")  # first of equals
    assert (first["device_seconds"], first["peak_memory_gib"], first["num_trainable"]) == ("3.0", "0.3", "5")
    assert first["uda.n"] == "" and second["uda.n"] == "4"
    assert second["error"] == "boom, with a comma"
    assert "second line" in (tmp_path / "trials" / "t0001" / "error.txt").read_text()

    again = make(tmp_path)
    assert again.trials.objective_by_epoch("t0000") == {1: 0.4, 2: 0.6, 3: 0.6}
    assert again.trials.device_seconds() == 4.0
    assert again.trials.over() == ["t0000", "t0001"]
    best = again.trials.best()
    assert best is not None and best.trial == "t0000"  # a failed trial is no best trial
    assert again.trials["t0000"].params == {"family": "text", "optim.lr": 1e-3}
    assert again.trials["t0001"].rows[0]["uda_lambda"] == 0.5


def test_null_and_a_parameter_that_does_not_exist_are_told_apart(tmp_path):
    ledger = make(tmp_path)
    ledger.start("t0000", {"family": "text", "optim.lr": None})
    ledger.start("t0001", {"family": "text", "uda.n": 2})
    cells = [(line["optim.lr"], line["uda.n"]) for line in records.read_csv(tmp_path / "trials.csv")]
    assert cells == [("null", ""), ("", "2")]
    again = make(tmp_path)
    assert again.trials["t0000"].params == {"family": "text", "optim.lr": None}
    assert again.trials["t0001"].params == {"family": "text", "uda.n": 2}


def test_what_the_first_report_says_of_the_model_outlasts_a_kill(tmp_path):
    ledger = make(tmp_path)
    ledger.start("t0000", {"family": "text"})
    measured = dict.fromkeys(records.INFERENCE, 0.5)
    assert ledger.add("t0000", row(1, 0.4, **measured))
    again = make(tmp_path)  # no trial has ended or paused
    assert again.trials["t0000"].facts == measured
    again.end("t0000", records.PRUNED)
    line = records.read_rows(tmp_path / "trials.csv")[0]
    assert line["state"] == "PRUNED" and [line[name] for name in records.INFERENCE] == [0.5] * 5


def test_what_the_first_report_says_of_the_model_is_there_before_the_report(tmp_path):
    """A disk that goes between the two takes the report, which comes again."""
    ledger = make(tmp_path)
    ledger.start("t0000", {"family": "text"})
    measured = dict.fromkeys(records.INFERENCE, 0.5)
    (tmp_path / "reports.csv").mkdir()  # no file that takes a line
    with pytest.raises(OSError):
        ledger.add("t0000", row(1, 0.4, **measured))
    (tmp_path / "reports.csv").rmdir()
    again = make(tmp_path)
    assert again.trials["t0000"].facts == measured and again.trials["t0000"].epoch == 0
    assert again.add("t0000", row(1, 0.4))


def test_nothing_is_begun_in_the_place_of_a_study_that_is_gone(tmp_path):
    root = tmp_path / "s"
    root.mkdir()
    ledger = make(root)
    ledger.start("t0000", {"family": "text"})
    shutil.rmtree(root)
    (root / "tune").mkdir(parents=True)  # as Ray Tune does
    for change in (
        lambda: ledger.add("t0000", row(1, 0.4)),
        lambda: ledger.start("t0001", {"family": "text"}),
        lambda: ledger.end("t0000", records.FAILED, error="x"),
        ledger.write_trials,
    ):
        with pytest.raises(FileNotFoundError):
            change()
        assert [path.name for path in root.iterdir()] == ["tune"]


def test_a_report_is_written_once(tmp_path):
    ledger = make(tmp_path)
    ledger.start("t0000", {"family": "text"})
    assert ledger.add("t0000", row(1, 0.4))
    assert not ledger.add("t0000", row(1, 0.4))
    again = make(tmp_path)
    assert not again.add("t0000", row(1, 0.4))
    assert again.add("t0000", row(2, 0.5))
    assert [line["epoch"] for line in records.read_csv(tmp_path / "reports.csv")] == ["1", "2"]


def lines(ledger):
    rows = {name: ledger.row(record) for name, record in ledger.trials.items()}
    return {name: {key: cell for key, cell in row.items() if cell is not None} for name, row in rows.items()}


@pytest.mark.slow
def test_a_large_study_writes_what_changed_and_loses_nothing_to_a_kill(tmp_path):
    """A killed process at any moment: what is on disk says of every trial what the ledger knew."""
    ledger, rng, wholes, big = make(tmp_path), random.Random(5), set(), 100
    folder = StudyFolder(tmp_path)
    for step in range(330):
        name = records.trial_id(step if step < big else rng.randrange(big))
        record = ledger.trials.get(name)
        if record is None or record.state == records.PAUSED:
            ledger.start(
                name, {"family": "text", "optim.lr": rng.choice([None, rng.random()])}, until=rng.randint(1, 3)
            )
        elif record.state == records.RUNNING and record.epoch < 3 and rng.random() < 0.7:
            ledger.add(
                name, row(record.epoch + 1, rng.random(), **{f"val_{'xyz'[step // 150]}": 1.0}, num_parameters=step)
            )
        elif record.state == records.RUNNING and step % 2:
            ledger.pause(name)
        elif record.state == records.RUNNING:
            ledger.end(name, records.FAILED, error="a, b\nc")
        else:
            ledger.book(Spent([], [(name, times(rng.randint(1, 9) / 8))], idle=0.0))
        wholes.add((tmp_path / "trials.csv").stat().st_mtime_ns)
        if step % 50 == 7 or step > 325:
            known = lines(ledger)
            if step % 2:  # the ledger that is killed while it writes, and the one that reads what it left
                with folder.changes.open("a") as file:
                    file.write("t0001,RUNN")
                ledger = make(tmp_path)
            assert lines(ledger) == known
            told = {line["trial"]: line for line in records.read_trials(folder)}
            assert all(told[name]["state"] == line["state"] for name, line in known.items())
    assert len(wholes) < 120  # of 330 changes
    left = (tmp_path / "changes.csv").read_bytes() if folder.changes.exists() else b""
    known = lines(ledger)
    ledger.close()
    assert not folder.changes.exists() and len(records.read_csv(folder.trials)) == big
    folder.changes.write_bytes(left)  # killed between the two
    assert lines(make(tmp_path)) == known
    assert not folder.changes.exists()


def times(seconds):
    return {"wall_seconds": seconds, "device_seconds": 2 * seconds, "setup_seconds": 2 * seconds}


def test_a_trial_that_was_held_several_times_and_killed_adds_up(tmp_path):
    """Two holds with reports, the ends of both, caches on the way; the process dies after each file was written."""
    ledger = make(tmp_path)
    assert ledger.trials.device_seconds() == 0
    ledger.start("t0000", {"family": "text"}, until=2)
    parts = {"train_seconds": 0.5, "eval_seconds": 0.25, "checkpoint_seconds": 0.125, "setup_seconds": 0.125}
    ledger.add("t0000", row(1, 0.4, cache_seconds=7.0, device_kind="a GPU", **parts))
    ledger.add("t0000", row(2, 0.5, device_kind="a GPU", **parts))
    ledger.pause("t0000")
    filling = {
        "time": "2026-01-01T00:00:00Z", "trial": "t0000", "what": "tokens", "rows": 9, "seconds": 3.0,
        "device_seconds": 6.0, "device": "a GPU",
    }  # fmt: skip
    ledger.book(Spent([filling], [("t0000", times(0.75))], idle=99.0))
    expected = 1.0 + 1.0 + 1.5
    for _ in range(2):  # as it is, and read back
        trial = ledger.trials["t0000"]
        assert trial.total("device_seconds") == expected and trial.total("device_seconds_alone") == expected + 7
        assert (trial.total("wall_seconds"), trial.total("setup_seconds")) == (0.5 + 0.5 + 0.75, 0.25 + 1.5)
        assert ledger.trials.device_seconds() == expected + 6  # the study's budget pays for the cache, once
        ledger = make(tmp_path)
    ledger.start("t0000", {"family": "text"}, until=3)
    ledger.add("t0000", row(3, 0.6, device_kind="another", **parts))  # killed: trials.csv does not have this epoch
    ledger = make(tmp_path)
    assert ledger.trials["t0000"].total("device_seconds") == expected + 1
    ledger.end("t0000", records.COMPLETE)
    ledger.book(Spent([], [("t0000", times(0.25))], idle=0.0))
    ledger = make(tmp_path)
    [trial] = records.read_rows(tmp_path / "trials.csv")
    assert trial["device_seconds"] == ledger.trials["t0000"].total("device_seconds") == expected + 1 + 0.5
    assert trial["device_seconds_alone"] == trial["device_seconds"] + 7
    assert trial["device_seconds"] == sum(trial[name] for name in [*PARTS, "setup_seconds"])
    assert trial["device_kind"] == "a GPU and another"
    assert [line["what"] for line in records.read_csv(tmp_path / "caches.csv")] == ["tokens"]
