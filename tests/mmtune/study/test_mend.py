"""Tables that were damaged or deleted are filled in again from the rest of the folder."""

import pytest
import torch
from optuna.samplers import RandomSampler

from mmtune import records
from mmtune.info import read_info
from mmtune.search.journal import Journal
from mmtune.spec.search_spec import load_spec
from mmtune.study.create import create_study
from mmtune.study.ledger import open_ledger
from mmtune.study.mend import mend_tables
from trainables.checkpoint import BEST, LAST, save_checkpoint

SPEC = """\
study: s
family: text
dataset: openclipart
objectives: [{metric: val_accuracy}]
fixed: {epochs: 4, model.text_encoder: tiny-bert}
space:
  optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2}
scheduler: {name: asha, grace_epochs: 1, reduction_factor: 2}
budget: {trials: 3}
"""
PARTS = {"train_seconds": 1.5, "eval_seconds": 0.25, "checkpoint_seconds": 0.25}
TIMES = {"wall_seconds": 2.0, "device_seconds": 2.0, **PARTS, "setup_seconds": 0.0}


def report(epoch):
    return {"epoch": epoch, "train_loss": 1 / epoch, "val_accuracy": epoch / 7, **TIMES}


@pytest.fixture
def study(tmp_path):
    """t0000 COMPLETE after 4 epochs, whose last checkpoint went; t0001 PAUSED at 1; t0002 cut short after 3."""
    spec = load_spec(SPEC)
    folder = create_study(spec, storage=tmp_path)
    info = read_info(folder.info)
    ledger = open_ledger(folder, spec, info)
    journal = Journal(folder.optuna_log, name="s", objectives=[("val_accuracy", "max")])
    for number, epochs in enumerate((4, 1, 3)):
        name, rows = records.trial_id(number), [report(epoch) for epoch in range(1, epochs + 1)]
        journal.enqueue({"optim.lr": 1e-3 * (number + 1)})
        trial = journal.ask(RandomSampler(seed=1))
        ledger.start(name, {"optim.lr": trial.suggest_float("optim.lr", 1e-4, 1e-2)}, until=[4, 1, 4][number])
        (folder.trial(name)).mkdir(parents=True)
        for row in rows:
            ledger.add(name, row)
        journal.report(number, {row["epoch"]: row["val_accuracy"] for row in rows})
        tensors = {"x": torch.zeros(1)}
        save_checkpoint(folder.trial(name) / BEST, tensors, {"report": rows[-1]})
        if number:
            save_checkpoint(folder.trial(name) / LAST, tensors, {"progress": {"reports": rows}})
    ledger.end("t0000", records.COMPLETE, facts={"num_parameters": 5})
    journal.note(0, num_parameters=5)
    journal.tell(0, values=[4 / 7])
    ledger.pause("t0001")
    ledger.close()
    return folder, spec, info


def mended(study):
    (folder, spec, info), said = study, []
    mend_tables(folder, spec, info, said.append)
    return "\n".join(said).replace(f"{folder.root}/", "")


def timeless(path):
    return [{**row, "time": None} for row in records.read_rows(path)]


def test_a_whole_folder_is_left_as_it_is(study):
    before = {path: path.read_bytes() for path in study[0].root.glob("*.*")}
    assert mended(study) == ""
    assert {path: path.read_bytes() for path in study[0].root.glob("*.*")} == before


@pytest.mark.parametrize("damage", ["", ",,,,", "t0002,2026", "\0\1\2", "x" * 50])
def test_a_damaged_line_in_the_middle_comes_back_from_the_checkpoint(study, damage):
    path = study[0].reports
    before, lines = timeless(path), path.read_text().splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("t0002"))
    lines[at + 1] = damage
    path.write_text("\n".join(lines) + "\n")
    was = path.read_bytes()
    said = mended(study)
    assert said.splitlines() == [
        "reports.csv: damaged lines: 1, kept in reports.csv.damaged",
        "t0002: epoch 2 filled in again from its checkpoint",
    ]
    assert timeless(path) == before and path.with_name("reports.csv.damaged").read_bytes() == was
    assert mended(study) == ""


def test_deleted_reports_come_back_as_far_as_anything_holds_them(study):
    path = study[0].reports
    before = timeless(path)
    path.unlink()
    assert mended(study).splitlines() == [
        "t0000: epoch 4 filled in again from its checkpoint",
        "t0000: epochs 1, 2, 3 in no checkpoint; what is left is val_accuracy, from optuna.log",
        "t0001: epoch 1 filled in again from its checkpoint",
        "t0002: epochs 1, 2, 3 filled in again from its checkpoint",
    ]
    after = timeless(path)
    assert after[3:] == before[3:] and [row["val_accuracy"] for row in after] == [row["val_accuracy"] for row in before]
    assert [row["train_loss"] for row in after[:3]] == [None] * 3


def test_what_no_checkpoint_holds_is_trained_again(study):
    (study[0].trial("t0002") / LAST).write_bytes(b"")
    path = study[0].reports
    rows = [line for line in path.read_text().splitlines() if not line.startswith("t0002") or ",2," not in line[25:30]]
    path.write_text("\n".join(rows) + "\n")
    assert mended(study) == "t0002: epoch 2 in no checkpoint; trained again from epoch 2 on"
    assert [row["epoch"] for row in records.read_rows(path) if row["trial"] == "t0002"] == [1]


def test_trials_come_back_from_optuna(study):
    folder = study[0]
    before = records.read_rows(folder.trials)
    folder.trials.unlink()
    assert mended(study) == "trials.csv: was damaged; filled in again from optuna.log: t0000, t0001, t0002"
    after = records.read_rows(folder.trials)
    left_out = ("started", "ended", "until_epoch")
    assert [{key: row[key] for key in row if key not in left_out} for row in after] == [
        {key: row[key] for key in row if key not in left_out} for row in before
    ]
    assert [row["until_epoch"] for row in after] == [None, 1, None]
    folder.trials.write_text(folder.trials.read_text().replace("t0001,PAUSED", "t0001,,"))
    assert "t0001" in mended(study) and records.read_rows(folder.trials)[1]["state"] == "PAUSED"


def test_a_trial_that_a_kill_cut_short_while_it_was_proposed_is_left_to_the_searcher(study):
    journal = Journal(study[0].optuna_log, name="s", objectives=[("val_accuracy", "max")])
    journal.ask(RandomSampler(seed=1))  # none of its parameters is drawn
    assert mended(study) == ""


def test_without_the_journal_a_damaged_study_is_refused(study):
    study[0].trials.unlink()
    study[0].optuna_log.unlink()
    with pytest.raises(ValueError, match="optuna.log: is missing; the study cannot go on without it"):
        mended(study)


def test_an_end_that_was_lost_with_changes_csv_comes_back_from_optuna(study):
    folder = study[0]
    whole = folder.trials.read_text()
    folder.trials.write_text(whole.replace("t0000,COMPLETE", "t0000,RUNNING"))
    assert mended(study) == "trials.csv: was damaged; filled in again from optuna.log: t0000"
    assert [row["state"] for row in records.read_rows(folder.trials)] == ["COMPLETE", "PAUSED", "RUNNING"]
