"""What check, run, resume and status print, and what a mistake leaves behind (nothing)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mmtune.filling import file_meter
from mmtune.records import StudyFolder

CONFIG = "family: text\ndataset: openclipart\nepochs: 2\nmodel: {text_encoder: tiny-bert, lock_text: false}\n"


@contextmanager
def held(folder: StudyFolder) -> Iterator[int]:
    """Another live process writes the study; its process id."""
    code = (
        "import sys; from pathlib import Path; from mmtune.records import StudyFolder\n"
        "from mmtune.study.lock import study_lock\n"
        "with study_lock(StudyFolder(Path(sys.argv[1]))):\n    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder.root)], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid
        process.stdin.close()


@pytest.mark.slow
def test_check_prints_the_plan(mmtune, search):
    (mmtune.cwd / "s.yaml").write_text(search)
    before = mmtune.content()
    done = mmtune("check", "s.yaml", "--set", "budget.trials=7")
    assert done.code == 0 and done.err == "" and mmtune.content() == before
    assert done.out.startswith("s.yaml: fine\n")
    said = {line[2:20].strip(): line[21:] for line in done.out.splitlines()[1:]}
    about = re.fullmatch(r"7, about (\d+) epochs, 21 at most", said["trials"])
    assert about is not None and 7 <= int(about[1]) <= 21 and said["time"] == "not known; --probe measures it"
    cpus = len(os.sched_getaffinity(0))
    assert said["at the same time"] == f"{min(cpus, 7)}, of 1 worker each; {cpus} workers can be placed"
    assert said["searched"] == "optim.lr" and said["sampler, scheduler"] == "parzen, asha"
    assert re.fullmatch(
        r"about 0\.\d\d GiB beside its empty worker \(the dearest, worked out with its activations\)",
        said["memory of a trial"],
    )
    size = r"\d+\.\d MiB"
    assert re.fullmatch(f"about {size} while it runs, {size} when it is over \\(keep: best\\)", said["disk"])
    parameters, trainable = re.findall(r"[\d,]+\d", said["size of text"])
    assert parameters == trainable  # nothing is locked


@pytest.mark.slow
def test_check_goes_through_all_files(mmtune, search):
    (mmtune.cwd / "s.yaml").write_text(search)
    (mmtune.cwd / "bad.yaml").write_text(search.replace("space:", "spce:"))
    done = mmtune("check", "bad.yaml", "s.yaml", "nothing.yaml")
    assert done.code == 2 and "s.yaml: fine" in done.out
    assert "bad.yaml has 1 problem" in done.err and "'nothing.yaml' is neither" in done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "old, new, line",
    [
        ("study: s", "stdy: s", "  stdy (line 1): unknown key, did you mean 'study'?"),
        ("epochs: 3", "epochs: three", "  fixed.epochs (line 4): 'three' is not a number"),
        ("low: 1.0e-4", "low: 1e-4", "  space.optim.lr.low (line 6): '1e-4' is a string in YAML; write 1.0e-4"),
        ("dataset: open", "dataset: opne", "  dataset (line 3): 'opneclipart' is unknown, did you mean 'openclipart'?"),
    ],
)
def test_mistakes_in_a_file(mmtune, search, old, new, line):
    (mmtune.cwd / "s.yaml").write_text(search.replace(old, new))
    said = mmtune.refused("check", "s.yaml")
    first, *found = said.splitlines()
    assert first == "s.yaml has 1 problem:" and len(found) == 1
    assert found[0].startswith(line)
    assert mmtune.refused("run", "s.yaml") == said


@pytest.mark.slow
@pytest.mark.parametrize(
    "args, message",
    [
        (
            ["--set", "resources.workers=4096"],
            "1 concurrent trial of 4096 workers with 1 CPU each cannot be placed; the ",
        ),
        (["--set", "resources={concurrent_trials: 4096}"], "4096 concurrent trials of 1 worker with 1 CPU each cannot"),
        (["--set", "budget.trials"], "  budget.trials (--set budget.trials): write key=value, such as budget.trials=4"),
        (["--set", "budget.trials=["], "  budget.trials (--set budget.trials=[): while parsing a flow node"),
        (["--set", "fixed.epohcs=3"], "  fixed.epohcs (--set fixed.epohcs=3): unknown key, did you mean 'epochs'?"),
        (["--data", "nowhere"], "--data nowhere: no such folder"),
        (["--data", "."], "dataset openclipart is embedded and reads no folder, but --data . was given"),
    ],
)
def test_mistakes_on_the_command_line(mmtune, search, args, message):
    (mmtune.cwd / "s.yaml").write_text(search)
    said = mmtune.refused("check", "s.yaml", *args)
    assert message in said and mmtune.refused("run", "s.yaml", *args) == said


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["check", "run", "resume"])
def test_no_cluster_at_an_address(mmtune, search, write_study, verb):
    (mmtune.cwd / "s.yaml").write_text(search)
    write_study(mmtune.cwd)
    said = mmtune.refused(verb, "s" if verb == "resume" else "s.yaml", "--address", "127.0.0.1:1")
    assert said.startswith("no Ray cluster answers at '127.0.0.1:1': ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "address, message",
    [
        ("127.0.0.1:99999", "no Ray cluster answers at '127.0.0.1:99999': "),
        ("nonsense", "'nonsense' is no address of a Ray cluster; write host:port or auto"),
    ],
)
def test_what_is_no_address(mmtune, search, address, message):
    (mmtune.cwd / "s.yaml").write_text(search)
    assert mmtune.refused("check", "s.yaml", "--address", address).startswith(message)


@pytest.mark.parametrize("verb", ["check", "run"])
def test_unknown_search_file(mmtune, search, verb):
    message = mmtune.refused(verb, "demo/openclipat")
    assert "'demo/openclipat' is neither a file nor" in message and "did you mean 'demo/openclipart'?" in message


@pytest.mark.slow
def test_a_study_that_exists_is_not_run_again(mmtune, search, write_study):
    (mmtune.cwd / "s.yaml").write_text(search)
    folder = write_study(mmtune.cwd / "studies", "COMPLETE")
    message = mmtune.refused("run", "s.yaml")
    assert message.startswith("study 's' exists in ") and f"mmtune resume {folder.root}" in message
    (mmtune.cwd / "studies" / "t").mkdir()
    (mmtune.cwd / "studies" / "t" / "notes.txt").write_text("mine")
    assert "it is not a study" in mmtune.refused("run", "s.yaml", "--name", "t")
    assert "--name names one study" in mmtune.refused("run", "s.yaml", "s.yaml", "--name", "t")


def test_resume_auto_goes_on_with_what_is_there(mmtune, search, write_study):
    (mmtune.cwd / "s.yaml").write_text(search)
    folder = write_study(mmtune.cwd / "studies", "COMPLETE")
    with held(folder) as pid:
        done = mmtune("run", "s.yaml", "--resume", "auto")
    assert done.code == 2 and done.out == f"going on with {folder.root}, as it began\n", done
    assert f"{folder.root}: being written by process {pid}" in done.err
    assert mmtune.refused("run", "s.yaml", "--resume", "yes") == "--resume yes: auto or never"


def test_storage_that_can_be_no_folder(mmtune, search):
    (mmtune.cwd / "s.yaml").write_text(search)
    where = f": {mmtune.cwd / 's.yaml'} is no folder"
    assert mmtune.refused("run", "s.yaml", "--storage", "s.yaml") == "--storage s.yaml" + where
    assert mmtune.refused("run", "s.yaml", "--storage", "s.yaml/deep") == "--storage s.yaml/deep" + where


@pytest.mark.slow
def test_code_that_comes_with_an_encoder_is_refused_in_a_line(mmtune, search):
    """At once and without a question, on a terminal or not: nobody is asked who could say yes."""
    folder = mmtune.cwd / "own"
    folder.mkdir()
    (folder / "own.py").write_text(f"open({str(mmtune.cwd / 'ran')!r}, 'w')\n")
    config = {"model_type": "align_text_model", "auto_map": {"AutoModel": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    (mmtune.cwd / "s.yaml").write_text(search.replace("tiny-bert", str(folder)))
    for verb in ("check", "run"):
        said = mmtune.refused(verb, "s.yaml")
        assert str(folder) in said and "contains custom code" in said and "\n" not in said


@pytest.mark.parametrize(
    "args, what",
    [
        (("run", "s.yaml", "--storage", ""), "--storage"),
        (("run", "s.yaml", "--storage= "), "--storage"),
        (("check", "s.yaml", "--data", ""), "--data"),
        (("train", "s.yaml", "--out", ""), "--out"),
        (("best", "s", "--export", ""), "--export"),
        (("run", ""), "an argument"),
        (("status", " "), "an argument"),
    ],
)
def test_empty_arguments_are_no_working_folder(mmtune, search, args, what):
    (mmtune.cwd / "s.yaml").write_text(search)
    assert mmtune.refused(*args).replace(":", "") == f"{what} is empty"


@pytest.mark.slow
def test_a_url_makes_no_folder(mmtune):
    said = mmtune.refused("run", "smoke/text", "--storage", "ftp://host/x")
    assert said == "ftp://host/x: ftp:// is not supported; s3://, gs://, az:// or hdfs://, or a folder"
    said = mmtune.refused("run", "smoke/text", "--storage", "hdfs://127.0.0.1:1/x")
    assert said == "hdfs://127.0.0.1:1/x: no WebHDFS answers at 127.0.0.1:1: Connection refused"
    for args in (("train", "x.yaml", "--out=s3://b/x"), ("best", "x", "--export", "gs://b/x.yaml")):
        assert mmtune.refused(*args).endswith(": is a URL; give a path on this machine")


@pytest.mark.slow
def test_a_name_that_no_folder_can_have(mmtune, search):
    (mmtune.cwd / "s.yaml").write_text(search)
    for verb, args in (("check", ("--set", f"study={'a' * 300}")), ("run", ("--name", "a" * 101))):
        assert "at most 100" in mmtune.refused(verb, "s.yaml", *args)


@pytest.mark.parametrize("verb", ["resume", "status"])
def test_folders_that_are_no_studies(mmtune, verb):
    (mmtune.cwd / "photos").mkdir()
    assert mmtune.refused(verb, "photos") == "photos: not a study folder (no study.json and spec.yaml in it)"
    assert mmtune.refused(verb, "nowhere") == "nowhere: no such study folder"


@pytest.mark.slow
def test_a_study_of_a_live_process(mmtune, write_study):
    folder = write_study(mmtune.cwd / "studies", "COMPLETE", "RUNNING")
    with held(folder) as pid:
        owner = f"process {pid} on {os.uname().nodename}"
        done = mmtune("status", "s")
        assert done.code == 0 and done.out.startswith(f"s: running ({owner})\n") and "go on with" not in done.out
        assert mmtune.refused("resume", "s") == f"{folder.root}: being written by {owner}"
    done = mmtune("status", folder.root)
    assert done.out.startswith("s: not running\n")
    assert "\n  trials       running 1, complete 1, of 5\n  epochs       4\n" in done.out
    assert done.out.endswith(f"go on with: mmtune resume {folder.root}\n")


def test_a_study_without_trials(mmtune, write_study):
    write_study(mmtune.cwd)
    done = mmtune("status", "s")
    assert done.code == 0 and "\n  trials       none yet, of 5\n  epochs       0\n" in done.out


def test_a_config_is_not_run_as_a_search(mmtune):
    (mmtune.cwd / "c.yaml").write_text(CONFIG)
    message = "c.yaml is the config of one trial, not a search file; train it: mmtune train c.yaml"
    assert mmtune.refused("run", "c.yaml") == mmtune.refused("check", "c.yaml") == message


def test_a_table_that_is_cut_says_so(mmtune, write_study):
    folder = write_study(mmtune.cwd / "studies", *["COMPLETE"] * 12)
    done = mmtune("status", "s")
    assert done.code == 0 and f"10 of 12 trials shown; all: {folder.trials}" in done.out
    assert sum(" COMPLETE " in line for line in done.out.splitlines()) == 10
    write_study(mmtune.cwd / "studies", *["COMPLETE"] * 10, name="t")
    assert "shown" not in mmtune("status", "t").out


@pytest.mark.slow
def test_status_shows_what_another_process_fills(mmtune, write_study):
    folder = write_study(mmtune.cwd / "studies", "RUNNING")
    meter = file_meter(folder.filling / "slot-0-0.json")
    meter("images", 5, 3000)
    assert "filling" not in mmtune("status", "s").out  # nobody runs it
    with held(folder):
        assert "  filling      images: 5 of 3,000 rows\n" in mmtune("status", "s").out
        meter("images", 3000, 3000)
        meter("tokens", 1, 1)
        assert "filling" not in mmtune("status", "s").out
