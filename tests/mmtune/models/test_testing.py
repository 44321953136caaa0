"""`mmtune test` on models trained in this process: round trips, other data, missing modalities, what is refused."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import sklearn.metrics
import yaml

from mmtune.models.pictures import draw_samples
from mmtune.models.reference import find_model
from mmtune.models.testing import WHOLE, evaluate_model, looks_at_test
from trainables.config import TrialConfig
from trainables.loop import train

pytestmark = pytest.mark.slow

WORDS = {"sport": "ball goal team", "food": "bread soup cheese", "music": "song drum chord"}


def write_table(root, rows, *, labels="{topic: {column: topic, kind: multiclass}}"):
    root.mkdir()
    pd.DataFrame(rows).to_csv(root / "rows.csv", index=False)
    described = f"files: rows.csv\ntext: title\nnumeric: [price]\nid: id\nsplit: part\nlabels: {labels}\n"
    (root / "table.yaml").write_text(described)


def rows_of(topics, *, split="test", start=0):
    rng = np.random.default_rng(start)
    return [
        {
            "id": f"{split}-{start + at}", "title": " ".join(rng.choice(WORDS[topic].split(), 3)), "topic": topic,
            "part": split, "price": float(10 + at % 7),
        }
        for at, topic in enumerate(topics)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A fusion of text and a number on a table, two epochs, and its data folder."""
    root = tmp_path_factory.mktemp("model")
    topics = [*WORDS] * 20
    rows = rows_of(topics, split="train") + rows_of(topics[:30], split="val", start=100)
    write_table(root / "data", rows + rows_of(topics[:18], start=200))
    model = {"text_encoder": "tiny-bert", "modalities": "text+numeric", "kind": "late"}
    given = {"dataset": "table", "data_dir": str(root / "data"), "epochs": 2, "batch_size": 16, "max_text_len": 8}
    config = TrialConfig(**{"family": "fusion", "model": model, "threads": 1, **given})
    train(config, folder=root / "trained")
    (root / "trained" / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))
    return root


def report_of(folder):
    import safetensors

    with safetensors.safe_open(folder / "best.safetensors", framework="np") as file:
        return json.loads(file.metadata()["state"])["report"]


def test_validation_metrics_come_back_to_the_last_digit(model, tmp_path):
    found = evaluate_model(find_model(model / "trained"), split="val", out=tmp_path)
    report, row = report_of(model / "trained"), found.results[WHOLE]
    same = {name: value for name, value in row.items() if name != "calibration_error"}
    assert {f"val_{name}": value for name, value in same.items()}.items() <= report.items()
    assert found.num_rows == 30 and found.looks is None


