"""Whole studies on real Ray: they survive what kills them, and leave nothing behind."""

import contextlib
import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import yaml

from mmtune import records
from mmtune.study.lock import lock_owner

pytestmark = pytest.mark.slow

TIMING = {"time", *records.SUMS, "samples_per_second", "peak_memory_gib"}


def spec_text(name, **changes):
    """A search over tiny encoders on a few hundred drawings."""
    spec = {
        "study": name,
        "family": "fusion",
        "dataset": "openclipart",
        "fixed": {
            "epochs": 4, "batch_size": 32, "max_train_rows": 320, "max_text_len": 16, "image_size": 32,
            "model.text_encoder": "tiny-bert", "model.image_encoder": "tiny-cnn",
            "model.lock_text": False, "model.lock_image": False,
        },
        "space": {
            "optim.lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
            "model.kind": {"type": "categorical", "choices": ["early", "late"]},
            "uda.mode": {"type": "categorical", "choices": ["none", "dynamic"]},
            "uda.lam": {"type": "float", "low": 0.1, "high": 2.0, "log": True, "when": {"uda.mode": "dynamic"}},
        },
        "sampler": {"name": "tpe", "seed": 3, "n_startup_trials": 3},
        "scheduler": {"name": "asha", "grace_epochs": 1, "reduction_factor": 2},
        "budget": {"trials": 6},
        "resources": {"workers": 1, "cpus_per_worker": 1, "concurrent_trials": 1},
    }  # fmt: skip
    for key, value in changes.items():
        is_merged = key in ("fixed", "space", "budget", "resources")
        spec[key] = {**spec[key], **value} if is_merged else value
        spec[key] = {name: part for name, part in spec[key].items() if part is not None} if is_merged else value
    return yaml.safe_dump(spec, sort_keys=False)


