"""One configuration without a search: what it is trained for, and the digits of the trial that it comes from."""

import re

import pytest
import yaml

from mmtune import records
from mmtune.spec.configfile import load_config
from mmtune.study.single import of_its_task, train_single

CONFIG = "family: text\ndataset: openclipart\nepochs: 1\nmax_train_rows: 32\nmodel: {text_encoder: tiny-bert}\n"
STUDY = """\
study: s
family: text
dataset: openclipart
fixed:
  {epochs: 2, max_train_rows: 200, max_text_len: 8, micro_batch_size: 10, seed: 3, model.lock_text: false,
   model.text_encoder: tiny-bert}
space:
  optim.lr: {type: float, low: 1.0e-3, high: 1.0e-2, log: true}
  uda.mode: {type: categorical, choices: [dynamic]}
budget: {trials: 1}
"""


@pytest.mark.parametrize(
    "kind, values, objective",
    [
        ("regression", "1.5 2.5", "val_rmse"),
        ("multiclass", "a b", "val_accuracy"),
        ("multilabel", "a b", "val_ap_micro"),
    ],
)
def test_a_config_without_an_objective_follows_its_task(tmp_path, kind, values, objective):
    rows = [f"word{row},{values.split()[row % 2]},{('train', 'val')[row // 8]}" for row in range(16)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,y,part", *rows]) + "\n")
    label = {"column": "y", "kind": kind, **({"separator": " "} if kind == "multilabel" else {})}
    table = {"files": "rows.csv", "text": "text", "split": "part", "labels": {"y": label}}
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(table))
    (tmp_path / "c.yaml").write_text(CONFIG.replace("openclipart", "table"))
    config = load_config(tmp_path / "c.yaml", data_dir=tmp_path)
    assert of_its_task(config).objective == objective
    assert of_its_task(config).to_dict() == {**config.to_dict(), "objective": objective}
    (tmp_path / "c.yaml").write_text(CONFIG.replace("openclipart", "table") + "objective: val_loss\n")
    assert of_its_task(load_config(tmp_path / "c.yaml", data_dir=tmp_path)).objective == "val_loss"


def test_a_gpu_that_is_wanted_is_not_replaced_in_silence(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    (tmp_path / "c.yaml").write_text(CONFIG + "device: gpu\n")
    with pytest.raises(ValueError, match="device: gpu: worker 0 has no GPU here; write device: cpu"):
        train_single(load_config(tmp_path / "c.yaml"), folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("resources", ["{cpus_per_worker: 2}", "{workers: 2}"])
def test_the_exported_best_gives_the_digits_of_its_trial(mmtune, resources):
    """Threads and workers change the order of sums: the config says how many there were."""
    (mmtune.cwd / "s.yaml").write_text(f"{STUDY}resources: {resources}\n")
    assert mmtune("run", "s.yaml").code == 0
    assert mmtune("best", "studies/s", "--export", "best.yaml").code == 0
    done = mmtune("train", "best.yaml", "--out", "again")
    assert done.code == 0, done
    trial, again = (records.read_rows(mmtune.cwd / folder / "reports.csv") for folder in ("studies/s", "again"))
    assert len(trial) == len(again) == 2
    for one, other in zip(trial, again, strict=True):
        shared = one.keys() & other.keys()
        measured = {key for key in shared if re.search("second|memory", key)}
        assert {"train_loss", "val_loss", "val_accuracy", "uda_lambda"} <= shared - measured
        assert {key: (one[key], other[key]) for key in shared - measured if one[key] != other[key]} == {}


@pytest.mark.slow
def test_a_cluster_gives_the_same_digits_and_files(mmtune):
    """Two workers of a slot against two processes of this machine; refused where they have no room."""
    small = "{text_encoder: tiny-bert, lock_text: false}"
    config = CONFIG.replace("epochs: 1", "epochs: 2").replace("{text_encoder: tiny-bert}", small)
    (mmtune.cwd / "c.yaml").write_text(f"{config}workers: 2\nthreads: 1\n")
    for out, where in (("here", ()), ("cluster", ("--address", "local"))):
        done = mmtune("train", "c.yaml", "--out", out, *where)
        assert done.code == 0 and "ended (epochs); best epoch" in done.out, done
    files = [sorted(path.name for path in (mmtune.cwd / out).iterdir()) for out in ("here", "cluster")]
    assert files[0] == files[1] and "test.json" in files[0]
    for name in ("config.yaml", "test.json", "model.json"):
        assert (mmtune.cwd / "here" / name).read_bytes() == (mmtune.cwd / "cluster" / name).read_bytes()
    here, cluster = (records.read_rows(mmtune.cwd / out / "reports.csv") for out in ("here", "cluster"))
    assert len(here) == len(cluster) == 2
    for one, other in zip(here, cluster, strict=True):
        assert one.keys() == other.keys()
        exact = [key for key in one if not re.search("second|memory|inference", key)]
        assert {key: (one[key], other[key]) for key in exact if one[key] != other[key]} == {} and "val_loss" in exact
    assert "trained and tested before" in mmtune("train", "c.yaml", "--out", "cluster", "--address", "local").out
    (mmtune.cwd / "many.yaml").write_text(f"{config}workers: 999\nthreads: 1\n")
    said = mmtune.refused("train", "many.yaml", "--address", "local")
    assert said.startswith("workers: 999 workers with 1 CPU each cannot be placed; the cluster has ")
