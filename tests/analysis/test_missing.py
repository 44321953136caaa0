"""Table 4's layout from what `mmtune test --without` leaves, by hand."""

import json
import statistics

import pytest

from analysis.missing import missing_modalities, missing_table
from mmtune.records import StudyFolder

FACTS = {
    "format": 1, "target": "label", "dataset": "moviescope", "fingerprint": "", "rows": {},
    "modalities": ["text", "image"], "task": {"kind": "multilabel", "classes": ["a", "b"]},
}  # fmt: skip


@pytest.fixture
def tested(studies, monkeypatch):
    """Writes a study whose trials were tested: (all, without image, without text) macro AP each, micro is 0.01 more."""
    monkeypatch.setattr(
        "analysis.missing.read_facts", lambda folder: type("Facts", (), {"modalities": ["text", "image"]})
    )

    def write(name, values, split="test", lr=(1e-3,), **uda):
        trials = [
            studies.trial(n, family="mmbt", val_loss=0.5 + n / 100, **{"optim.lr": lr[n % len(lr)]})
            for n in range(len(values))
        ]
        fixed = {"epochs": 20, **{f"uda.{key}": value for key, value in uda.items()}}
        path = studies.of(
            *trials, name=name, fixed=fixed, family="mmbt", objectives=[{"metric": "val_ap_macro", "mode": "max"}]
        )
        table = StudyFolder(path).trials
        table.write_text(table.read_text().replace("val_loss", "val_ap_macro", 1))
        for trial, row in zip(trials, values, strict=True):
            if row is None:
                continue
            titles = ("all inputs", "without image (left out)", "without text (left out)")
            results = {
                title: {"ap_macro": value, "ap_micro": value + 0.01} for title, value in zip(titles, row, strict=True)
            }
            folder = StudyFolder(path).trial(trial["trial"])
            (folder / "tested" / split).mkdir(parents=True)
            (folder / "model.json").write_text(json.dumps(FACTS))
            said = {"dataset": "moviescope", "split": split, "results": results}
            (folder / "tested" / split / "metrics.json").write_text(json.dumps(said))
        return path

    return write


def test_the_layout_of_table_4(tested):
    rows = [(0.721, 0.714, 0.292), (0.725, 0.711, 0.30), (0.717, 0.717, 0.284)]
    base = tested("base", rows)
    text = tested("text", [(0.743, 0.721, 0.355)], mode="dynamic", views="text")
    found = missing_modalities([base, text], "val_ap_macro", "max")
    own = found.loc[(found["variant"] == "Base") & (found["metric"] == "ap_macro")].set_index("input")
    whole = [row[0] for row in rows]
    assert own.loc["all", "value"] == pytest.approx(statistics.mean(whole))
    assert own.loc["all", "sd"] == pytest.approx(statistics.stdev(whole)) and own.loc["all", "models"] == 3
    header, lines = missing_table(found)
    assert header == ["dataset", "family", "input: ap_macro/ap_micro", "Base", "Dynamic Text"]
    assert lines == [
        ["moviescope (test)", "mmbt", "image alone (text left out)", "0.2920±0.0080/0.3020±0.0080", "0.3550/0.3650"],
        ["moviescope (test)", "mmbt", "text alone (image left out)", "0.7140±0.0030/0.7240±0.0030", "0.7210/0.7310"],
        ["moviescope (test)", "mmbt", "all", "0.7210±0.0040/0.7310±0.0040", "0.7430/0.7530"],
    ]


def test_only_seeds_of_the_best_configuration_are_averaged(tested):
    """Trials 0 and 2 share a learning rate, trial 3 is the best and was not tested, so trial 2 is, with 0."""
    path = tested("s", [(0.1, 0.1, 0.1), (0.9, 0.9, 0.9), (0.3, 0.3, 0.3), None], lr=(1e-3, 1e-4))
    found = missing_modalities(path, "val_ap_macro", "max")
    assert set(found["models"]) == {2}
    assert found.loc[found["metric"] == "ap_macro", "value"].to_list() == pytest.approx([0.2, 0.2, 0.2])


def test_validation_stands_in_where_the_test_split_was_not_looked_at(tested):
    path = tested("s", [(0.2, 0.1, 0.1)], split="val")
    assert set(missing_modalities(path, "val_ap_macro", "max")["split"]) == {"val"}
