"""mmtune.run, resume and open: the command line's own messages as exceptions, silence, and studies that survive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import mmtune
from mmtune import records
from mmtune.spec.search_spec import load_spec
from mmtune.study.create import create_study

SEARCH = {
    "study": "s",
    "family": "text",
    "dataset": "openclipart",
    "fixed": {
        "epochs": 8, "batch_size": 32, "max_train_rows": 128, "max_text_len": 16, "model.text_encoder": "tiny-bert",
        "model.lock_text": False,
    },
    "space": {"optim.lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}},
    "scheduler": {"name": "none"},
    "budget": {"trials": 2},
    "resources": {"concurrent_trials": 1},
}  # fmt: skip
DIVERGES = {
    "optim.lr": 10.0, "optim.schedule": "constant", "optim.warmup_ratio": 0.0, "optim.weight_decay": 1.0,
    "optim.grad_clip": None, "optim.head_lr_mult": 1000.0,
}  # fmt: skip


@pytest.mark.parametrize(
    "search, options, message",
    [
        (
            {**SEARCH, "dataset": "opneclipart"},
            {},
            "the dict has 1 problem:\n  dataset: 'opneclipart' is unknown, did you",
        ),
        (
            SEARCH,
            {"overrides": {"budget.trails": 3}},
            "budget.trails (--set budget.trails=3): unknown key, did you mean",
        ),
        (
            SEARCH,
            {"overrides": {"fixed.epochs": object()}},
            "--set fixed.epochs: is a object, which no search file can",
        ),
        (SEARCH, {"name": "A study"}, "'A study' does not fit"),
        (SEARCH, {"data": "nowhere"}, "--data nowhere: no such folder"),
        (SEARCH, {"data": "."}, "dataset openclipart is embedded and reads no folder"),
        (SEARCH, {"storage": "s.yaml"}, "--storage s.yaml: "),
        (SEARCH, {"address": "127.0.0.1:1"}, "no Ray cluster answers at '127.0.0.1:1'"),
        (
            SEARCH,
            {"overrides": {"resources.workers": 4096}},
            "1 concurrent trial of 4096 workers with 1 CPU each cannot",
        ),
        (
            "demo/openclipat",
            {},
            "'demo/openclipat' is neither a file nor a search file that comes with mmtune, did you",
        ),
        (Path("nothing.yaml"), {}, "'nothing.yaml' is neither a file nor"),
        ("s.yaml", {}, "s.yaml has 1 problem:\n  stdy (line 1): unknown key, did you mean 'study'?"),
        ("study: s\nfamily: txt\ndataset: emoji\nbudget: {trials: 1}\n", {}, "  family (line 2): 'txt' is unknown"),
    ],
)
def test_what_is_wrong_is_a_value_error_and_makes_nothing(search, options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text("stdy: s\nfamily: text\ndataset: openclipart\nbudget: {trials: 1}\n")
    with pytest.raises(ValueError) as caught:
        mmtune.run(search, **options)
    assert message in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]
    assert capsys.readouterr() == ("", "")
    if " problem" in message:
        assert isinstance(caught.value, mmtune.SpecError) and caught.value.problems


def test_what_cannot_be_resumed_or_run_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = create_study(load_spec(SEARCH), storage="studies")
    with pytest.raises(ValueError, match="study 's' exists in "):
        mmtune.run(SEARCH)
    with pytest.raises(ValueError, match="--set fixed.epochs=9: the study's trials would not be those of one search"):
        mmtune.resume("s", overrides={"fixed.epochs": 9})
    with pytest.raises(ValueError, match="nowhere: no such study folder"):
        mmtune.resume("nowhere")
    assert mmtune.open("s") == mmtune.open(folder.root)


def start(cwd: Path, code: str) -> subprocess.Popen[str]:
    """A clean process that runs ``code`` with the search as ``search``."""
    code = f"import json, mmtune\nsearch = json.loads({json.dumps(json.dumps(SEARCH))})\n{textwrap.dedent(code)}"
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, cwd=cwd, stdout=-1, stderr=-1, text=True, start_new_session=True)


def wait_for_reports(path: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 1200
    while len(records.read_csv(path)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_interrupted_killed_and_resumed_in_silence(tmp_path):
    """Three processes: Ctrl-C in the first, SIGKILL in the second; the third finishes, then a study that fails."""
    folder = records.StudyFolder(tmp_path / "studies" / "s")
    first = start(tmp_path, "mmtune.run(search)")
    wait_for_reports(folder.reports, 2, first)
    os.kill(first.pid, signal.SIGINT)
    out, err = first.communicate(timeout=300)
    assert first.returncode == -signal.SIGINT and out == ""
    assert err.endswith(f"KeyboardInterrupt: study s was stopped; go on with it: mmtune.resume('{folder.root}')\n")
    before = folder.reports.read_bytes()
    num = len(records.read_csv(folder.reports))
    assert 2 <= num < 16

    second = start(tmp_path, "mmtune.resume('s')")
    wait_for_reports(folder.reports, num + 2, second)
    os.kill(second.pid, signal.SIGKILL)
    second.communicate()
    assert folder.reports.read_bytes().startswith(before)
    assert not mmtune.open(folder.root).is_finished

    third = start(
        tmp_path,
        f"""
        study = mmtune.resume("s")
        assert study.is_finished and study == mmtune.open("s"), study
        try:
            mmtune.run(search, name="bad", overrides={{"space": {{}}, "budget.trials": 1,
                       **{{f"fixed.{{key}}": value for key, value in {DIVERGES!r}.items()}}}})
        except mmtune.StudyError as error:
            assert "no trial succeeded, 1 failed" in str(error), error
            assert error.study.trials["state"].to_list() == ["FAILED"]
        else:
            raise AssertionError
        """,
    )
    out, err = third.communicate(timeout=1500)
    assert (third.returncode, out, err) == (0, "", "")
    reports = mmtune.open(folder.root).reports
    assert reports.groupby("trial")["epoch"].agg(list).to_dict() == {f"t000{at}": [*range(1, 9)] for at in range(2)}
    assert reports["is_current"].to_list() == [True] * 16
