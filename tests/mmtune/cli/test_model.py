"""``mmtune train`` as people use it."""

from __future__ import annotations

import json
import os
import re

import pytest
import yaml

from mmtune import records
from mmtune.records import StudyFolder
from mmtune.spec.configfile import load_config
from mmtune.study.lock import lock_owner, study_lock
from mmtune.study.single import train_single

CONFIG = """\
family: text
dataset: openclipart
epochs: 2
max_train_rows: 64
max_text_len: 8
model: {text_encoder: tiny-bert, lock_text: false}
"""


@pytest.mark.slow
def test_train(mmtune):
    (mmtune.cwd / "tiny.yaml").write_text(CONFIG)
    done = mmtune("train", "tiny.yaml")
    assert done.code == 0 and "Traceback" not in done.err, done
    assert [line.split(" ")[:2] for line in done.out.splitlines()[:2]] == [["epoch", "1/2"], ["epoch", "2/2"]]
    folder = mmtune.cwd / "trained" / "tiny"
    assert done.out.endswith("written: trained/tiny\n")
    before = mmtune.content("trained/tiny")
    assert set(before) == {
        *("config.yaml", "model.json", "tokenizer.json", "reports.csv", "best.safetensors", "last.safetensors"),
        *("predictions.parquet", "test.json"),
    }
    rows = records.read_rows(folder / "reports.csv")
    assert [row["epoch"] for row in rows] == [1, 2]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["epochs"], config["model"]["text_encoder"]) == (2, "tiny-bert")
    result = json.loads((folder / "test.json").read_text())
    assert f"test_accuracy {result['test_accuracy']:.4f}\n" in done.out

    again = mmtune("train", "tiny.yaml")
    assert again.code == 0 and "epoch" not in again.out and mmtune.content("trained/tiny") == before
    assert f"test_accuracy {result['test_accuracy']:.4f}\n" in again.out

    exported = mmtune("train", folder / "config.yaml", "--out", folder)  # the whole config, as `best` exports it
    assert exported.code == 0 and mmtune.content("trained/tiny") == before

    (mmtune.cwd / "other.yaml").write_text(CONFIG + "seed: 2\n")
    message = mmtune.refused("train", "other.yaml", "--out", folder)
    assert message == f"{folder}: holds another configuration; choose another --out"


@pytest.mark.slow
def test_a_folder_that_another_process_trains_in(mmtune):
    (mmtune.cwd / "tiny.yaml").write_text(CONFIG)
    folder, owners = StudyFolder(mmtune.cwd / "trained" / "tiny"), []
    folder.root.mkdir(parents=True)
    with study_lock(folder):
        message = mmtune.refused("train", "tiny.yaml")
    me = f"process {os.getpid()} on {os.uname().nodename}"
    assert message == f"trained/tiny: being written by {me}"
    config = load_config(mmtune.cwd / "tiny.yaml")
    train_single(config, folder=folder.root, say=lambda line: owners.append(lock_owner(folder)))
    assert set(owners) == {me} and lock_owner(folder) is None


@pytest.mark.slow
def test_training_that_diverges(mmtune):
    explosive = CONFIG.replace("lock_text: false", "lock_text: false, depth: 8")
    (mmtune.cwd / "c.yaml").write_text(explosive + "optim: {lr: 10.0, head_lr_mult: 1000.0, warmup_ratio: 0.0}\n")
    message = mmtune.refused("train", "c.yaml")
    assert re.match(r"training failed: .* became nan or infinite", message) and "\n" not in message


@pytest.mark.parametrize(
    "text, args, message",
    [
        (CONFIG, ["--data", "."], "dataset openclipart is embedded and reads no folder, but --data . was given"),
        (CONFIG, ["--out", "c.yaml"], "c.yaml: is no folder; choose another --out"),
        (CONFIG + "objective: val_rmse\n", [], "objective 'val_rmse' does not exist for a multiclass task."),
        (CONFIG.replace("tiny-bert", "./nowhere"), [], "encoder './nowhere': no such folder"),
    ],
)
def test_configs_that_cannot_be_trained(mmtune, text, args, message):
    (mmtune.cwd / "c.yaml").write_text(text)
    said = mmtune.refused("train", "c.yaml", *args)
    assert said.startswith(message) and "\n" not in said


def test_a_search_file_is_not_trained(mmtune, search):
    (mmtune.cwd / "c.yaml").write_text(search)
    message = "c.yaml is a search file, not the config of one trial; run it: mmtune run c.yaml"
    assert mmtune.refused("train", "c.yaml") == message