def mmtune(*arguments, cwd):
    return subprocess.Popen(
        [sys.executable, "-m", "mmtune.cli", *arguments], cwd=cwd, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def finish(process, timeout=1500):
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, err


def reports(folder):
    with (folder / "reports.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def epochs_by_trial(folder):
    epochs = defaultdict(list)
    for row in reports(folder):
        epochs[row["trial"]].append(int(row["epoch"]))
    return dict(epochs)


def wait_for_reports(folder, count, process, timeout=1500):
    deadline = time.monotonic() + timeout
    while len(records.read_csv(folder / "reports.csv")) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def untimed(rows):
    return [{key: value for key, value in row.items() if key not in TIMING} for row in rows]


def test_a_killed_study_resumes_as_if_nothing_had_happened(tmp_path):
    for name in ("whole", "killed"):
        (tmp_path / f"{name}.yaml").write_text(spec_text(name))
    code, out, err = finish(mmtune("run", "whole.yaml", cwd=tmp_path))
    assert code == 0, err
    whole, killed = tmp_path / "studies" / "whole", tmp_path / "studies" / "killed"

    first = mmtune("run", "killed.yaml", cwd=tmp_path)
    wait_for_reports(killed, 7, first)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    before = reports(killed)
    code, out, _ = finish(mmtune("status", "killed", cwd=tmp_path))
    assert code == 0 and "not running" in out and "mmtune resume" in out
    with (killed / "optuna.log").open("a") as file:
        file.write('{"op_code": 4, "worker_id"')  # a kill in the middle of a write
    with (killed / "reports.csv").open("a") as file:
        file.write("t0003,2026-")

    blocked = killed / "trials" / "t0005" / "best.safetensors"
    blocked.mkdir(parents=True)  # storage that cannot be written pauses the study, and costs no trial of the budget
    code, out, err = finish(mmtune("resume", "killed", cwd=tmp_path))
    assert code == 1 and "recovered" in out and f"{len(before)} epochs" in out
    assert f"mmtune: paused, by no fault of a trial: t0005: {blocked}: Is a directory" in err
    assert f"mmtune resume {killed}" in out and "Traceback" not in err
    assert reports(killed)[: len(before)] == before
    before = reports(killed)
    blocked.rmdir()

    code, out, err = finish(mmtune("resume", "killed", cwd=tmp_path))
    assert code == 0, err
    assert "recovered" in out and f"{len(before)} epochs" in out
    rows = reports(killed)
    assert rows[: len(before)] == before
    assert not [key for key, count in Counter((row["trial"], row["epoch"]) for row in rows).items() if count > 1]
    for epochs in epochs_by_trial(killed).values():
        assert epochs == list(range(1, len(epochs) + 1))
    # One trial at a time: the same proposals, the same stops, and the same losses to the last digit.
    assert untimed(rows) == untimed(reports(whole))
    columns = ("trial", "state", "epochs", "best_epoch", "optim.lr", "model.kind", "uda.mode", "uda.lam", "val_loss")
    ends = [
        [{key: row[key] for key in columns} for row in records.read_csv(path / "trials.csv")]
        for path in (whole, killed)
    ]
    assert ends[0] == ends[1] and len(ends[0]) == 6
    # Rungs 1, 2 and 4: all six paused at 1, three went on to 2, one of them and no other to 4.
    assert sorted(int(row["epochs"]) for row in ends[0]) == [1, 1, 1, 2, 2, 4]
    assert {row["epochs"]: row["state"] for row in ends[0]} == {"1": "PRUNED", "2": "PRUNED", "4": "COMPLETE"}
    order = [row["trial"] for row in rows]
    assert any(order[at] != order[at - 1] and order[at] in order[: at - 1] for at in range(2, len(order)))

    code, out, err = finish(mmtune("resume", "killed", cwd=tmp_path))  # nothing is left to do
    assert code == 0 and reports(killed) == rows


def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(tmp_path):
    (tmp_path / "study.yaml").write_text(spec_text("stopped", fixed={"epochs": 40}, scheduler={"name": "asha"}))
    process = mmtune("run", "study.yaml", cwd=tmp_path)
    folder = tmp_path / "studies" / "stopped"
    wait_for_reports(folder, 2, process)
    code, out, err = finish(mmtune("resume", "stopped", cwd=tmp_path))
    assert code == 2 and f"process {process.pid}" in err  # another process writes it
    code, out, _ = finish(mmtune("status", "stopped", cwd=tmp_path))
    assert code == 0 and f"running (process {process.pid}" in out
    os.kill(process.pid, signal.SIGINT)
    code, out, err = finish(process, timeout=300)
    assert code == 130, err
    assert f"mmtune resume {folder}" in out and "Traceback" not in err
    for trial, epochs in epochs_by_trial(folder).items():
        assert epochs == list(range(1, len(epochs) + 1)), trial
    assert lock_owner(records.open_study(folder)) is None


def test_a_terminal_shows_a_live_table(tmp_path):
    (tmp_path / "study.yaml").write_text(spec_text("shown", budget={"trials": 2}, fixed={"epochs": 2}))
    main, side = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "140", "LINES": "30"}
    command = [sys.executable, "-m", "mmtune.cli", "run", "study.yaml"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=side, stdout=side, stderr=side, env=environment, start_new_session=True
    ) as process:
        os.close(side)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux says that the other side is gone
            while part := os.read(main, 65536):
                shown += part
        assert process.wait(timeout=1500) == 0
    os.close(main)
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode(errors="replace"))
    for word in ("t0001", "running 1", "device-hours", "val_accuracy", "finished. Report: mmtune report"):
        assert word in screen, word
    assert "Traceback" not in screen


