"""SIGKILL of each part of a running study, one after the other, with one and with two workers a trial.

Both trials of a study have the same parameters. The first one is disturbed, the second is not: they end alike.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mmtune import records
from mmtune.records import StudyFolder
from trainables.checkpoint import BEST, load_checkpoint

SPEC = """\
study: s
family: text
dataset: openclipart
fixed: {{epochs: {epochs}, batch_size: 16, max_train_rows: 320, max_text_len: 16, model.text_encoder: tiny-bert,
        model.lock_text: false}}
space: {{optim.lr: {{type: float, low: 0.0001, high: 0.01, log: true}}}}
try_first: [{{optim.lr: 0.001}}, {{optim.lr: 0.001}}]
scheduler: {{name: none}}
budget: {{trials: 2}}
resources: {{workers: {workers}, cpus_per_worker: {cpus}, concurrent_trials: 1, max_trial_retries: 5,
            frozen_seconds: 30}}
keep: all
"""
EPOCHS = 40  # enough for what an idle machine trains until it is noticed that the head is gone
TITLES = {"actor": "ray::ImplicitFunc", "broker": "Broker", "raylet": "/raylet/raylet", "gcs": "gcs_server"}
ENDING = ("raylet", "gcs", "driver")  # with which a session ends
FAULTS = {  # one worker: what ends a session; the rest is in test_session.py
    1: ("raylet", "gcs"),
    2: ("rank 0", "rank 1", "frozen rank 1", "actor", "broker", *ENDING),
}
SAID = {
    "rank 0": "t0000: its worker died; it goes on after epoch",
    "rank 1": "t0000: its worker died; it goes on after epoch",
    "frozen rank 1": "killed a frozen worker (process",
    "actor": "t0000: the process that follows it died; it goes on in another",
    "broker": "the broker between trials and workers died",
    "raylet": "mmtune: Ray's raylet at",
    "gcs": "mmtune: Ray's head at",
    "driver": "",
}


class Running:
    """A study under way."""

    def __init__(self, home: Path) -> None:
        self.folder, self.ranks, self.log = StudyFolder(home / "studies" / "s"), home / "ranks", home / "said"
        self.known = self.num_epochs()
        verb = ["resume", "studies/s"] if self.folder.info.exists() else ["run", "s.yaml"]
        self.ranks.unlink(missing_ok=True)
        script = Path(__file__).with_name("mmtune_with_ranks.py")
        with self.log.open("a") as out:
            command = [sys.executable, str(script), str(self.ranks), *verb]
            self.process = subprocess.Popen(command, cwd=home, stdout=out, stderr=out)

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def num_epochs(self) -> int:
        return len(records.read_csv(self.folder.reports))

    def wait_for(self, what, seconds=1200.0):
        deadline = time.monotonic() + seconds
        while not (found := what()):
            assert self.process.poll() is None and time.monotonic() < deadline, self.said()
            time.sleep(0.05)
        return found

    def part(self, what: str) -> psutil.Process | None:
        """The process that a fault happens to, once it is there."""
        if what == "driver":
            return psutil.Process(self.process.pid)
        try:
            if what in TITLES:
                below = psutil.Process(self.process.pid).children(recursive=True)
                return next((one for one in below if TITLES[what] in " ".join(one.cmdline())), None)
            pid = json.loads(self.ranks.read_text()).get(what.split()[-1])
            return None if pid is None else psutil.Process(pid)
        except (psutil.NoSuchProcess, FileNotFoundError):
            return None

    def disturb(self, what: str) -> None:
        """Kills or freezes a part, an epoch after the last time, and waits until that was said."""
        self.wait_for(lambda: self.num_epochs() > self.known)
        victim, before = self.wait_for(lambda: self.part(what)), len(self.said())
        victim.send_signal(signal.SIGSTOP if what.startswith("frozen") else signal.SIGKILL)
        if what in ENDING:
            assert self.process.wait(300) == (-signal.SIGKILL if what == "driver" else 1), self.said()
            assert SAID[what] in self.said()[before:]
            assert what == "driver" or re.search(r"Go on with: mmtune resume \S+/studies/s\n", self.said()[before:])
            return
        self.wait_for(lambda: SAID[what] in self.said()[before:])
        self.known = self.num_epochs()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_whatever_is_killed_the_trial_ends_as_an_undisturbed_one(workers, tmp_path):
    (tmp_path / "s.yaml").write_text(SPEC.format(workers=workers, cpus=1 / workers, epochs=EPOCHS))
    running = Running(tmp_path)
    try:
        for what in FAULTS[workers]:
            running.disturb(what)
            if what in ENDING:
                running = Running(tmp_path)
        assert running.num_epochs() < EPOCHS, "all of it was of the first trial"
        assert running.process.wait(1500) == 0, running.said()
    finally:
        running.process.kill()
    assert "Traceback" not in running.said()
    (one, other), folder = (records.read_csv(running.folder.trials)), running.folder
    assert one["state"] == other["state"] == "COMPLETE"
    exact = [name for name in one if not re.search("second|_gib|_ms_|started|ended|trial$", name)]
    assert [one[name] for name in exact] == [other[name] for name in exact] and "val_accuracy" in exact
    rows = [[{name: cell for name, cell in row.items() if not re.search("time|second|_gib|trial", name)}
             for row in records.read_csv(folder.reports) if row["trial"] == trial["trial"]]
            for trial in (one, other)]  # fmt: skip
    assert rows[0] == rows[1] and [row["epoch"] for row in rows[0]] == [str(epoch) for epoch in range(1, EPOCHS + 1)]
    weights = [load_checkpoint(folder.trial(trial["trial"]) / BEST)[0] for trial in (one, other)]
    assert all(tensor.equal(weights[1][name]) for name, tensor in weights[0].items())
    assert not os.path.exists(folder.trial("t0000") / "error.txt")
