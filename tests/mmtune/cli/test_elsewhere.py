"""A study in TensorBoard, optuna-dashboard and trackers: what is refused, and that the programs answer."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest


def test_what_cannot_be_opened_is_said_in_a_line(mmtune, write_study):
    folder = write_study(mmtune.cwd, "COMPLETE")
    assert mmtune.refused("tensorboard", "s") == f"{folder.tensorboard}: no such folder; no trial has reported yet"
    assert mmtune.refused("dashboard", "s") == f"{folder.optuna_log}: no such file; no trial was proposed yet"
    assert mmtune.refused("track", "s", "--to", "mlfow").startswith("--to: 'mlfow' is unknown, did you mean 'mlflow'?")
    assert mmtune.refused("track", "s").startswith("$MLFLOW_TRACKING_URI is not set")


def test_a_dashboard_that_is_not_installed(mmtune, write_study, monkeypatch):
    from mmtune.cli import elsewhere

    folder = write_study(mmtune.cwd, "COMPLETE")
    folder.optuna_log.write_text("")
    monkeypatch.setattr(elsewhere, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^optuna-dashboard is not installed: pip install 'mmtune\[dashboard\]'$"):
        elsewhere.dashboard(str(folder.root))


@pytest.mark.slow
@pytest.mark.parametrize("verb, page", [("tensorboard", "data/runs"), ("dashboard", "api/studies")])
def test_the_program_answers_on_this_machine(mmtune, write_study, verb, page):
    pytest.importorskip({"tensorboard": "tensorboard", "dashboard": "optuna_dashboard"}[verb])
    folder = write_study(mmtune.cwd, "COMPLETE")
    (folder.tensorboard / "t0000").mkdir(parents=True)
    folder.optuna_log.write_text("")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mmtune.cli", verb, str(folder.root), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10) as answer:
                        assert answer.status == 200
                    break
                except OSError:
                    assert process.poll() is None
                    time.sleep(0.2)
            else:
                pytest.fail("no answer")
        finally:
            process.kill()