def on_four_cpus(tmp_path, text, *arguments):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    script = Path(__file__).with_name("study_on_four_cpus.py")
    command = [sys.executable, str(script), str(path), str(tmp_path / "studies"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stdout


def test_kills_and_failures_and_many_stops_leave_every_cpu_free(tmp_path):
    text = spec_text(
        "rough",
        budget={"trials": 12},
        fixed={"epochs": 6},
        resources={"concurrent_trials": 2},
        sampler={"name": "random", "seed": 1},
        space={"optim.lr": {"type": "float", "low": 1e-6, "high": 1e-2, "log": True},
               "optim.grad_clip": {"type": "categorical", "choices": [1.0, 1.0e30]}},
        try_first=[{"optim.lr": 1e-3, "optim.grad_clip": 1.0}],
    )  # fmt: skip
    ending, out = on_four_cpus(tmp_path, text, "--kill", "worker", "--kill", "actor", "--kill", "broker")
    assert all(f"killed {kind}" in out for kind in ("worker", "actor", "broker"))
    assert ending == {"complete": True, "error": None, "free_cpus": 4.0}
    folder = tmp_path / "studies" / "rough"
    states = Counter(row["state"] for row in records.read_csv(folder / "trials.csv"))
    assert sum(states.values()) == 12
    assert states["PRUNED"] >= 5
    assert states["COMPLETE"] >= 1
    for trial, epochs in epochs_by_trial(folder).items():
        assert epochs == list(range(1, len(epochs) + 1)), trial


def test_a_diverging_trial_fails_alone_and_trackers_touch_nothing(tmp_path, monkeypatch):
    """One tracker's server is not there; the other has a run of each trial."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    text = spec_text(
        "diverging",
        budget={"trials": 3},
        space={"optim.lr": {"type": "float", "low": 1e-6, "high": 10.0, "log": True},
               "uda.mode": {"type": "categorical", "choices": ["none"]}, "uda.lam": None},
        fixed={"optim.schedule": "constant", "optim.warmup_ratio": 0.0, "optim.weight_decay": 1.0, "epochs": 8,
               "optim.grad_clip": None, "optim.head_lr_mult": 1000.0},
        try_first=[{"optim.lr": lr, "model.kind": "early", "uda.mode": "none"} for lr in (10.0, 1e-6)],
        scheduler={"name": "none"}, trackers=["mlflow", "wandb"],
    )  # fmt: skip
    ending, _ = on_four_cpus(tmp_path, text)
    assert ending["complete"]
    sent = json.loads((tmp_path / "studies" / "diverging" / "wandb" / "sent.json").read_text())
    rows = {row["trial"]: row for row in records.read_csv(tmp_path / "studies" / "diverging" / "trials.csv")}
    assert {trial: holds[0] for trial, holds in sent.items()} == {trial: row["state"] for trial, row in rows.items()}
    assert rows["t0000"]["state"] == "FAILED"
    assert "nan or infinite" in rows["t0000"]["error"]
    assert rows["t0001"]["state"] == "COMPLETE"
    assert (tmp_path / "studies" / "diverging" / "trials" / "t0000" / "error.txt").exists()


def test_two_workers_train_like_one_and_one_of_them_killed_changes_no_digit(tmp_path):
    losses, twice = {}, {"optim.lr": 1e-3, "model.kind": "late", "uda.mode": "none"}
    for workers, isolation, kills in ((1, "process", []), (2, "slot", ["--kill", "worker"])):
        text = spec_text(
            f"workers{workers}",
            budget={"trials": 2},
            fixed={"epochs": 5, "model.dropout": 0.0},
            try_first=[twice, dict(twice)],
            scheduler={"name": "none"},
            resources={"workers": workers, "isolation": isolation},
        )
        (tmp_path / f"{workers}").mkdir()
        ending, out = on_four_cpus(tmp_path / f"{workers}", text, *kills)
        assert ending == {"complete": True, "error": None, "free_cpus": 4.0}
        assert ("killed worker" in out) == bool(kills)
        said = re.findall(r"t0000: its worker died; it goes on after epoch \d \(retry 1 of 2\)", out)
        assert len(said) == len(kills) // 2
        rows = reports(tmp_path / f"{workers}" / "studies" / f"workers{workers}")
        disturbed, whole = ([row for row in untimed(rows) if row.pop("trial") == name] for name in ("t0000", "t0001"))
        assert [row["epoch"] for row in whole] == list("12345") and disturbed == whole
        losses[workers] = [float(row["val_loss"]) for row in rows]
        assert all(float(row["device_seconds"]) == pytest.approx(workers * float(row["wall_seconds"])) for row in rows)
    assert losses[2] == pytest.approx(losses[1], rel=0.05)  # tiny-bert's own dropout differs by rank
