"""The command as people use it: what it prints, its exit code, and what a mistake leaves behind (nothing)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from mmtune import records
from mmtune.records import StudyFolder

SEARCH = """\
study: s
family: text
dataset: openclipart
fixed: {epochs: 3, model.text_encoder: tiny-bert, model.lock_text: false}
space:
  optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
budget: {trials: 5}
"""
CONFIG = """\
family: text
dataset: openclipart
epochs: 2
max_train_rows: 64
max_text_len: 8
model: {text_encoder: tiny-bert, lock_text: false}
"""
VERBS = ("check", "run", "resume", "status", "best", "pareto", "report", "train", "list")


def content(root: Path) -> dict[str, str]:
    """Each path below ``root`` with a hash of what it holds; a lock file only names who had it last."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(root.rglob("*"))
        if path.name != ".lock"
    }


def refused(mmtune, *args: object) -> str:
    """The message of a call that must fail and change nothing."""
    before = content(mmtune.cwd)
    done = mmtune(*args)
    assert done.code == 2, done
    assert content(mmtune.cwd) == before
    assert done.out == "" and "Traceback" not in done.err
    assert done.err.count("mmtune: ") >= 1 and done.err.startswith("mmtune: ")
    return done.err.removeprefix("mmtune: ").rstrip("\n")


def write_study(root: Path, *states: str, name: str = "s") -> StudyFolder:
    """A study folder with a trial in each of ``states``."""
    folder = StudyFolder(root / name)
    records.write_atomic(folder.spec, SEARCH)
    info = {"study": "s", "params": ["optim.lr"], "objectives": [{"metric": "val_accuracy", "mode": "max"}]}
    info |= {"max_epochs": 3, "budget": {"trials": 5}, "data_dir": None, "sessions": []}
    records.write_json(folder.info, info)
    rows = [
        {"trial": f"t{i:04d}", "state": state, "epochs": 2, "best_epoch": 1, "optim.lr": 0.001, "val_accuracy": 0.5,
         "wall_seconds": 1.0, "device_seconds": 3.0, "error": None}
        for i, state in enumerate(states)
    ]  # fmt: skip
    if rows:
        records.write_atomic(folder.trials, records.csv_text(list(rows[0]), rows))
    return folder


