"""What cannot work never starts: `check` and `run` say the same, end with 2 and create nothing."""

import io

import numpy as np
import pytest
import yaml
from PIL import Image

from mmtune.records import read_json
from mmtune.spec.search_spec import load_spec
from mmtune.study.checks import fit_to_data

TEXT = (
    "study: s\nfamily: text\ndataset: {}\nfixed: {{epochs: 2, model.text_encoder: tiny-bert}}\nbudget: {{trials: 2}}\n"
)


def picture(shade):
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(out, "PNG")
    return out.getvalue()


def write_table(folder, *, label="multiclass", splits=("train", "val"), pictures=False):
    """Twelve rows of text and a label, and a picture where asked."""
    folder.mkdir()
    value = {"multiclass": ["a", "b"], "multilabel": ["a b", "b"], "regression": ["1.5", "2.5"]}[label]
    lines = ["text,y,part" + ",file" * pictures]
    for row in range(12):
        lines.append(f"word{row},{value[row % 2]},{splits[row % len(splits)]}" + f",{row}.png" * pictures)
        if pictures:
            (folder / f"{row}.png").write_bytes(picture(20 * row))
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    separator = {"separator": " "} if label == "multilabel" else {}
    table = {"files": "rows.csv", "text": "text", "split": "part"}
    table |= {"labels": {"y": {"column": "y", "kind": label, **separator}}}
    table |= {"image": "file"} if pictures else {}
    (folder / "table.yaml").write_text(yaml.safe_dump(table))


def refused(mmtune, *args):
    said = mmtune.refused("check", "s.yaml", *args)
    assert mmtune.refused("run", "s.yaml", *args) == said
    return said


@pytest.mark.parametrize(
    "label, metric, mode",
    [("multiclass", "val_accuracy", "max"), ("multilabel", "val_ap_micro", "max"), ("regression", "val_rmse", "min")],
)
def test_the_objective_follows_the_task(tmp_path, label, metric, mode):
    write_table(tmp_path / "data", label=label)
    spec = fit_to_data(load_spec(TEXT.format("table")), str(tmp_path / "data"))
    assert [(item.metric, item.mode) for item in spec.objectives] == [(metric, mode)]
    assert spec.trial_config({}, tmp_path / "data").objective == metric
    own = load_spec(TEXT.format("table"), overrides=["objectives=[{metric: val_loss}]"])
    assert [item.metric for item in fit_to_data(own, str(tmp_path / "data")).objectives] == ["val_loss"]


def test_the_positive_class_is_one_of_two(tmp_path):
    write_table(tmp_path / "data")
    own = ["objectives=[{metric: val_f1}]", "fixed.positive_class=a"]
    spec = fit_to_data(load_spec(TEXT.format("table"), overrides=own), str(tmp_path / "data"))
    assert spec.trial_config({}, tmp_path / "data").positive_class == "a"
    with pytest.raises(ValueError, match="positive_class: 'c' is unknown. Known: a, b"):
        wrong = load_spec(TEXT.format("table"), overrides=["fixed.positive_class=c"])
        fit_to_data(wrong, str(tmp_path / "data"))
    with pytest.raises(ValueError, match="'val_f1' does not exist for a multiclass task"):
        fit_to_data(load_spec(TEXT.format("openclipart"), overrides=own[:1]), None)


@pytest.mark.slow
def test_an_objective_that_the_target_does_not_have(mmtune):
    (mmtune.cwd / "s.yaml").write_text(TEXT.format("openclipart"))
    said = refused(mmtune, "--set", "fixed.target=tags", "--set", "objectives=[{metric: val_accuracy}]")
    assert said.startswith(
        "objectives: 'val_accuracy' does not exist for a multilabel task, which dataset openclipart, target tags, is. "
        "Known: val_ap_micro, "
    )
    assert "\n" not in said
    said = mmtune("check", "s.yaml", "--set", "fixed.target=tags").out
    assert "  objective          val_ap_micro (max)\n" in said


