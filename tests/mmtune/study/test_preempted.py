"""Told to end (SIGTERM) or killed inside of an epoch, a study's trial and a training alone go on at their step."""

import contextlib
import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mmtune import records
from mmtune.spec.configfile import load_config
from mmtune.study.single import train_single
from trainables import loop
from trainables.checkpoint import BEST, load_checkpoint
from trainables.config import TrialConfig
from trainables.ranks import Ranks
from trainables.resume import MIDDLE

SPEC = """\
study: preempted
family: text
dataset: openclipart
fixed: {epochs: 2, batch_size: 2, max_train_rows: 1000, max_text_len: 16, model.text_encoder: tiny-bert,
        model.lock_text: false}
space: {optim.lr: {type: float, low: 0.001, high: 0.002}}
scheduler: {name: none}
budget: {trials: 1}
resources: {concurrent_trials: 1, checkpoint_every_seconds: 1}
"""
TRAINED = """\
family: text
dataset: openclipart
epochs: 2
batch_size: 2
max_train_rows: 100
max_text_len: 16
checkpoint_every_seconds: 0
threads: 1
model: {text_encoder: tiny-bert, lock_text: false}
"""
TIMING = {"trial", "time", *records.SUMS, *records.TRIAL_FACTS, "samples_per_second", "peak_memory_gib"}


def wait_for(what, process, seconds=600.0):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    return found


def workers_of(pid):
    """Ray's train workers below a driver."""
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    found = [int(child) for child in children if is_worker(child)]
    return found + [worker for child in children for worker in workers_of(child)]


def is_worker(pid):
    try:
        return b"RayTrainWorker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def steps_in(folder) -> Any:
    """(epochs before, steps in the next one) that the checkpoint inside of an epoch stands at; None without one."""
    try:
        state = load_checkpoint(folder / MIDDLE)[1]
    except ValueError:
        return None
    return state["progress"]["epoch"], state["middle"]["num_steps"]


@pytest.mark.slow
def test_a_worker_and_a_driver_that_are_told_to_end_cost_no_step_and_no_digit(tmp_path):
    (tmp_path / "spec.yaml").write_text(SPEC)

    @contextlib.contextmanager
    def mmtune(*arguments):
        command = [sys.executable, "-m", "mmtune.cli", *arguments]
        with subprocess.Popen(command, cwd=tmp_path, text=True, stdout=-1, stderr=-1) as process:
            try:
                yield process
            finally:
                process.kill()

    study = tmp_path / "studies" / "preempted"
    folder = study / "trials" / "t0000"
    with mmtune("run", "spec.yaml") as process:
        before = wait_for(lambda: steps_in(folder), process)
        (worker,) = workers_of(process.pid)
        os.kill(worker, signal.SIGTERM)
        told = time.monotonic()
        wait_for(lambda: worker not in workers_of(process.pid), process, 12)
        assert time.monotonic() - told < 12
        kept = steps_in(folder)
        assert kept > before
        wait_for(lambda: (now := steps_in(folder)) and now > kept, process)  # a new worker goes on
        process.send_signal(signal.SIGTERM)
        told = time.time()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert "stopping: trials keep their steps so far" in out
    assert re.search(r"t0000: its worker was told to end; it goes on inside epoch [12]\n", out)
    assert (folder / MIDDLE).stat().st_mtime - told < 10
    reported, (epoch, step) = records.read_csv(study / "reports.csv"), steps_in(folder)
    assert len(reported) == epoch < 2 and (epoch, step) > kept

    with mmtune("resume", "preempted") as process:
        out, err = process.communicate(timeout=1500)
    assert process.returncode == 0, err
    assert not (folder / MIDDLE).exists()
    config = TrialConfig(**yaml.safe_load((folder / "config.yaml").read_text()))
    assert config.threads == 1
    torch.set_num_threads(1)
    straight = loop.train(config, folder=tmp_path / "straight", ranks=Ranks()).reports
    with (study / "reports.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(straight) == 2
    for row, ours in zip(rows, straight, strict=True):
        for name in row.keys() - TIMING:
            assert row[name] == records.cell(ours.get(name)), name


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_training_that_is_told_to_end_or_killed_goes_on_at_its_step_to_the_same_digits(workers, tmp_path):
    """Of two workers their driver alone has the signals."""
    (tmp_path / "c.yaml").write_text(f"{TRAINED}workers: {workers}\n")
    killed, whole = tmp_path / "killed", tmp_path / "whole"

    @contextlib.contextmanager
    def train(folder):
        command = [sys.executable, "-m", "mmtune.cli", "train", "c.yaml", "--out", folder.name]
        with subprocess.Popen(command, cwd=tmp_path, text=True, stdout=-1, stderr=-1) as process:
            try:
                yield process
            finally:
                process.kill()

    with train(killed) as process:
        before = wait_for(lambda: steps_in(killed), process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "stopped; the same command goes on in killed\n")
    told = steps_in(killed)
    assert told[0] == 0 and before < told and not (killed / "reports.csv").exists()
    if workers == 1:
        with train(killed) as process:
            wait_for(lambda: (now := steps_in(killed)) and now[0] == 1, process)
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=60)
        assert len(records.read_rows(killed / "reports.csv")) == 1
    with train(killed) as process:
        out, err = process.communicate(timeout=1500)
    assert process.returncode == 0 and "Traceback" not in err, err
    assert ("epoch 1/2" in out) == (workers > 1)  # reported before
    if workers > 1:
        with train(whole) as process:
            process.communicate(timeout=1500)
    else:
        torch.set_num_threads(1)
        train_single(load_config(tmp_path / "c.yaml"), folder=whole, say=str)
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in whole.iterdir())
    ends = [[{name: cell for name, cell in row.items() if name not in TIMING} for row in records.read_csv(path)]
            for path in (killed / "reports.csv", whole / "reports.csv")]  # fmt: skip
    assert ends[0] == ends[1] and len(ends[0]) == 2
    assert (killed / "test.json").read_bytes() == (whole / "test.json").read_bytes()
    one, other = (load_checkpoint(folder / BEST)[0] for folder in (killed, whole))
    assert one.keys() == other.keys() and all(tensor.equal(one[name]) for name, tensor in other.items())