@contextmanager
def held(folder: StudyFolder) -> Iterator[int]:
    """Another live process writes the study; its process id."""
    code = (
        "import sys; from pathlib import Path; from mmtune.records import StudyFolder, study_lock\n"
        "with study_lock(StudyFolder(Path(sys.argv[1]))):\n    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder.root)], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid
        process.stdin.close()


# --- help ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("verb", [None, *VERBS])
def test_help_ends_in_an_example(mmtune, verb):
    done = mmtune(*([verb] if verb else []), "--help")
    assert done.code == 0 and done.err == ""
    assert re.match(rf"  Example: mmtune {verb or 'run'} \S", done.out.rstrip().splitlines()[-1])
    assert verb is not None or all(f"\n  {name} " in done.out and "..." in done.out for name in VERBS)


@pytest.mark.parametrize("code", ["import mmtune", "import mmtune.cli.app", "from mmtune.cli import main; main()"])
def test_nothing_heavy_is_imported_before_it_is_needed(code):
    heavy = "ray", "torch", "pandas", "optuna", "numpy", "transformers", "pydantic", "yaml"
    probe = f"import sys, atexit; atexit.register(lambda: print([m for m in {heavy} if m in sys.modules]))\n{code}"
    done = subprocess.run([sys.executable, "-c", probe, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_it_is_a_command(tmp_path):
    done = subprocess.run([sys.executable, "-m", "mmtune.cli", "list", "metrics"], capture_output=True, text=True)
    assert done.returncode == 0 and "val_ap_micro" in done.stdout and "device_seconds" in done.stdout


# --- check and run ------------------------------------------------------------------------------------
def test_check_prints_the_plan(mmtune):
    (mmtune.cwd / "s.yaml").write_text(SEARCH)
    before = content(mmtune.cwd)
    done = mmtune("check", "s.yaml", "--set", "budget.trials=7")
    assert done.code == 0 and done.err == "" and content(mmtune.cwd) == before
    assert done.out.startswith("s.yaml: fine\n")
    said = {line[2:20].strip(): line[21:] for line in done.out.splitlines()[1:]}
    assert said["trials"] == "7, 21 epochs at most"
    cpus = len(os.sched_getaffinity(0))
    assert said["at the same time"] == f"{min(cpus, 7)}, of 1 worker each; {cpus} workers can be placed"
    assert said["searched"] == "optim.lr" and said["sampler, scheduler"] == "tpe, asha"
    assert re.fullmatch(r"about 1\.\d GiB without activations", said["memory a worker"])
    assert re.fullmatch(r"about 0\.\d\d GiB of checkpoints", said["disk"])
    parameters, trainable = re.findall(r"[\d,]+\d", said["size of text"])
    assert parameters == trainable  # nothing is locked


def test_check_goes_through_all_files(mmtune):
    (mmtune.cwd / "s.yaml").write_text(SEARCH)
    (mmtune.cwd / "bad.yaml").write_text(SEARCH.replace("space:", "spce:"))
    done = mmtune("check", "bad.yaml", "s.yaml", "nothing.yaml")
    assert done.code == 2 and "s.yaml: fine" in done.out
    assert "bad.yaml has 1 problem" in done.err and "'nothing.yaml' is neither" in done.err


@pytest.mark.parametrize(
    "old, new, line",
    [
        ("study: s", "stdy: s", "  stdy (line 1): unknown key, did you mean 'study'?"),
        ("epochs: 3", "epochs: three", "  fixed.epochs (line 4): 'three' is not a number"),
        ("low: 1.0e-4", "low: 1e-4", "  space.optim.lr.low (line 6): '1e-4' is a string in YAML; write 1.0e-4"),
        ("dataset: open", "dataset: opne", "  dataset (line 3): 'opneclipart' is unknown, did you mean 'openclipart'?"),
    ],
)
@pytest.mark.parametrize("verb", ["check", "run"])
def test_mistakes_in_a_file(mmtune, verb, old, new, line):
    (mmtune.cwd / "s.yaml").write_text(SEARCH.replace(old, new))
    first, *found = refused(mmtune, verb, "s.yaml").splitlines()
    assert first == "s.yaml has 1 problem:" and len(found) == 1
    assert found[0].startswith(line)


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
@pytest.mark.parametrize("verb", ["check", "run"])
def test_mistakes_on_the_command_line(mmtune, verb, args, message):
    (mmtune.cwd / "s.yaml").write_text(SEARCH)
    assert message in refused(mmtune, verb, "s.yaml", *args)


@pytest.mark.parametrize(
    "address, message",
    [
        ("127.0.0.1:1", "no Ray cluster answers at '127.0.0.1:1': "),
        ("127.0.0.1:99999", "no Ray cluster answers at '127.0.0.1:99999': "),
        ("nonsense", "'nonsense' is no address of a Ray cluster; write host:port or auto"),
    ],
)
@pytest.mark.parametrize("verb", ["check", "run", "resume"])
def test_no_cluster_at_an_address(mmtune, verb, address, message):
    (mmtune.cwd / "s.yaml").write_text(SEARCH)
    write_study(mmtune.cwd)
    assert refused(mmtune, verb, "s" if verb == "resume" else "s.yaml", "--address", address).startswith(message)


@pytest.mark.parametrize("verb", ["check", "run"])
def test_unknown_search_file(mmtune, verb):
    message = refused(mmtune, verb, "demo/openclipat")
    assert "'demo/openclipat' is neither a file nor" in message and "did you mean 'demo/openclipart'?" in message


def test_a_study_that_exists_is_not_run_again(mmtune):
    (mmtune.cwd / "s.yaml").write_text(SEARCH)
    folder = write_study(mmtune.cwd / "studies", "COMPLETE")
    message = refused(mmtune, "run", "s.yaml")
    assert message.startswith("study 's' exists in ") and f"mmtune resume {folder.root}" in message
    (mmtune.cwd / "studies" / "t").mkdir()
    (mmtune.cwd / "studies" / "t" / "notes.txt").write_text("mine")
    assert "it is not a study" in refused(mmtune, "run", "s.yaml", "--name", "t")
    assert "--name names one study" in refused(mmtune, "run", "s.yaml", "s.yaml", "--name", "t")
    assert refused(mmtune, "run", "s.yaml", "--storage", "s.yaml").endswith(": Not a directory")


# --- studies ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("verb", ["resume", "status", "best", "pareto", "report"])
def test_folders_that_are_no_studies(mmtune, verb):
    (mmtune.cwd / "photos").mkdir()
    assert refused(mmtune, verb, "photos") == "photos: not a study folder (no study.json and spec.yaml in it)"
    assert refused(mmtune, verb, "nowhere") == "nowhere: no such study folder"


def test_a_study_of_a_live_process(mmtune):
    folder = write_study(mmtune.cwd / "studies", "COMPLETE", "RUNNING")
    with held(folder) as pid:
        owner = f"process {pid} on {os.uname().nodename}"
        done = mmtune("status", "s")
        assert done.code == 0 and done.out.startswith(f"s: running ({owner})\n") and "go on with" not in done.out
        assert refused(mmtune, "resume", "s") == f"{folder.root}: being written by {owner}"
    done = mmtune("status", folder.root)
    assert done.out.startswith("s: not running\n")
    assert "\n  trials       running 1, complete 1, of 5\n  epochs       4\n" in done.out
    assert done.out.endswith(f"go on with: mmtune resume {folder.root}\n")


def test_a_study_without_finished_trials(mmtune):
    write_study(mmtune.cwd, "RUNNING", "FAILED")
    assert refused(mmtune, "best", "s") == "s: no finished trial with a finite val_accuracy yet (1 RUNNING, 1 FAILED)"
    empty = write_study(mmtune.cwd, name="empty")
    assert refused(mmtune, "best", "empty", "--export", "best.yaml") == f"{empty.root}: no trial yet"
    done = mmtune("status", "empty")
    assert done.code == 0 and "\n  trials       none yet, of 5\n  epochs       0\n" in done.out


@pytest.mark.parametrize("verb", ["pareto", "report"])
@pytest.mark.parametrize("option", ["--cost", "--metric"])
def test_unknown_metrics_and_costs(mmtune, verb, option):
    write_study(mmtune.cwd, "COMPLETE", "PRUNED")
    message = refused(mmtune, verb, "s", option, "device_secnds")
    assert message.startswith("'device_secnds' is unknown, did you mean 'device_seconds'?")
    assert "val_ap_micro" in message and "num_parameters" in message


# --- list ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "what, names",
    [
        ("families", ["text", "image", "fusion", "lit_tirg"]),
        ("datasets", ["openclipart"]),
        ("spaces", ["demo/openclipart", "smoke/fusion"]),
        ("samplers", ["tpe", "random", "qmc", "nsga2", "gp", "brute_force"]),
        ("schedulers", ["asha", "none"]),
        ("metrics", [*records.METRICS, *records.COSTS]),
    ],
)
def test_list(mmtune, what, names):
    done = mmtune("list", what)
    rows = [re.split(r"\s{2,}", line.strip()) for line in done.out.splitlines()[1:]]
    assert done.code == 0 and {row[0] for row in rows} >= {*names}
    assert all(row[-1] for row in rows)


def test_list_of_what_there_is_not(mmtune):
    message = refused(mmtune, "list", "familes")
    assert message.startswith("'familes' is unknown, did you mean 'families'? Known: families, datasets, spaces, ")


# --- train --------------------------------------------------------------------------------------------
def test_train(mmtune):
    (mmtune.cwd / "tiny.yaml").write_text(CONFIG)
    done = mmtune("train", "tiny.yaml")
    assert done.code == 0 and "Traceback" not in done.err, done
    assert [line.split(" ")[:2] for line in done.out.splitlines()[:2]] == [["epoch", "1/2"], ["epoch", "2/2"]]
    folder = mmtune.cwd / "trained" / "tiny"
    assert done.out.endswith("written: trained/tiny\n")
    before = content(folder)
    assert set(before) == {
        *("config.yaml", "reports.csv", "best.safetensors", "last.safetensors", "predictions.parquet", "test.json")
    }
    rows = records.read_rows(folder / "reports.csv")
    assert [row["epoch"] for row in rows] == [1, 2]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["epochs"], config["model"]["text_encoder"]) == (2, "tiny-bert")
    result = json.loads((folder / "test.json").read_text())
    assert f"test_accuracy {result['test_accuracy']:.4f}\n" in done.out

    again = mmtune("train", "tiny.yaml")
    assert again.code == 0 and "epoch" not in again.out and content(folder) == before
    assert f"test_accuracy {result['test_accuracy']:.4f}\n" in again.out

    exported = mmtune("train", folder / "config.yaml", "--out", folder)  # the whole config, as `best` exports it
    assert exported.code == 0 and content(folder) == before

    (mmtune.cwd / "other.yaml").write_text(CONFIG + "seed: 2\n")
    message = refused(mmtune, "train", "other.yaml", "--out", folder)
    assert message == f"{folder}: holds another configuration; choose another --out"


def test_training_that_diverges(mmtune):
    explosive = CONFIG.replace("lock_text: false", "lock_text: false, depth: 8")
    (mmtune.cwd / "c.yaml").write_text(explosive + "optim: {lr: 10.0, head_lr_mult: 1000.0, warmup_ratio: 0.0}\n")
    message = refused(mmtune, "train", "c.yaml")
    assert re.match(r"training failed: .* became nan or infinite", message) and "\n" not in message


@pytest.mark.parametrize(
    "text, args, message",
    [
        (CONFIG, ["--data", "."], "dataset openclipart is embedded and reads no folder, but --data . was given"),
        (CONFIG, ["--out", "c.yaml"], "c.yaml: is no folder; choose another --out"),
        (CONFIG + "objective: val_rmse\n", [], "objective 'val_rmse' does not exist for a multiclass task."),
        (CONFIG.replace("tiny-bert", "./nowhere"), [], "encoder './nowhere': no such folder"),
        (SEARCH, [], "c.yaml is a search file, not the config of one trial; run it: mmtune run c.yaml"),
    ],
)
def test_configs_that_cannot_be_trained(mmtune, text, args, message):
    (mmtune.cwd / "c.yaml").write_text(text)
    said = refused(mmtune, "train", "c.yaml", *args)
    assert said.startswith(message) and "\n" not in said


def test_a_config_is_not_run_as_a_search(mmtune):
    (mmtune.cwd / "c.yaml").write_text(CONFIG)
    message = "c.yaml is the config of one trial, not a search file; train it: mmtune train c.yaml"
    assert refused(mmtune, "run", "c.yaml") == refused(mmtune, "check", "c.yaml") == message
