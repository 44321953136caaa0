import math

import pytest
import yaml

from analysis.best import GAIN, best_by_family, best_trial, export_best, rank_trials
from analysis.studies import load_studies


def test_best_ignores_what_did_not_end_well_or_has_no_value(studies):
    trials = [
        studies.trial(0, val_accuracy=math.nan),
        studies.trial(1, val_accuracy=math.inf),
        studies.trial(2, val_accuracy=None),
        studies.trial(3, val_accuracy=0.99, state="FAILED"),
        studies.trial(4, val_accuracy=0.99, state="INFEASIBLE"),
        studies.trial(5, val_accuracy=0.99, state="RUNNING"),
        studies.trial(6, val_accuracy=0.6),
        studies.trial(7, val_accuracy=0.7, state="PRUNED"),
    ]
    table = load_studies(studies.write("demo", trials))
    assert best_trial(table, "val_accuracy", "max").at["trial"] == "t0007"
    assert best_trial(table, "val_accuracy", "min").at["trial"] == "t0006"
    ranked = rank_trials(table, "val_accuracy", "max")
    assert ranked["trial"].tolist()[:2] == ["t0007", "t0006"]
    assert ranked["rank"].isna().tolist() == [False] * 2 + [True] * 6


def test_ties_go_to_the_cheaper_then_to_the_earlier_trial(studies):
    trials = [studies.trial(n, device_seconds=cost) for n, cost in enumerate([9.0, 5.0, 5.0, None])]
    table = load_studies(studies.write("demo", trials))
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        assert rank_trials(table.iloc[order], "val_accuracy", "max")["trial"].tolist() == [
            "t0001", "t0002", "t0000", "t0003",
        ]  # fmt: skip


def test_no_finished_trial_is_an_error_that_names_the_study(studies):
    table = load_studies(studies.write("early", [studies.trial(0, state="FAILED"), studies.trial(1, state="RUNNING")]))
    with pytest.raises(ValueError, match="early: no finished trial with a finite val_accuracy.*1 FAILED, 1 RUNNING"):
        best_trial(table, "val_accuracy", "max")
    with pytest.raises(ValueError, match="val_auroc.*reported: val_accuracy, val_loss"):
        best_trial(table, "val_auroc", "max")


def test_gain_is_measured_against_the_better_single_modality(studies):
    scores = {"text": 0.6, "image": 0.7, "fusion": 0.75}
    trials = [studies.trial(n, family=f, val_accuracy=v) for n, (f, v) in enumerate(scores.items())]
    worse = studies.trial(3, family="fusion", val_accuracy=0.1, state="FAILED", device_seconds=90.0)
    families = best_by_family(load_studies(studies.write("demo", [*trials, worse])), "val_accuracy", "max")
    assert families["family"].tolist() == ["fusion", "image", "text"]
    assert families["trials"].tolist() == [2, 1, 1]
    assert families[GAIN].tolist() == pytest.approx([0.05, 0.0, -0.1])
    assert families["total_device_hours"].tolist() == pytest.approx([120 / 3600, 30 / 3600, 30 / 3600])


def test_gain_of_a_loss_is_how_much_lower_it_is(studies):
    scores = {"text": 0.6, "image": 0.7, "fusion": 0.5}
    trials = [studies.trial(n, family=f, val_loss=v) for n, (f, v) in enumerate(scores.items())]
    families = best_by_family(load_studies(studies.write("demo", trials)), "val_loss", "min")
    assert families["family"].tolist() == ["fusion", "text", "image"]
    assert families[GAIN].tolist() == pytest.approx([0.1, 0.0, -0.1])


def test_no_gain_without_both_single_modalities(studies):
    trials = [studies.trial(0, family="text"), studies.trial(1, family="image", state="FAILED"), studies.trial(2)]
    families = best_by_family(load_studies(studies.write("demo", trials)), "val_accuracy", "max")
    assert families[GAIN].isna().tolist() == [True, True, True]
    assert families["val_accuracy"].isna().tolist() == [False, True, True]  # a family without a result keeps its row


def test_best_yaml_is_the_trials_config_under_comments(studies, tmp_path):
    one = studies.of(studies.trial(0, val_accuracy=0.8), name="one")
    two = studies.of(studies.trial(0), studies.trial(1, val_accuracy=0.875, state="PRUNED"), name="two")
    out = tmp_path / "new folder" / "best.yaml"
    row = export_best([one, two], out)
    assert (row["study"], row["trial"], row["val_accuracy"]) == ("two", "t0001", 0.875)
    config = (two / "trials" / "t0001" / "config.yaml").read_text()
    text = out.read_text()
    assert text.endswith(config)
    assert yaml.safe_load(text) == yaml.safe_load(config)
    header = text.removesuffix(config)
    assert all(line.startswith("#") for line in header.splitlines())
    for fact in (
        "mmtune train best.yaml",
        "study: two",
        "t0001 (PRUNED)",
        "val_accuracy: 0.875",
        "epoch 3 of 3",
        "30.0",
    ):
        assert fact in header
    assert [path.name for path in out.parent.iterdir()] == ["best.yaml"]  # no temporary file stays


def test_a_study_name_cannot_add_keys_to_best_yaml(studies, tmp_path):
    path = studies.of(studies.trial(0), name="x\nseed: 7\r\u2028epochs: 1")
    export_best(path, tmp_path / "best.yaml")
    config = yaml.safe_load((path / "trials" / "t0000" / "config.yaml").read_text())
    assert yaml.safe_load((tmp_path / "best.yaml").read_text()) == config


def test_export_needs_the_config(studies, tmp_path):
    path = studies.of(studies.trial(0))
    (path / "trials" / "t0000" / "config.yaml").unlink()
    with pytest.raises(ValueError, match=r"t0000/config\.yaml: missing"):
        export_best(path, tmp_path / "best.yaml")
    assert not (tmp_path / "best.yaml").exists()
