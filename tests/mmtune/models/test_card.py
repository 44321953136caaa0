"""The model card against what was trained and measured."""

import json

import pyarrow.parquet
import pytest
import yaml
from PIL import Image
from scipy import stats

from mmtune.models.card import card, folder_use
from mmtune.models.export import export_model
from mmtune.models.reference import find_model
from trainables.config import TrialConfig
from trainables.loop import train
from trainables.trained import load_trained

SIZES = {"epochs": 1, "max_train_rows": 64, "max_text_len": 8, "image_size": 16, "precision": "fp32"}
MODEL = {"kind": "late", "text_encoder": "tiny-bert", "image_encoder": "tiny-cnn"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "fusion"
    train(TrialConfig(family="fusion", dataset="openclipart", model=MODEL, **SIZES), folder=folder)
    return folder


def text_of(folder):
    trained = load_trained(folder, device="cpu")
    return card(find_model(folder), trained, name="a-model", use=folder_use(trained)), trained


@pytest.mark.slow
def test_front_matter_is_read_by_others(made):
    text, trained = text_of(made)
    _, front, body = text.split("---\n", 2)
    values = yaml.safe_load(front)
    assert values["license"] == "unknown" and {"mmtune", "fusion", "text", "image"} <= set(values["tags"])
    (model,) = values["model-index"]
    (result,) = model["results"]
    told = {row["type"]: row["value"] for row in result["metrics"]}
    assert told["accuracy"] == trained.report["val_accuracy"] and list(told) == values["metrics"]
    assert result["dataset"]["name"] == "openclipart" and result["task"]["type"]
    assert body.startswith("\n# a-model\n")


@pytest.mark.slow
def test_what_it_says_was_measured(made):
    text, trained = text_of(made)
    table = pyarrow.parquet.read_table(made / "predictions.parquet")
    right = sum(
        max(range(len(row)), key=row.__getitem__) == label
        for row, label in zip(table.column("logits").to_pylist(), table.column("label").to_pylist(), strict=True)
    )
    told = stats.binomtest(right, len(table)).proportion_ci(0.95, method="wilson")
    assert f"| accuracy | {right / len(table):.4f} | {told.low:.4f} to {told.high:.4f} |" in text
    assert f"train 64, val {len(table):,}, test " in text
    assert f"{trained.report['num_parameters']:,} parameters" in text
    assert "does without text or image, if need be" in text and "16 x 16 pixels (crop)" in text
    assert "the first 8 tokens" in text and "public domain" in text
    assert "Its test split was not looked at." in text
    (made / "test.json").write_text(json.dumps({"test_accuracy": 0.25}))
    assert (
        "The test split was looked at once:\n\n| metric | test |\n| --- | --- |\n| accuracy | 0.2500 |"
        in text_of(made)[0]
    )


@pytest.mark.slow
def test_its_python_runs(made, tmp_path, monkeypatch, capsys):
    export_model(find_model(made), tmp_path / "away")
    Image.new("RGB", (20, 30), "red").save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    code = (tmp_path / "away" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    exec(code.replace("DIR", "away"), {})
    out = capsys.readouterr().out
    assert "prediction" in out and "[1 rows x" in out
