"""SIGKILL of each part of a running study, one after the other, with one and with two workers a trial.

With one worker its storage is also gone for a while, and read-only for a while. Both trials of a study have the same
parameters. The first one is disturbed, the second is not: they end alike.
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
STORAGE = ("vanished storage", "read-only storage")  # where the session may mount
ENDING = ("raylet", "gcs", "driver", *STORAGE)  # with which a session ends
FAULTS = {  # one worker: what ends a session; the rest is in test_session.py
    1: ("raylet", "gcs", *STORAGE),
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
    "vanished storage": "No such file or directory\n",
    "read-only storage": "Read-only file system\n",
}


class Storage:
    """A folder that lies elsewhere, as a mounted disk does; for who may mount."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.content = folder, folder.with_name("disk")
        folder.mkdir()
        self.content.mkdir()
        bind = ["mount", "--bind", str(self.content), str(folder)]
        self.can_mount = subprocess.run(bind, capture_output=True, check=False).returncode == 0

    def fail(self, what: str) -> None:
        if what == "vanished storage":
            self._mount("umount", "-l")
        else:  # over the first: a lock that is held there keeps that from being turned
            self._mount("mount", "--bind", self.content)
            self._mount("mount", "-o", "remount,bind,ro")

    def mend(self, what: str) -> None:
        if what == "vanished storage":
            assert [*self.folder.glob("*/*.csv")] == [], "another study was begun below"
            self._mount("mount", "--bind", self.content)
        else:
            self._mount("umount", "-l")

    def close(self) -> None:
        while subprocess.run(["umount", "-l", self.folder], capture_output=True, check=False).returncode == 0:
            pass  # one may lie over the other

    def _mount(self, *command: object) -> None:
        subprocess.run([*map(str, command), str(self.folder)], check=True)


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

    def disturb(self, what: str, storage: Storage) -> None:
        """Has a fault come an epoch after the last one, and waits until that was said."""
        self.wait_for(lambda: self.num_epochs() > self.known)
        before = len(self.said())
        if what in STORAGE:
            storage.fail(what)
        else:
            victim = self.wait_for(lambda: self.part(what))
            victim.send_signal(signal.SIGSTOP if what.startswith("frozen") else signal.SIGKILL)
        if what in ENDING:
            assert self.process.wait(300) == (-signal.SIGKILL if what == "driver" else 1), self.said()
            assert SAID[what] in self.said()[before:]
            assert what == "driver" or re.search(r"Go on with: mmtune resume \S+/studies/s\n", self.said()[before:])
            assert len(re.findall("^mmtune: ", self.said()[before:], re.MULTILINE)) == (what != "driver")
            return
        self.wait_for(lambda: SAID[what] in self.said()[before:])
        self.known = self.num_epochs()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_whatever_is_killed_the_trial_ends_as_an_undisturbed_one(workers, tmp_path):
    (tmp_path / "s.yaml").write_text(SPEC.format(workers=workers, cpus=1 / workers, epochs=EPOCHS))
    storage = Storage(tmp_path / "studies")
    running = Running(tmp_path)
    try:
        for what in FAULTS[workers]:
            if what in STORAGE and not storage.can_mount:
                continue
            running.disturb(what, storage)
            if what in STORAGE:
                there = records.read_csv(storage.content / "s" / "trials.csv")
                assert [row["state"] for row in there] == ["RUNNING"]
                storage.mend(what)
            if what in ENDING:
                running = Running(tmp_path)
        assert running.num_epochs() < EPOCHS, "all of it was of the first trial"
        assert running.process.wait(1500) == 0, running.said()
    finally:
        running.process.kill()
        storage.close()
    assert "Traceback" not in running.said()
    folder = StudyFolder((storage.content if storage.can_mount else storage.folder) / "s")
    one, other = records.read_csv(folder.trials)
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
    if not storage.can_mount and workers == 1:
        pytest.skip("all passed but vanished and read-only storage, which were left out: this user may not mount")
