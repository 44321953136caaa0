"""Does a modality help: on study folders whose predictions are made so that the answer is known."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analysis.compare import compare
from analysis.compared import agreement, candidate_table, class_gains, won_samples, write_comparison
from analysis.verdict import answer
from mmtune import records
from trainables.modelfolder import Columns, EncoderUsed, ModelFacts, NumberScale, write_facts
from trainables.task import Task

TASK = Task("multiclass", ("a", "b", "c"))
READS = {"text": ["text"], "image": ["image"], "fusion": ["text", "image"]}
LABELS = np.random.default_rng(0).integers(0, 3, 400)


def write_study(root, trials):
    """Trials as (family, share right or (N,) bool, device_seconds)."""
    (root / "trials").mkdir(parents=True)
    (root / "spec.yaml").write_text(
        "study: s\nfamily: {type: categorical, choices: [text, image, fusion]}\ndataset: openclipart\n"
        "space: {optim.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}}\nbudget: {trials: 9}\n"
    )
    info = {"params": ["family"], "objectives": [{"metric": "val_accuracy", "mode": "max"}], "budget": {"trials": 9}}
    (root / "study.json").write_text(json.dumps({**info, "data_dir": None}))
    rows = []
    for number, (family, right, seconds) in enumerate(trials):
        if isinstance(right, float):
            right = np.random.default_rng(number).random(400) < right
        folder, name = root / "trials" / records.trial_id(number), records.trial_id(number)
        said = np.where(right, LABELS, (LABELS + 1) % 3)
        table = {"id": [f"r{at}" for at in range(400)], "label": LABELS, "logits": [*np.eye(3)[said]]}
        folder.mkdir()
        pd.DataFrame(table).to_parquet(folder / "predictions.parquet")
        encoders = {name: EncoderUsed("tiny", "f", False, False) for name in READS[family]}
        known = {"target": "kind", "dataset": "openclipart", "fingerprint": "x", "rows": {"train": 1, "val": 400}}
        write_facts(folder, ModelFacts(task=TASK, encoders=encoders, **known))
        rows.append(
            {"trial": name, "state": "COMPLETE", "epochs": 1, "best_epoch": 1, "family": family,
             "val_accuracy": float(np.mean(right)), "device_seconds": seconds, "peak_memory_gib": seconds / 10,
             "started": f"2026-01-01T00:00:{number:02d}Z"}
        )  # fmt: skip
    (root / "trials.csv").write_text(records.csv_text(list(rows[0]), rows))
    return root


def test_an_image_that_is_part_of_the_meaning(tmp_path):
    study = write_study(tmp_path / "s", [("text", 0.6, 10.0), ("image", 0.5, 10.0), ("fusion", 0.8, 30.0)])
    found = compare(study)
    said = answer(found)
    assert said[0] == "yes: image is part of the meaning. Take s/t0002 (fusion)"
    table = candidate_table(found).set_index("group")
    assert table.loc["with image", "modalities"] == "text+image"
    truth = float(table.loc["with image", "accuracy"] - table.loc["without image", "accuracy"])
    assert found.gain.gain == pytest.approx(truth) and found.gain.low > 0.1
    assert any("3x the training time, 3x the memory" in line for line in said)


@pytest.mark.slow
def test_a_decorative_image_and_an_open_question(tmp_path):
    right = np.random.default_rng(1).random(400) < 0.7
    same = write_study(tmp_path / "same", [("text", right, 1.0), ("image", 0.4, 1.0), ("fusion", right, 1.0)])
    assert answer(compare(same))[0].startswith(
        "no: image is decorative here, it brings less than 0.01. Take same/t0000"
    )
    barely = right.copy()
    barely[np.flatnonzero(~right)[:9]] = True
    barely[np.flatnonzero(right)[:3]] = False
    unsure = write_study(tmp_path / "unsure", [("text", right, 1.0), ("image", 0.4, 1.0), ("fusion", barely, 1.0)])
    found = compare(unsure)
    assert found.gain.gain == pytest.approx(6 / 400)
    assert found.gain.low <= 0 < found.gain.high
    assert answer(found)[0].startswith("not enough evidence that image helps: about")
    assert answer(compare(unsure, worth=0.06))[0].startswith("no: image is decorative")


def test_each_group_has_what_the_cheapest_took(tmp_path):
    trials = [("text", 0.5, 10.0), ("fusion", 0.55, 6.0), ("fusion", 0.6, 3.9), ("fusion", 0.99, 100.0)]
    study = write_study(tmp_path / "s", trials)
    equal, everything = compare(study), compare(study, is_equal_budget=False)
    assert equal.budget == 10.0  # 6 + 3.9 fit into it
    assert equal.candidates["with"].name == "s/t0002" and equal.candidates["with"].trials == 2
    trials[2] = ("fusion", 0.6, 4.1)
    again = compare(write_study(tmp_path / "again", trials))
    assert again.candidates["with"].name == "again/t0001" and again.candidates["with"].trials == 1
    assert everything.candidates["with"].name == "s/t0003" and everything.budget is None


def test_what_a_perfect_chooser_would_reach_and_who_won_what(tmp_path):
    text, image = np.arange(400) < 200, (np.arange(400) >= 100) & (np.arange(400) < 250)
    fused = (np.arange(400) < 220) | (np.arange(400) >= 390)
    study = write_study(tmp_path / "s", [("text", text, 1.0), ("image", image, 1.0), ("fusion", fused, 1.0)])
    found = compare(study)
    cells = agreement(found).set_index("right")
    assert cells["samples"].to_dict() == {
        "both": 100, "only without image": 100, "only image alone": 50, "neither": 150,
    }  # fmt: skip
    assert cells["right_with"].tolist() == [100, 100, 20, 10]
    won = won_samples(found)
    assert won["id"].tolist() == [f"r{at}" for at in range(390, 400)]
    assert won["label"].tolist() == [TASK.classes[label] for label in LABELS[390:]]
    assert any("would be right on 62.5%" in line for line in answer(found))
    gains = class_gains(found)
    assert gains["gain"].to_list() == sorted(gains["gain"], reverse=True)
    assert int(gains["support"].to_numpy().sum()) == 400
    write_comparison(tmp_path / "out", found, answer(found))
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"candidates.csv", "agreement.csv", "classes.csv", "samples.csv", "compare.json"}
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["gain"]["gain"] == pytest.approx(30 / 400)


def test_studies_of_one_family_each_are_compared_together(tmp_path):
    one = write_study(tmp_path / "one", [("text", 0.6, 10.0)])
    two = write_study(tmp_path / "two", [("fusion", 0.8, 10.0)])
    found = compare([one, two])
    assert (found.candidates["without"].name, found.candidates["with"].name) == ("one/t0000", "two/t0000")
    assert found.over_alone is None and agreement(found) is None


def test_over_seeds_the_finalists_decide(tmp_path):
    right = np.random.default_rng(1).random(400) < 0.7
    trials = [(family, right, 1.0) for family in ("text", "fusion") for _ in range(4)]
    study = write_study(tmp_path / "s", trials)
    rows = records.read_rows(study / "trials.csv")
    texts, fused = [0.70, 0.72, 0.71, 0.69], [0.76, 0.74, 0.77, 0.75]
    for row, test in zip(rows, texts + fused, strict=True):
        row |= {"finalist": f"demo/t000{row['family'] == 'fusion':d}", "test_accuracy": test}
    (study / "trials.csv").write_text(records.csv_text(list(rows[0]), rows))
    info = json.loads((study / "study.json").read_text())
    (study / "study.json").write_text(json.dumps({**info, "params": ["family", "finalist"]}))
    found = compare(study)
    welch = scipy.stats.ttest_ind(fused, texts, equal_var=False).confidence_interval(0.95)
    assert found.over_seeds.gain.gain == pytest.approx(0.05)
    assert (found.over_seeds.gain.low, found.over_seeds.gain.high) == pytest.approx((welch.low, welch.high))
    assert found.gain.gain == 0  # on the samples of validation there is nothing between them
    assert answer(found)[0].startswith("yes: image is part of the meaning")
    assert "means of 4 and 4 seeds" in answer(found)[1]


def test_what_is_missing_is_said(tmp_path):
    study = write_study(tmp_path / "s", [("fusion", 0.6, 10.0)])
    for given, said in (
        ({}, "no finished trial does without image: there are text\\+image; give the study that has them too"),
        ({"modality": "graph"}, "no finished trial reads graph beside something else"),
        ({"modality": "sound"}, "'sound' is unknown. Known: text, image"),
    ):
        with pytest.raises(ValueError, match=said):
            compare(study, **given)
    both = write_study(tmp_path / "both", [("fusion", 0.6, 10.0), ("text", 0.5, 1.0)])
    with pytest.raises(ValueError, match="write it: mmtune test .*both/t0001 --split test"):
        compare(both, split="test")


def test_metadata_are_numbers_categories_and_what_stands_in_the_text(tmp_path):
    study = write_study(tmp_path / "s", [("text", 0.5, 10.0), ("text", 0.6, 10.0), ("fusion", 0.7, 10.0)])
    encoders = {"text": EncoderUsed("tiny", "f", False, False)}
    known = {"target": "kind", "dataset": "openclipart", "fingerprint": "x", "rows": {"train": 1, "val": 400}}
    for trial, given in (
        ("t0001", {"columns": Columns(text=("text",), text_numbers=("price",))}),
        ("t0002", {"numeric": (NumberScale("price", 0.0, 1.0, False),), "categorical": {"brand": ("a",)}}),
    ):
        write_facts(study / "trials" / trial, ModelFacts(task=TASK, encoders=encoders, **known, **given))
    found = compare(study, modality="metadata", is_equal_budget=False)
    table = candidate_table(found).set_index("group")
    assert table.loc["with metadata", ["trial", "modalities", "trials"]].tolist() == ["s/t0002", "text+metadata", 2]
    assert table.loc["without metadata", ["trial", "modalities"]].tolist() == ["s/t0000", "text"]
    with pytest.raises(ValueError, match="no finished trial reads image beside something else"):
        compare(study)
