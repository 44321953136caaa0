"""Which checkpoints stay: the decision against brute force, and what it does to a folder, cut short or not."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict

import pytest
import yaml
from optuna.trial import TrialState
from PIL import Image

from mmtune import records
from mmtune.records import StudyFolder
from mmtune.search.journal import Journal
from mmtune.search.trials import TrialRecord
from mmtune.spec.search_spec import load_spec
from mmtune.spec.sections import KeepTop
from mmtune.study.disk import ModelSizes, predict_disk
from mmtune.study.keeping import Collector, Standing, places, unneeded
from mmtune.study.ledger import Ledger

LAST, BEST = "last.safetensors", "best.safetensors"
OBJECTIVES = [("val_accuracy", "max"), ("device_seconds", "min")]


def standings(seed, *, axes=1, count=12):
    draw = random.Random(seed)
    return [
        Standing(f"t{at:04d}", draw.choice("ab"), tuple(float(draw.randint(0, 5)) for _ in range(axes)))
        for at in range(count)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_best_is_the_best_of_each_family_and_the_front(seed):
    one = standings(seed)
    by_family = defaultdict(list)
    for standing in one:
        by_family[standing.family].append(standing)
    best = {s.trial for group in by_family.values() for s in group if all(s.values <= o.values for o in group)}
    assert places(one, "best") == best
    two = standings(seed, axes=2)

    def beats(a, b):
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    front = {s.trial for s in two if not any(beats(o.values, s.values) for o in two)}
    single = [Standing(s.trial, s.family, s.values[:1]) for s in two]
    assert places(two, "best") == front | places(single, "best")


@pytest.mark.parametrize("seed", range(10))
def test_the_best_so_many_and_all(seed):
    found = standings(seed)
    for top in (1, 3, 100):
        kept = places(found, KeepTop(top=top))
        ranked = sorted(s.values[0] for s in found)[:top]
        assert kept == {s.trial for s in found if s.values[0] in ranked}
    assert places(found, "all") == {s.trial for s in found} and places([], KeepTop(top=2)) == set()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("keep", ["best", KeepTop(top=3), "all"])
def test_whoever_loses_a_place_never_gets_it_back(seed, keep):
    """So what was removed is never asked for, however a study goes on."""
    found, lost = standings(seed, axes=2), set()
    for count in range(1, len(found) + 1):
        kept = places(found[:count], keep)
        assert not kept & lost
        lost |= {s.trial for s in found[:count]} - kept


def test_a_missing_cost_keeps_a_trial_off_the_front_alone():
    pairs = ((1.0, None), (2.0, 5.0), (3.0, 6.0))
    found = [Standing(f"t000{at}", "a", values) for at, values in enumerate(pairs)]
    assert places(found, "best") == {"t0000", "t0001"}


@pytest.mark.parametrize("state, error, replaced, kinds", [
    ("WAITING", None, False, ()), ("RUNNING", None, False, ()), ("PAUSED", None, False, ()),
    ("COMPLETE", None, False, ("last", "best")), ("PRUNED", None, False, ("last", "best")),
    ("FAILED", "RuntimeError: the disk is full", False, ()),  # resume --retry-failed goes on from it
    ("FAILED", "RuntimeError: the disk is full", True, ("last", "best")),  # it runs again under another number
    ("FAILED", "NonFiniteError: loss became nan", False, ("last", "best")),  # would come back to the digit
    ("INFEASIBLE", "out of memory", False, ("last", "best")),
])  # fmt: skip
def test_what_a_trial_needs_by_its_state(state, error, replaced, kinds):
    trial = TrialRecord("t0000", state, error=error)
    assert unneeded(trial, has_place=False, is_replaced=replaced) == kinds
    with_place = unneeded(trial, has_place=True, is_replaced=replaced)
    assert with_place == tuple(kind for kind in kinds if kind == "last")


def test_a_paused_trial_that_can_hardly_return_is_as_if_it_were_over():
    paused, under_way = TrialRecord("t0000", records.PAUSED), TrialRecord("t0000", records.RUNNING)
    assert unneeded(paused, has_place=False, is_stranded=True) == ("last", "best")
    assert unneeded(paused, has_place=True, is_stranded=True) == ("last",)
    assert unneeded(under_way, has_place=False, is_stranded=True) == ()


def study(tmp_path, keep):
    folder = StudyFolder(tmp_path / "s")
    folder.root.mkdir()
    ledger = Ledger(folder, objective=OBJECTIVES[0], params={"family": "word"}, max_epochs=4)
    return folder, ledger, collector(folder, ledger, keep)


def collector(folder, ledger, keep):
    return Collector(folder, ledger, objectives=OBJECTIVES, keep=keep, family=None, replaced=tuple)


def trained(folder, ledger, trial, value, seconds=1.0, family="text"):
    ledger.start(trial, {"family": family}, until=4)
    ledger.add(trial, {"epoch": 1, "val_accuracy": value, "device_seconds": seconds})
    folder.trial(trial).mkdir(parents=True, exist_ok=True)
    for name in (LAST, BEST, "config.yaml", "predictions.parquet", "model.json", f".{LAST}.1.tmp"):
        (folder.trial(trial) / name).write_text("x")


def weights(folder):
    return {name: sorted(p.parent.name for p in folder.root.glob(f"trials/*/{name}")) for name in (LAST, BEST)}


def test_a_folder_as_its_trials_end(tmp_path):
    folder, ledger, collect = study(tmp_path, "best")
    for trial, value, seconds in (("t0000", 0.5, 9.0), ("t0001", 0.7, 9.0), ("t0002", 0.6, 5.0), ("t0003", 0.4, 7.0)):
        trained(folder, ledger, trial, value, seconds)
        ledger.end(trial, records.COMPLETE)
        collect.trial_ended(trial)
    assert weights(folder) == {LAST: [], BEST: ["t0001", "t0002"]}  # the best, and one that is cheaper
    trained(folder, ledger, "t0004", 0.9)
    ledger.pause("t0004")  # better than all, but it may fail yet
    collect.trial_ended("t0004")
    assert weights(folder) == {LAST: ["t0004"], BEST: ["t0001", "t0002", "t0004"]}
    collect.trial_ended("t0004", stranded=["t0004"])  # it would have a place
    assert weights(folder) == {LAST: [], BEST: ["t0001", "t0002", "t0004"]}
    trained(folder, ledger, "t0005", 0.1, 99.0)
    ledger.pause("t0005")
    collect.trial_ended("t0005", stranded=["t0005"])
    assert weights(folder) == {LAST: [], BEST: ["t0001", "t0002", "t0004"]}
    for trial in ("t0004", "t0005"):
        ledger.end(trial, records.PRUNED)
    collect.clear()
    assert weights(folder) == {LAST: [], BEST: ["t0004"]}
    others = {p.name for p in (folder.root / "trials/t0000").iterdir()}
    assert others == {"config.yaml", "predictions.parquet", "model.json"}


@pytest.mark.parametrize("seed", range(6))
def test_cut_short_anywhere_the_next_session_clears_the_same(tmp_path, seed, monkeypatch):
    """Removals end after any number of files, as a kill ends them; the one that follows ends as an undisturbed one."""
    draw = random.Random(seed)
    ends = []
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        folder, ledger, collect = study(tmp_path / name, "best")
        numbers = random.Random(seed + 100)
        for at in range(8):
            trial = f"t{at:04d}"
            trained(folder, ledger, trial, numbers.random(), numbers.random(), numbers.choice(["text", "image"]))
            state = numbers.choice([records.COMPLETE, records.PRUNED, records.FAILED])
            if numbers.random() < 0.8:
                ledger.end(trial, state, error="OSError" if state == records.FAILED else None)
            else:
                ledger.pause(trial)
            if name == "cut" and draw.random() < 0.5:
                with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
                    patch.setattr("pathlib.Path.unlink", cut_after(draw.randint(0, 2)))
                    collect.trial_ended(trial)
                ledger = Ledger(folder, objective=OBJECTIVES[0], params={"family": "word"}, max_epochs=4)
                collect = collector(folder, ledger, "best")
            else:
                collect.trial_ended(trial)
        collect.clear()
        ends.append(weights(folder))
    assert ends[0] == ends[1]


def cut_after(count):
    """A Path.unlink that removes so many files and then ends as a process does."""

    def unlink(path, missing_ok=False):
        nonlocal count
        if count == 0:
            raise KeyboardInterrupt
        count -= 1
        if path.exists():
            os.unlink(path)

    return unlink


SPEC = {
    "study": "kept", "family": {"type": "categorical", "choices": ["image", "fusion"]}, "dataset": "table",
    "fixed": {"epochs": 4, "batch_size": 16, "max_text_len": 8, "image_size": 32, "model.image_encoder": "tiny-cnn"},
    "space": {"optim.lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
              "model.text_encoder": {"type": "categorical", "choices": ["tiny-bert"], "when": {"family": "fusion"}}},
    "sampler": {"name": "random", "seed": 3}, "scheduler": {"name": "asha", "grace_epochs": 1, "reduction_factor": 2},
    "budget": {"trials": 6}, "resources": {"concurrent_trials": 1}, "keep": "best",
}  # fmt: skip
YAML = "files: rows.csv\ntext: words\nimage: picture\nlabels: {kind: {column: kind, kind: multiclass}}\nsplit: split\n"
UNLIKE = {"time", *records.SUMS, "samples_per_second", "peak_memory_gib"}


def pictures(folder):
    """A table of 120 rows with loose pictures."""
    folder.mkdir()
    (folder / "table.yaml").write_text(YAML)
    draw, rows = random.Random(0), ["words,picture,kind,split"]
    for row in range(120):
        colour = tuple(draw.randint(0, 120) + 100 * (row % 2) for _ in range(3))
        Image.new("RGB", (12, 12), colour).save(folder / f"{row}.png")
        rows.append(f"row {draw.randint(0, 9)},{row}.png,{'ab'[row % 2]},{'val' if row % 3 == 0 else 'train'}")
    (folder / "rows.csv").write_text("\n".join(rows) + "\n")


def folder_bytes(root):
    found = 0
    for path in root.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            found += path.stat().st_size if path.is_file() else 0
    return found


def fail(folder, trial):
    """A trial that was under way becomes one that failed, as a session writes it."""
    ledger = Ledger(folder, objective=OBJECTIVES[0], params={"family": "word"}, max_epochs=4)
    ledger.end(trial, records.FAILED, error="RuntimeError: a cable was pulled")
    ledger.close()
    journal = Journal(folder.optuna_log, name="killed", objectives=OBJECTIVES[:1])
    journal.note(records.trial_number(trial), error="RuntimeError: a cable was pulled")
    journal.tell(records.trial_number(trial), state=TrialState.FAIL)


def check_what_goes_on(folder):
    """What runs has all it needs, and so has the best paused trial of each family."""
    cells = records.read_trials(folder)
    rows = [{key: records.parse_cell(text) for key, text in row.items()} for row in cells]
    rows = [row for row in rows if row["epochs"] and row["state"] in (records.RUNNING, records.PAUSED)]
    leaders = {row["family"]: row["trial"] for row in sorted(rows, key=lambda row: row["val_accuracy"] or 0.0)}
    for row in rows:
        if row["state"] == records.RUNNING or row["trial"] == leaders[row["family"]]:
            assert {LAST, BEST} <= {path.name for path in folder.trial(row["trial"]).iterdir()}, row


@pytest.mark.slow
def test_killed_failed_and_moved_with_its_data_a_study_ends_as_if_nothing_had_happened(tmp_path):
    """SIGKILL at random moments; what is unfinished can go on, what is over has what keep: says."""
    pictures(tmp_path / "data")
    for name in ("whole", "killed"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({**SPEC, "study": name}))

    def start(*arguments):
        command = [sys.executable, "-m", "mmtune.cli", *map(str, arguments)]
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    whole, killed = (StudyFolder(tmp_path / "studies" / name) for name in ("whole", "killed"))
    process, most = start("run", "whole.yaml", "--data", "data"), 0
    while process.poll() is None:
        most = max(most, folder_bytes(whole.root))
        time.sleep(0.1)
    _, err = process.communicate()
    assert process.returncode == 0, err
    predicted = predict_disk(load_spec(whole.spec), str(tmp_path / "data"), slots=1, sizes=ModelSizes(1))
    assert predicted.running == pytest.approx(most, rel=0.3)
    assert predicted.over == pytest.approx(folder_bytes(whole.root), rel=0.3)

    total, draw, epochs = len(records.read_csv(whole.reports)), random.Random(7), 0
    for verb in (("run", "killed.yaml", "--data", "data"), ("resume", "killed")):
        process = start(*verb)
        epochs += draw.randint(2, total // 3)
        while process.poll() is None and len(records.read_csv(killed.reports)) < epochs:
            time.sleep(0.01)
        time.sleep(draw.random() * 0.3)
        assert process.poll() is None, process.communicate()
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        check_what_goes_on(killed)
    under_way = [row["trial"] for row in records.read_trials(killed) if row["state"] == records.RUNNING]
    for trial in under_way:
        fail(killed, trial)

    shutil.copytree(tmp_path / "data", tmp_path / "elsewhere", copy_function=shutil.copyfile)  # with other times
    (tmp_path / "data").rename(tmp_path / "other")
    (tmp_path / "other" / "7.png").write_bytes((tmp_path / "other" / "8.png").read_bytes())
    moved = StudyFolder((tmp_path / "studies" / "killed").rename(tmp_path / "moved"))
    for arguments, message in (
        ((), f"{tmp_path / 'data'}: the study's data are not there; where they are now: mmtune resume"),
        (("--data", "other"), f"{tmp_path / 'other'}: not the data that the study began with; different: pictures"),
    ):
        _, err = (process := start("resume", "moved", *arguments)).communicate()
        assert process.returncode == 2 and message in err and "Traceback" not in err
    out, err = (process := start("resume", "moved", "--data", "elsewhere", "--retry-failed")).communicate()
    assert process.returncode == 0, err
    assert not under_way or f"trying again: {', '.join(under_way)}" in out
    assert records.read_json(moved.info)["data_dir"] == str(tmp_path / "elsewhere")
    configs = {yaml.safe_load(path.read_text())["data_dir"] for path in moved.root.glob("trials/*/config.yaml")}
    assert configs == {str(tmp_path / "elsewhere")} and not list(moved.root.glob("trials/*/error.txt"))

    rows = [[{key: value for key, value in row.items() if key not in UNLIKE} for row in records.read_csv(f.reports)]
            for f in (whole, moved)]  # fmt: skip
    ends = [[(row["trial"], row["state"], row["val_accuracy"]) for row in records.read_rows(f.trials)]
            for f in (whole, moved)]  # fmt: skip
    assert rows[0] == rows[1] and ends[0] == ends[1] and weights(whole) == weights(moved)
    assert weights(whole)[LAST] == [] and 1 <= len(weights(whole)[BEST]) < 6
    assert max(ends[0], key=lambda row: row[2])[0] in weights(whole)[BEST]