@pytest.mark.parametrize(
    "options, message",
    [
        (["fixed.loss.class_weight=true", "fixed.target=tags"], "loss.class_weight: belongs to multiclass tasks"),
        (["fixed.uda.mode=fixed", "fixed.uda.views=image"], "uda.views: 'image' augments no input of family 'text'"),
        (["fixed.uda.mode=fixed", "fixed.uda.vectors=w.txt"], "uda.vectors: w.txt is no file"),
        (["fixed.precision=fp16"], "precision: fp16 needs a GPU"),
        (["fixed.max_train_rows=1", "resources={workers: 2, cpus_per_worker: 0.5}"], "2 workers cannot share"),
        (["fixed.target=tgas"], "target 'tgas' is unknown for dataset openclipart. Known: label, tags"),
    ],
)
def test_settings_that_do_not_fit(options, message):
    spec = load_spec(TEXT.format("openclipart"), overrides=options)
    with pytest.raises(ValueError, match=message):
        fit_to_data(spec, None)


def test_a_split_without_labels(tmp_path):
    write_table(tmp_path / "data")
    rows = (tmp_path / "data" / "rows.csv").read_text().replace(",a,val", ",,val").replace(",b,val", ",,val")
    (tmp_path / "data" / "rows.csv").write_text(rows.replace("word2,a", "word2,b"))
    with pytest.raises(ValueError, match="no row with a label in split val .rows with one: train 6, val 0, test 0."):
        fit_to_data(load_spec(TEXT.format("table")), str(tmp_path / "data"))


@pytest.mark.slow
def test_a_picture_that_cannot_be_decoded(mmtune):
    data = mmtune.cwd / "data"
    write_table(data, pictures=True)
    text = "study: s\nfamily: image\ndataset: table\nbudget: {trials: 2}\n"
    text += "fixed: {epochs: 2, image_size: 8, model.image_encoder: tiny-cnn}\n"
    (mmtune.cwd / "s.yaml").write_text(text)
    (data / "7.png").write_bytes(picture(1)[:40])
    said = refused(mmtune, "--data", "data")
    assert "rows.csv-9" in said and "cannot be decoded" in said and "exclude.txt" in said and "\n" not in said
    (data / "7.png").write_bytes(picture(1))
    assert mmtune("check", "s.yaml", "--data", "data").code == 0


@pytest.mark.slow
def test_failures_stop_a_study_and_resume_tries_again(mmtune):
    """A file of word vectors that is malformed: no check reads it whole."""
    text = TEXT.format("openclipart").replace("trials: 2", "trials: 4")
    (mmtune.cwd / "s.yaml").write_text(text + "resources: {concurrent_trials: 1}\n")
    (mmtune.cwd / "w.txt").write_text("2 2\nred 1 0\nblue 1\n")
    sets = ["max_train_rows=64", "epochs=1", "uda.mode=fixed", "uda.vectors=" + str(mmtune.cwd / "w.txt")]
    done = mmtune("run", "s.yaml", *(f"--set=fixed.{item}" for item in sets))
    assert done.code == 1 and "3 trials in a row failed with the same error: ValueError: " in done.err
    assert done.err.count("w.txt") == 1 and "not finished. Go on with: mmtune resume" in done.out
    done = mmtune("status", "s")
    assert "failed 3, of 4" in done.out and "stopped: 3 trials in a row" in done.out and "s: not running" in done.out
    (mmtune.cwd / "w.txt").write_text("2 2\nred 1 0\nblue 1 1\n")
    done = mmtune("resume", "s")
    assert done.code == 0 and "finished. Report" in done.out, done.err
    done = mmtune("status", "s")
    assert done.out.startswith("s: finished") and "complete 4, failed 3, of 4" in done.out
    info = read_json(mmtune.cwd / "studies" / "s" / "study.json")
    assert info["retried"] == ["t0000", "t0001", "t0002"]


@pytest.mark.parametrize("more", ["confirm: {seeds: 2}\n", "finalists: {a: {}, b: {optim.lr: 0.01}}\nseeds: [2, 3]\n"])
def test_finalists_need_rows_to_be_tested_on(tmp_path, more):
    """Said before the search, not after it."""
    write_table(tmp_path / "two")
    spec = load_spec(TEXT.format("table") + more)
    with pytest.raises(ValueError, match="table: no labelled rows in split test, on which finalists are tested"):
        fit_to_data(spec, str(tmp_path / "two"))
    write_table(tmp_path / "three", splits=("train", "val", "test"))
    assert fit_to_data(spec, str(tmp_path / "three")).study == "s"
