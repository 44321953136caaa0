"""Figures that look at a study's models or data, of a study whose trials are models of the small table."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest
import yaml

from mmtune import records
from mmtune.models.figures import draw_of_model
from trainables.files import write_atomic
from trainables.trained import load_trained

pytestmark = pytest.mark.slow


@pytest.fixture
def study(tmp_path, model):
    """Trial 1, the best, reads text alone; trial 0 reads all; both came to their end."""
    folder = records.StudyFolder(tmp_path / "s")
    write_atomic(folder.spec, "study: s\nfamily: {type: categorical, choices: [text, fusion]}\ndataset: table\n")
    info = {"study": "s", "params": ["family"], "objectives": [{"metric": "val_accuracy", "mode": "max"}]}
    records.write_json(folder.info, info | {"max_epochs": 2, "sessions": []})
    rows = []
    for at, (name, family) in enumerate((("all", "fusion"), ("text", "text"))):
        shutil.copytree(model(name).folder, folder.trial(f"t{at:04d}"))
        config = load_trained(model(name).folder).config
        write_atomic(folder.trial(f"t{at:04d}") / "config.yaml", yaml.safe_dump(config.to_dict()))
        row = {"trial": f"t{at:04d}", "state": "COMPLETE", "epochs": 2, "best_epoch": 1, "family": family}
        rows.append(row | {"val_accuracy": 0.5 + at / 10, "device_seconds": 1.0, "error": None})
    write_atomic(folder.trials, records.csv_text(list(rows[0]), rows))
    return folder


def test_mistakes_of_the_best_model_and_no_retrieval_where_nothing_shares_a_space(study, tmp_path):
    said = draw_of_model("errors", [study.root], tmp_path / "errors.png")
    beside = study.trial("t0001") / "inspected" / "val"
    assert said[0] == f"of s/t0001; more in {beside}"
    assert (tmp_path / "errors.png").read_bytes() == (beside / "errors.png").read_bytes()
    with pytest.raises(ValueError, match="figure retrieval: nothing to draw\n.*alone\n.*fusion embeds no two"):
        draw_of_model("retrieval", [study.root], tmp_path / "retrieval.png")
    for trial in ("t0000", "t0001"):
        (study.trial(trial) / "best.safetensors").unlink()
    with pytest.raises(ValueError, match="no trial's weights were kept"):
        draw_of_model("errors", [study.root], tmp_path / "errors.png")


def test_rows_are_augmented_as_the_best_trial_with_uda_does(study, tmp_path):
    out = tmp_path / "augmented.svg"
    with pytest.raises(ValueError, match="no finished trial has UDA; `mmtune data preview` shows"):
        draw_of_model("augmented", [study.root], out)
    path = study.trial("t0000") / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["uda"] = {"mode": "dynamic", "views": "image"}
    path.write_text(yaml.safe_dump(config))
    assert draw_of_model("augmented", [study.root], out) == ["of s/t0000"]
    assert out.read_bytes().startswith(b"<?xml")


def test_both_ways_of_retrieval_are_a_table(study, tmp_path, monkeypatch):
    """The inspection itself is tested with its own models; here: which of its rows go where."""
    from mmtune.models import inspecting

    def inspect(ref, names, *, kind):
        (ref.folder / "inspected").mkdir()
        rows = {"query": ["text", "image"], "target": ["image", "text"], "recall_at_1": [0.25, 0.5]}
        pd.DataFrame(rows).to_csv(ref.folder / "inspected" / "retrieval.csv", index=False)
        return inspecting.Inspected(ref.folder / "inspected", 4, {"retrieval": ["said"]})

    monkeypatch.setattr(inspecting, "inspect_model", inspect)
    assert draw_of_model("retrieval", [study.root], tmp_path / "r.csv")[1:] == ["said"]
    assert pd.read_csv(tmp_path / "r.csv")["recall_at_1"].to_list() == [0.25, 0.5]
