"""The driver is killed inside of its writes, or its disk is full: the next one goes on as if nothing had happened.

Everything that a driver writes is real here (a `Session` with its ledger, journal, collector and info); trials are
scripted, and no Ray. A life is a fork, which SIGKILL ends before its n-th change of the folder, or in the middle of it.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch

from mmtune import records
from mmtune.info import read_info
from mmtune.records import StudyFolder
from mmtune.search.searcher import StudySearcher
from mmtune.spec.search_spec import load_spec
from mmtune.study.create import create_study
from mmtune.study.lock import study_lock
from mmtune.study.mend import clear_unwritten, mend_tables
from mmtune.study.session import Session
from trainables.checkpoint import BEST, LAST, load_if_whole, save_checkpoint

SPEC = """\
study: s
family: text
dataset: openclipart
objectives: [{metric: val_accuracy}]
fixed: {epochs: 4, model.text_encoder: tiny-bert}
space:
  optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
  optim.weight_decay: {type: float, low: 0.0, high: 0.1}
  model.dropout: {type: float, low: 0.0, high: 0.5}
sampler: {name: random, seed: 2}
scheduler: {name: asha, grace_epochs: 1, reduction_factor: 2}
budget: {trials: 6}
"""
EPOCHS = 4
FILES = {  # and how many of its changes a life has before it is killed, at most
    "optuna.log": 14, "reports.csv": 5, "trials.csv": 5, "study.json": 5, "config.yaml": 5, "last.safetensors": 5,
}  # fmt: skip
compare = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "soak"))["compare"]


def live(storage: Path) -> str | None:
    """A driver: makes the study or goes on with it, to its end, or to why it could not."""
    folder = StudyFolder(storage / "s")
    if not folder.info.exists():
        create_study(load_spec(SPEC), storage=storage)
    with study_lock(folder):
        clear_unwritten(folder)
        spec, info = load_spec(folder.spec), read_info(folder.info)
        mend_tables(folder, spec, info, lambda line: None)
        info["sessions"].append({"started": records.now(), "pid": os.getpid(), "slots": 1})
        session = Session(
            folder, spec, info, slots=1, interrupted=threading.Event(), began=time.monotonic(), say=None
        )  # fmt: skip
        ending = session.run(play)
    assert ending.is_complete == (ending.error is None), ending
    return ending.error


def play(session: Session, journal: Any) -> None:
    """What a Tuner and workers do, one trial at a time; t0001 diverges."""
    spec = session.spec
    searcher = StudySearcher(
        spec=spec, journal=journal, ledger=session.ledger, job=session.job,
        rules=spec.rules,
        is_spent=lambda: False, seconds_left=lambda: None, slots=lambda: 1,
        on_end=lambda trial, ticket: session.trial_ended(trial, stranded=searcher.stranded(trial)),
        on_fault=lambda trial, ticket, what: None,
    )  # fmt: skip
    while (given := searcher.suggest("tune")) != "FINISHED":
        trial, job = given["trial"], given["job"]
        until, end = session.ledger.trials[trial].until, {"epoch": 0}
        for row in [] if trial == "t0001" else work(job):
            searcher.on_trial_result("tune", {"epoch": row["epoch"], "value": row["val_accuracy"]})
            session.ledger.add(trial, row)
            if row["epoch"] == until:
                break
        if trial == "t0001":
            end = {"end/state": "FAILED", "end/error": "NonFiniteError: train_loss became nan in epoch 1"}
        elif until == EPOCHS:
            end = {"end/state": "COMPLETE", "end/facts/num_parameters": 7}
        searcher.on_trial_complete("tune", end)
    searcher.prune_paused()


def work(job):
    """As trainables.loop: an epoch's checkpoints are there before it is reported."""
    folder, lr = Path(job["folder"]), job["config"]["optim"]["lr"]
    for stale in folder.glob(".*.tmp"):
        stale.unlink()
    found = load_if_whole(folder / LAST)
    rows = found[1]["progress"]["reports"] if found else []
    yield from [row for row in rows if row["epoch"] > job["known_epoch"]]
    while len(rows) < EPOCHS:
        epoch = len(rows) + 1
        rows = [*rows, {"epoch": epoch, "train_loss": 1 / epoch, "val_accuracy": lr * (7 + epoch)}]
        tensors = {"x": torch.tensor([lr, epoch])}
        save_checkpoint(folder / BEST, tensors, {"report": rows[-1]})
        save_checkpoint(folder / LAST, tensors, {"progress": {"reports": rows}})
        yield rows[-1]


