"""What is printed where there is no terminal; the live table has its test with a terminal in test_session.py."""

from mmtune import records
from mmtune.search.trials import TrialRecord, Trials
from mmtune.study.screen import Screen


def test_a_line_a_report_and_a_line_an_end(tmp_path, capsys):
    trials = Trials(metric="val_accuracy", mode="max", max_epochs=3)
    row = {"epoch": 1, "val_accuracy": 0.5, "train_loss": 1.25, "device_seconds": 2.0}
    trials["t0000"] = TrialRecord("t0000", records.COMPLETE, rows=[{**row, "val_accuracy": 0.75}])
    trials["t0001"] = TrialRecord("t0001", records.RUNNING, rows=[row])
    with Screen("s", trials, total=4, filling=tmp_path) as screen:
        screen.say("starting")
        screen.reported("t0001", row)
        trials["t0001"].state, trials["t0001"].error = records.FAILED, "boom"
        screen.ended("t0001")
    assert capsys.readouterr().out.splitlines() == [
        "starting",
        "t0001 epoch 1/3 val_accuracy 0.5000 loss 1.2500 | best 0.7500 t0000 | 1/4 trials, 4.0 device seconds",
        "t0001 FAILED after 1 epochs: boom",
    ]


def test_nothing_where_nothing_shall_be_said(tmp_path, capsys):
    trials = Trials(metric="val_accuracy", mode="max", max_epochs=3)
    row = {"epoch": 1, "val_accuracy": 0.5, "train_loss": 1.25, "device_seconds": 2.0}
    trials["t0000"] = TrialRecord("t0000", records.COMPLETE, rows=[row])
    with Screen("s", trials, total=4, filling=tmp_path, say=None, every=0.01) as screen:
        screen.say("starting")
        screen.reported("t0000", row)
        screen.ended("t0000")
    assert capsys.readouterr() == ("", "")
