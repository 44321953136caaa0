"""Studies in trackers: what is sent of a folder, a real MLflow server, and servers that refuse or hang."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.util import find_spec

import pytest

from mmtune import records
from mmtune.trackers import beside
from mmtune.trackers.follow import news_of, open_tracker, send_all
from trainables.files import write_atomic

SPEC = "study: s\nfamily: text\ndataset: openclipart\nspace: {}\nbudget: {trials: 2}\n"


@pytest.fixture
def study(tmp_path):
    """Writes trial 0 with so many epochs, COMPLETE at three, and trial 1, which failed."""

    def write(epochs):
        folder = records.StudyFolder(tmp_path / "s")
        write_atomic(folder.spec, SPEC)
        info = {"study": "s", "params": ["optim.lr"], "objectives": [{"metric": "val_accuracy", "mode": "max"}]}
        records.write_json(folder.info, info | {"max_epochs": 3, "sessions": [], "started": "2026-01-02T03:00:00Z"})
        state = "COMPLETE" if epochs == 3 else "RUNNING"
        first = {"trial": "t0000", "state": state, "epochs": epochs, "best_epoch": epochs, "optim.lr": 0.001}
        first |= {"val_accuracy": epochs / 10, "device_seconds": 3.0 * epochs, "num_parameters": 1000, "error": None}
        first |= {"started": "2026-01-02T03:00:00Z", "ended": "2026-01-02T03:09:00Z" if epochs == 3 else None}
        lost = first | {"trial": "t0001", "state": "FAILED", "val_accuracy": None, "error": "it broke", "epochs": 0}
        write_atomic(folder.trials, records.csv_text(list(first), [first, lost]))
        rows = [
            {"trial": "t0000", "epoch": epoch, "time": f"2026-01-02T03:0{epoch}:00Z", "val_accuracy": epoch / 10,
             "train_loss": 1 / epoch, "device_seconds": 3.0, "uda_case": "warmup"}
            for epoch in range(1, epochs + 1)
        ]  # fmt: skip
        write_atomic(folder.reports, records.csv_text(list(rows[0]), rows))
        for name in ("config.yaml", "model.json", "best.safetensors"):
            write_atomic(folder.trial("t0000") / name, name)
        return folder

    return write


def test_what_there_is_to_say_of_a_study(study):
    root = study(3).root
    done, lost = news_of(root, is_end=True)
    assert (done.state, done.params, done.error) == ("COMPLETE", {"family": "text", "optim.lr": "0.001"}, "")
    assert [epoch.epoch for epoch in done.epochs] == [1, 2, 3]
    assert done.epochs[1].values["train_loss"] == 0.5 and "uda_case" not in done.epochs[1].values
    assert done.epochs[1].time - done.epochs[0].time == 60
    assert done.started is not None and done.ended == done.started + 540
    assert done.totals["best/val_accuracy"] == 0.3 and done.totals["cost/num_parameters"] == 1000
    assert [path.name for path in done.model] == ["config.yaml", "model.json", "best.safetensors"]
    assert (lost.state, lost.error, lost.epochs, lost.model) == ("FAILED", "it broke", [], [])
    running, _ = news_of(study(2).root, is_end=False)
    assert running.totals == {} and running.model == [] and running.ended is None


@pytest.mark.slow
def test_a_tracker_that_cannot_be_reached_is_one_line_and_an_end_within_bounds(study, monkeypatch):
    """One server refuses; another takes the connection and never answers, longer than it is waited for."""
    root, lines = study(2).root, []
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with beside.tracking(root, ["mlflow"], lines.append):
        deadline = time.monotonic() + 100
        while not lines and time.monotonic() < deadline:
            time.sleep(0.05)
    assert lines[0].startswith("tracker mlflow: $MLFLOW_TRACKING_URI is not set")
    assert len(lines) == 2 and f"`mmtune track {root} --to mlflow` sends the rest" in lines[1]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(beside, "LAST_SECONDS", 4.0)
        lines.clear()
        began = time.monotonic()
        with beside.tracking(root, ["mlflow"], lines.append):
            pass
        assert time.monotonic() - began < 30
    assert lines == [f"tracker mlflow: has not ended within 4 s; `mmtune track {root} --to mlflow` sends the rest"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """An MLflow server on loopback, and a function that asks it."""
    if find_spec("mlflow") is None:
        pytest.skip("mlflow is not installed")
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/runs.db", "--artifacts-destination", str(folder / "files")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(command, cwd=folder, env=env, **quiet)
    address = f"http://127.0.0.1:{port}"

    def ask(path, **body):
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(f"{address}/{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    try:
        deadline = time.monotonic() + 600  # its imports and tables take long on a busy machine
        while True:
            try:
                ask("health")
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)
        yield address, ask
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its workers are in its session
        process.wait()


@pytest.mark.slow
def test_a_run_a_trial_never_twice_with_epochs_costs_state_and_model(study, server, monkeypatch):
    """Sent after two epochs, then by another process after all three, then once more."""
    address, ask = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setattr(beside, "LAST_SECONDS", 600.0)
    root = study(2).root
    assert send_all(root, open_tracker("mlflow", root), is_end=False) == 2
    study(3)
    lines: list[str] = []
    with beside.tracking(root, ["mlflow"], lines.append):
        pass
    assert lines == []
    assert send_all(root, open_tracker("mlflow", root), is_end=True) == 0

    experiment = json.loads(ask("api/2.0/mlflow/experiments/get-by-name?experiment_name=s"))["experiment"]
    found = json.loads(ask("api/2.0/mlflow/runs/search", experiment_ids=[experiment["experiment_id"]]))["runs"]
    runs = {run["info"]["run_name"]: run for run in found}
    assert sorted(runs) == ["t0000", "t0001"] and len(found) == 2
    data = {
        kind: {item["key"]: item["value"] for item in runs["t0000"]["data"][kind]}
        for kind in ("params", "metrics", "tags")
    }
    assert data["params"] == {"family": "text", "optim.lr": "0.001"}
    assert data["metrics"]["best/val_accuracy"] == 0.3 and data["metrics"]["cost/device_seconds"] == 9.0
    assert data["tags"]["mmtune.state"] == "COMPLETE" and runs["t0000"]["info"]["status"] == "FINISHED"
    lost = {item["key"]: item["value"] for item in runs["t0001"]["data"]["tags"]}
    assert runs["t0001"]["info"]["status"] == "FAILED" and lost["mmtune.error"] == "it broke"
    id = runs["t0000"]["info"]["run_id"]
    history = json.loads(ask(f"api/2.0/mlflow/metrics/get-history?run_id={id}&metric_key=val_accuracy"))["metrics"]
    assert [(int(item["step"]), item["value"]) for item in history] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    files = json.loads(ask(f"api/2.0/mlflow/artifacts/list?run_id={id}&path=model"))["files"]
    assert sorted(item["path"] for item in files) == ["model/best.safetensors", "model/config.yaml", "model/model.json"]


def records_of(path):
    """The records of an offline run's file: LevelDB's log format, each a protobuf."""
    pb2 = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    data, at, whole, found = path.read_bytes(), 7, b"", []
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # a block's end holds no header
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, last
            record = pb2.Record()
            record.ParseFromString(whole)
            found.append(record)
            whole = b""
    return found


@pytest.mark.slow
def test_an_offline_run_of_wandb_is_there_once_whole_and_anew_where_the_trial_has_more(study):
    root = study(2).root
    tracker = open_tracker("wandb", root)
    assert send_all(root, tracker, is_end=False) == 1  # the failed one; the other still runs
    study(3)
    assert send_all(root, tracker, is_end=False) == 1
    (one,) = (root / "wandb").glob("offline-run-*-t0000")
    (half := one.with_name(f"offline-run-20260101_000000-{one.name[-14:]}")).mkdir()  # a kill left it
    assert send_all(root, open_tracker("wandb", root), is_end=True) == 1  # its model came
    assert send_all(root, open_tracker("wandb", root), is_end=True) == 0
    runs = sorted((root / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stem)
    assert [path.stem[-5:] for path in runs] == ["t0000", "t0001"] and not half.exists()

    done, lost = map(records_of, runs)
    run = next(record.run for record in done if record.HasField("run"))
    assert (run.display_name, run.project, list(run.tags)) == ("t0000", "s", ["COMPLETE"])
    config = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in run.config.update}
    assert config["family"] == "text" and config["optim.lr"] == 0.001
    history = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in done
        if record.HasField("history")
    ]
    assert [(row["epoch"], row["val_accuracy"]) for row in history] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    summary = {
        item.key or item.nested_key[0]: json.loads(item.value_json) for record in done for item in record.summary.update
    }
    assert summary["best/val_accuracy"] == 0.3 and summary["cost/device_seconds"] == 9.0
    files = [entry.path for record in done for entry in record.request.log_artifact.artifact.manifest.contents]
    files += [entry.path for record in done for entry in record.artifact.manifest.contents]
    assert sorted(files) == ["best.safetensors", "config.yaml", "model.json"]
    assert [record.exit.exit_code for record in done if record.HasField("exit")] == [0]
    assert [record.exit.exit_code for record in lost if record.HasField("exit")] == [1]
    assert next(record.run for record in lost if record.HasField("run")).notes == "it broke"
