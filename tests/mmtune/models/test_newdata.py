"""What cannot be answered is said in one line, and nothing is left behind."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from mmtune.models.embed import embed_data
from mmtune.models.newdata import find_data
from mmtune.models.predict import predict_data, predict_one, single_row
from trainables.trained import load_trained

pytestmark = pytest.mark.slow

ROW = {"key": "a", "title": "red", "words": "x", "price": "1", "size": "2", "brand": "1"}


def write(path, *rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """The one line that a call ends in, which leaves nothing behind."""
    monkeypatch.chdir(tmp_path)

    def call(does, *args, **given):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises((ValueError, OSError)) as caught:
            does(*args, **given)
        assert sorted(tmp_path.rglob("*")) == before and "\n" not in str(caught.value)
        return str(caught.value)

    return call


def without(name, **more):
    return {column: value for column, value in ROW.items() if column != name} | more


def test_files_that_lack_something(refused, model, tmp_path):
    ref, here, out = model("numbers"), tmp_path, Path("out.parquet")
    write(here / "a.csv", without("words", wrds="x"))
    write(here / "b.csv", without("price"))
    write(here / "c.csv", without("brand", brands="1"))
    write(here / "ids.csv", *[ROW])
    (here / "empty.csv").touch()
    (here / "header.csv").write_text(",".join(ROW) + "\n")
    (here / "empty.jsonl").touch()
    (here / "no.jsonl").write_text("no json\nat all\n")
    (here / "a.jsonl").write_text(json.dumps(without("title")) + "\n" + json.dumps(without("title")) + "\n")
    pyarrow.parquet.write_table(pyarrow.table({name: ["x"] for name in ROW if name != "size"}), here / "a.parquet")
    pyarrow.parquet.write_table(pyarrow.table({name: pyarrow.array([], "string") for name in ROW}), here / "b.parquet")
    (here / "c.parquet").write_text("x")
    (here / "a.txt").write_text("x")
    (here / "folder").mkdir()
    (here / "out.csv").mkdir()
    known = "Known: key, title"
    for data, said in (
        ("a.csv", f"no column 'words', which the model reads as text, did you mean 'wrds'? {known}"),
        ("b.csv", f"no column 'price', which the model reads as numeric. {known}"),
        ("c.csv", "no column 'brand', which the model reads as categorical, did you mean 'brands'?"),
        ("empty.csv", "is empty"), ("header.csv", "has no row"), ("empty.jsonl", "no column 'title'"),
        ("no.jsonl", "line 1: not a file of JSON lines"), ("a.jsonl", "no column 'title'"),
        ("a.parquet", "no column 'size'"), ("b.parquet", "has no row"), ("c.parquet", "not a Parquet file"),
        ("a.txt", "ends in none of .csv"), ("nowhere.csv", "no such file or folder"),
        ("folder", "has no table.yaml"),
    ):  # fmt: skip
        message = refused(predict_data, ref, data, out=out)
        assert said in message, (data, message)
    assert "no column 'words'" in refused(embed_data, ref, "a.csv", out=out)
    for given, said in (
        ({"out": Path("out.txt")}, "ends in none of .parquet, .csv, .jsonl"), ({"out": Path("out.csv")}, "is a folder"),
        ({"out": Path("ids.csv")}, "is the file that is read"), ({"split": "val"}, "--split val: is of folders"),
        ({"dataset": "news"}, "--dataset news: is of folders"), ({"device": "gpu"}, "has no GPU here"),
    ):  # fmt: skip
        message = refused(predict_data, ref, "ids.csv", **{"out": out, **given})
        assert said in message, (given, message)


def test_tables_that_lack_something(refused, model, tmp_path):
    ref, here, out = model("numbers"), tmp_path, Path("out.parquet")
    write(here / "rows.csv", ROW)
    for yaml, said in (
        ("files: none.csv\n", "none.csv is missing"),
        ("text: words\n", "files: missing"),
        ("files: rows.csv\ntext: word\n", "no column 'word', which the model reads as text, did you mean 'words'?"),
        ("files: rows.csv\nnumeric: [price]\n", "numeric: 'size' is missing, which the model reads"),
        ("files: rows.csv\nlabels: {x: {kind: many}}\n", "labels.x.kind: 'many' is none"),
    ):
        (here / "table.yaml").write_text(yaml)
        message = refused(predict_data, ref, ".", out=out)
        assert said in message, (yaml, message)
    (here / "table.yaml").write_text("files: rows.csv\n")  # the columns are those that the model knows
    assert "labels: missing" in refused(predict_data, ref, ".", out=out, split="val")
    assert "'vla' is unknown, did you mean 'val'?" in refused(predict_data, ref, None, out=out, split="vla")
    assert "dataset 'tabel' is unknown" in refused(predict_data, ref, None, out=out, dataset="tabel")
    assert "dataset news needs --data" in refused(predict_data, ref, None, out=out, dataset="news")
    assert predict_data(ref, ".", out=out).num_rows == 1


def test_single_rows_that_lack_something(refused, model, tmp_path):
    everything, image = (load_trained(model(name).folder) for name in ("all", "image"))
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def answer(trained, **given):
        return predict_one(trained, single_row(trained, **given))

    both = {"text": "x", "image": "a.png"}
    for trained, given, said in (
        (everything, {"text": "x"}, "--image is missing: the model reads text and image and numeric and categorical"),
        (everything, {"image": "a.png"}, "--text is missing"),
        (image, {"text": "x"}, "--text: the model does not read it; it reads image"),
        (image, {"image": "text.png"}, "text.png: the image cannot be decoded (no known format)"),
        (image, {"image": "none.png"}, "none.png: No such file or directory"),
        (image, {"image": "a.png", "values": ["price=1"]}, "--value: 'price' is no column of the model"),
        (everything, {**both, "values": ["prize=1"]}, "'prize' is unknown, did you mean 'price'?"),
        (everything, {**both, "values": ["price"]}, "write COLUMN=VALUE"),
        (everything, {**both, "values": ["price=cheap"]}, "'price' is 'cheap', no number"),
    ):
        message = refused(answer, trained, **given)
        assert said in message, (given, message)


def test_a_graph_is_of_its_own_dataset(refused, model, tmp_path):
    write(tmp_path / "rows.csv", ROW)
    trained = load_trained(model("text").folder)
    graph = SimpleNamespace(config=trained.config, facts=trained.facts, modalities=("text", "graph"))
    for data in ("rows.csv", None):
        assert "the model reads a graph, whose nodes are those of table" in refused(find_data, graph, data)
    assert "the model reads a graph" in refused(single_row, graph, text="x")