def test_files_say_what_scikit_learn_says(model, tmp_path):
    found = evaluate_model(find_model(model / "trained"), split="train", out=tmp_path)
    table = pyarrow.parquet.read_table(tmp_path / "predictions.parquet").to_pandas()
    truth, said = table["label"], table["prediction"]
    names = sorted(WORDS)
    assert [*table.columns] == ["id", "label", "prediction", *(f"p_{name}" for name in names), "logits"]
    assert (table[[f"p_{name}" for name in names]].sum(axis=1) - 1).abs().max() < 1e-6
    assert found.results[WHOLE]["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(truth, said))
    classes = pd.read_csv(tmp_path / "per_class.csv").set_index("class")
    wanted = sklearn.metrics.precision_recall_fscore_support(truth, said, labels=names, zero_division=np.nan)
    for column, values in zip(("precision", "recall", "f1", "support"), wanted, strict=True):
        np.testing.assert_allclose(classes.loc[names, column].to_numpy(), np.asarray(values))
    counts = pd.read_csv(tmp_path / "confusion.csv", index_col=0)
    np.testing.assert_array_equal(counts, sklearn.metrics.confusion_matrix(truth, said, labels=names))
    probabilities = table[[f"p_{name}" for name in names]].to_numpy()
    is_right, confidence = (truth == said).to_numpy(), probabilities.max(axis=1)
    error = 0.0
    for low in np.arange(15) / 15:  # as Guo et al. write it
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            error += inside.mean() * abs(is_right[inside].mean() - confidence[inside].mean())
    assert found.results[WHOLE]["calibration_error"] == pytest.approx(error)
    for picture in ("confusion.png", "calibration.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_moved_data_gives_the_same_digits_and_other_data_its_own(model, tmp_path):
    ref, own = (
        find_model(model / "trained"),
        evaluate_model(find_model(model / "trained"), split="val", out=tmp_path / "a"),
    )
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in (model / "data").iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    again = evaluate_model(ref, split="val", data_dir=str(moved), out=tmp_path / "b")
    assert again.results == own.results
    val = rows_of(([*WORDS] * 20)[:30], split="val", start=100)
    shuffled = [val[at] for at in np.random.default_rng(5).permutation(30)]
    stranger = {**val[0], "id": "new", "topic": "war"}
    write_table(tmp_path / "other", [*shuffled, stranger, {**val[1], "id": "bare", "topic": ""}])
    other = evaluate_model(ref, split="all", data_dir=str(tmp_path / "other"), out=tmp_path / "c")
    assert other.num_rows == 30  # neither the unknown class nor the row without a label
    assert other.notes == ("rows of classes that the model does not know are left out: war (1)",)
    for name, value in own.results[WHOLE].items():
        assert other.results[WHOLE][name] == pytest.approx(value, abs=1e-5), name
    assert other.looks is None  # it is not the split that the model was chosen beside


def test_looks_at_the_test_split_are_counted(model, tmp_path):
    ref = find_model(model / "trained")
    before = looks_at_test(model / "trained")
    counts = [evaluate_model(ref, split=split, out=tmp_path).looks for split in ("test", "val", "test")]
    assert counts == [before + 1, None, before + 2]


def test_looks_of_processes_at_once_are_all_counted(tmp_path):
    code = "import sys; from pathlib import Path; from mmtune.models.reference import ModelRef\n"
    code += "from mmtune.models.testing import count_look\n"
    code += "print('ready', flush=True); sys.stdin.read()\nfor _ in range(5): count_look(ModelRef(Path(sys.argv[1])))"
    command = [sys.executable, "-c", code, str(tmp_path)]
    looking = [subprocess.Popen(command, stdin=-1, stdout=-1, text=True) for _ in range(3)]
    assert [process.stdout.readline() for process in looking] == ["ready\n"] * 3
    for process in looking:
        process.stdin.close()  # all go at once
    assert [process.wait() for process in looking] == [0] * 3
    for process in looking:
        process.stdout.close()
    assert looks_at_test(tmp_path) == 15


def test_without_a_modality_in_both_protocols(model, tmp_path):
    ref = find_model(model / "trained")
    found = evaluate_model(ref, split="val", without=["text"], out=tmp_path)
    assert [*found.results] == [WHOLE, "without text (left out)", "without text (blank)"]
    rows = rows_of(([*WORDS] * 20)[:30], split="val", start=100)
    write_table(tmp_path / "empty", [{**row, "title": ""} for row in rows])
    by_hand = evaluate_model(ref, split="all", data_dir=str(tmp_path / "empty"), out=tmp_path / "e")
    for name, value in by_hand.results[WHOLE].items():
        assert found.results["without text (blank)"][name] == pytest.approx(value, abs=1e-5), name
    answers = [
        pyarrow.parquet.read_table(tmp_path / f"predictions{end}.parquet") for end in ("", "-without-text-blank")
    ]
    assert answers[0]["p_food"] != answers[1]["p_food"]


def test_what_cannot_be_is_refused_in_one_line(model, tmp_path):
    ref = find_model(model / "trained")
    write_table(
        tmp_path / "other",
        [{"id": str(at), "title": "x", "topic": name, "part": "test", "price": 1.0} for at, name in enumerate("abab")],
    )
    rows = [{**row, "stars": at} for at, row in enumerate(rows_of(["sport", "food"]))]
    write_table(tmp_path / "number", rows, labels="{stars: {column: stars, kind: regression}}")
    for given, said in (
        ({"split": "valid"}, "did you mean 'val'"),
        ({"metrics": ["acuracy"]}, "did you mean 'accuracy'"),
        ({"without": ["image"]}, "'image' is unknown. Known: text, numeric"),
        ({"without": ["text"], "protocol": "none"}, "Known: both, left_out, blank"),
        ({"device": "tpu"}, "device 'tpu' is unknown, did you mean 'gpu'"),
        ({"data_dir": str(tmp_path / "number")}, r"no target 'topic' \(multiclass\); it has stars \(regression\)"),
        ({"data_dir": str(tmp_path / "other")}, "none of its classes is one of the model's"),
        ({"data_dir": str(tmp_path / "nowhere")}, "no such folder"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            evaluate_model(ref, out=tmp_path / "out", **given)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_samples_are_drawn_from_the_data_that_the_model_was_trained_on(model, tmp_path):
    ref, samples = find_model(model / "trained"), pd.DataFrame({"id": ["val-100", "test-203"], "label": ["food", "$x"]})
    draw_samples(ref, samples, tmp_path / "samples.svg", title="two")
    drawn = (tmp_path / "samples.svg").read_text()
    rows = pd.read_csv(model / "data" / "rows.csv").set_index("id")
    for id in samples["id"]:
        assert f"<!-- {rows.loc[id, 'title']} -->" in drawn
    assert "label: food" in drawn
    light = tmp_path / "light"  # a trial whose weights its study did not keep
    shutil.copytree(model / "trained", light, ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(ValueError, match="weights were not kept"):
        find_model(light)
    draw_samples(find_model(light, needs_weights=False), samples, tmp_path / "light.svg", title="two")
    assert f"<!-- {rows.loc['val-100', 'title']} -->" in (tmp_path / "light.svg").read_text()
    with pytest.raises(ValueError, match="has no row nobody any more"):
        draw_samples(ref, pd.DataFrame({"id": ["nobody"]}), tmp_path / "none.svg", title="none")
    assert not (tmp_path / "none.svg").exists()