def arrange_kill(storage: Path, name: str, at: int) -> None:
    """Ends this process with SIGKILL at its ``at``-th change of files of a name; inside of it, if it is a write.

    A file beside ``storage`` says what the change was.
    """
    write, write_bytes, inside, counts = os.write, Path.write_bytes, f"{storage}{os.sep}", itertools.count(1)

    def is_last(what: str, path: str) -> bool:
        found = Path(path).name
        if found.endswith(".tmp"):  # .<name>.<token>.tmp
            found = found[1:].rpartition(".")[0].rpartition(".")[0]
        if not path.startswith(inside) or found != name or next(counts) != at:
            return False
        (storage.parent / "killed").write_text(what)
        return True

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        is_change = event in ("os.rename", "os.remove", "os.mkdir")
        is_change = is_change or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))
        path = str(arguments[0]) if is_change else ""
        if is_change and is_last(event.removeprefix("os."), path):
            die()

    def half_a_write(handle: int, data: Any) -> int:
        path = os.readlink(f"/proc/self/fd/{handle}")
        if is_last("write", path):
            write(handle, data[: len(data) // 2])
            die()
        return write(handle, data)

    def half_a_file(self: Path, data: Any) -> int:
        if is_last("write", str(self)):
            write_bytes(self, data[: len(data) // 2])
            die()
        return write_bytes(self, data)

    sys.addaudithook(audit)
    os.write, Path.write_bytes = half_a_write, half_a_file


def killed_at(storage: Path, name: str, change: int) -> str | None:
    """A life that is killed at one of its changes: what that was; None if it came to its end before."""
    if (pid := os.fork()) == 0:
        try:
            arrange_kill(storage, name, change)
            os._exit(0 if live(storage) is None else 1)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return None if code == 0 else (storage.parent / "killed").read_text()


@pytest.mark.slow
def test_killed_inside_of_its_writes_a_study_ends_as_if_nothing_had_happened(tmp_path):
    whole, home, rng = tmp_path / "whole", tmp_path / "disturbed", random.Random(5)
    for storage in (whole, home):
        storage.mkdir()
    live(whole)
    killed: defaultdict[str, Counter[str | None]] = defaultdict(Counter)
    for name in itertools.cycle(FILES):
        what = killed_at(home, name, rng.randint(1, FILES[name]))
        if what is None:
            break
        killed[name][what] += 1
    assert compare(whole / "s", home / "s") == []
    left_out = (".lock", "tensorboard")
    names = [sorted(path.name for path in (storage / "s").iterdir() if path.name not in left_out)
             for storage in (whole, home)]  # fmt: skip
    assert names[0] == names[1]  # what a kill cut short is gone
    assert killed.keys() == set(FILES), killed
    assert {"open", "write", "rename"} <= {what for kinds in killed.values() for what in kinds}, killed


def on_a_disk_that_grows(storage: Path, kept: Path) -> None:
    """Lives on a tmpfs that grows each time, until one comes to its end; ``kept`` gets the study and what was said."""
    storage.mkdir()
    mount, said = ["mount", "-t", "tmpfs", "none", str(storage), "-o"], []
    subprocess.run([*mount, "size=24k"], check=True)
    for size in itertools.count(36, 12):
        try:
            error = live(storage)
        except OSError as failure:
            error = f"{failure.filename}: {failure.strerror}"
        if error is None:
            break
        assert re.search(f"{storage}/\\S+: No space left on device$", error), error
        said.append(error)
        subprocess.run(["mount", "-o", f"remount,size={size}k", str(storage)], check=True)
    shutil.copytree(storage / "s", kept / "s")
    (kept / "said").write_text("\n".join(said))


@pytest.mark.slow
def test_on_a_full_disk_a_study_pauses_and_goes_on_when_there_is_room(tmp_path):
    if os.getuid() or subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "none", str(tmp_path)]).returncode:
        pytest.skip("no mount namespaces here")
    whole, kept = tmp_path / "whole", tmp_path / "kept"
    whole.mkdir()
    kept.mkdir()
    live(whole)
    if (pid := os.fork()) == 0:
        try:
            if ctypes.CDLL(None).unshare(0x00020000):  # CLONE_NEWNS: mounts of its own
                os._exit(2)
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            on_a_disk_that_grows(tmp_path / "disk", kept)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert compare(whole / "s", kept / "s") == []
    said = (kept / "said").read_text().splitlines()
    assert len(said) > 5 and len(set(said)) > 2, said
