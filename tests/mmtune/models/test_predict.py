"""New rows get what the model said of them while it was trained, whatever file they come in."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from mmtune.models.predict import predict_data, predict_one, predict_rows, prediction_table, single_row
from mmtune.models.rowfile import row_file
from trainables.answering import Answered
from trainables.checkpoint import BEST, load_checkpoint, save_checkpoint
from trainables.task import Task
from trainables.trained import load_trained


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def write_csv(path, rows, separator=","):
    opened = gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="")
    with opened as file:
        writer = csv.DictWriter(file, [*rows[0]], delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path, rows):
    opened = gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w")
    with opened as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def write_parquet(path, rows):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


WRITERS = {
    "new.csv": write_csv,
    "new.csv.gz": write_csv,
    "new.tsv": lambda path, rows: write_csv(path, rows, "\t"),
    "new.jsonl": write_jsonl,
    "new.jsonl.gz": write_jsonl,
    "new.parquet": write_parquet,
}


@pytest.fixture
def place(made, tmp_path):
    """A folder with the pictures, and nothing else."""
    shutil.copytree(made.folder / "pictures", tmp_path / "pictures")
    return tmp_path


def predicted(ref, data, out, **given):
    written = predict_data(ref, None if data is None else str(data), out=out, **given)
    return pyarrow.parquet.read_table(out), written


def chances(table):
    names = json.loads(table.schema.metadata[b"classes"])
    return np.stack([table[f"p_{name}"].to_numpy() for name in names], axis=1)


@pytest.mark.parametrize(
    "name", ["new.csv", *(pytest.param(name, marks=pytest.mark.slow) for name in WRITERS if name != "new.csv")]
)
def test_a_file_gives_what_training_gave(made, model, place, name):
    ref = model("all")
    WRITERS[name](place / name, made.val)
    table, written = predicted(ref, place / name, place / "out.parquet")
    assert table["id"].to_pylist() == [row["key"] for row in made.val]
    assert table["error"].null_count == 20 and (written.num_rows, written.num_errors, written.notes) == (20, 0, ())
    want = softmax(made.logits("all"))
    np.testing.assert_allclose(chances(table), want, atol=1e-5)
    names = load_trained(ref.folder).task.classes
    assert table["prediction"].to_pylist() == [names[at] for at in want.argmax(axis=1)]


@pytest.mark.parametrize("bytes_as", ["bytes", "struct"])
@pytest.mark.slow
def test_pictures_inside_of_parquet(made, model, tmp_path, bytes_as):
    rows = [{**row, "picture": (made.folder / row["picture"]).read_bytes()} for row in made.val]
    if bytes_as == "struct":
        rows = [{**row, "picture": {"bytes": row["picture"], "path": "x.png"}} for row in rows]
    write_parquet(tmp_path / "new.parquet", rows)
    table, _ = predicted(model("all"), tmp_path / "new.parquet", tmp_path / "out.parquet")
    np.testing.assert_allclose(chances(table), softmax(made.logits("all")), atol=1e-5)


@pytest.mark.slow
def test_the_folder_it_was_trained_on_a_split_of_it_and_one_without_labels(made, model, place):
    ref = model("all")
    want = softmax(made.logits("all"))
    whole, written = predicted(ref, None, place / "out.parquet")
    assert len(whole) == 60 and "has rows that it has seen with their labels" in written.notes[0]
    np.testing.assert_allclose(chances(whole)[40:], want, atol=1e-5)
    val, written = predicted(ref, None, place / "out.parquet", split="val")
    assert written.notes == () and val["id"].to_pylist() == [row["key"] for row in made.val]
    np.testing.assert_allclose(chances(val), want, atol=1e-5)
    _, written = predicted(ref, None, place / "out.parquet", split="train")
    assert written.notes[0].startswith("40 of 40 rows are of the training split")
    write_csv(place / "new.csv", made.val)
    (place / "table.yaml").write_text("files: new.csv\ntext: [title, words]\nimage: picture\nid: key\n")
    table, written = predicted(ref, place, place / "out.parquet")
    np.testing.assert_allclose(chances(table), want, atol=1e-5)
    assert written.notes == ()


@pytest.mark.slow
def test_shuffled_and_appended_rows_in_any_columns_keep_their_order(made, model, place):
    rows = [made.val[at] for at in np.random.default_rng(1).permutation(20)]
    rows += [{**rows[0], "key": "", "brand": "never seen", "price": "NaN"}]
    rows = [{"note": "x", **dict(reversed(row.items())), "kind": "no class of it"} for row in rows]
    write_csv(place / "new.csv", rows)
    table, _ = predicted(model("all"), place / "new.csv", place / "out.parquet")
    assert table["id"].to_pylist() == [*(row["key"] for row in rows[:-1]), "new.csv-22"]
    want = dict(zip((row["key"] for row in made.val), softmax(made.logits("all")), strict=True))
    np.testing.assert_allclose(chances(table)[:-1], [want[row["key"]] for row in rows[:-1]], atol=1e-5)
    write_csv(place / "new.csv", [{**rows[0], "brand": "", "price": "", "key": "last"}])
    missing, _ = predicted(model("all"), place / "new.csv", place / "out.parquet")
    np.testing.assert_allclose(chances(missing)[0], chances(table)[-1], atol=1e-6)


@pytest.mark.slow
def test_one_value_in_several_spellings_is_one(made, model, place):
    ref = model("numbers")
    plain = next(row for row in made.val if row["brand"] == "true")
    rows = [plain, {**plain, "brand": "TRUE"}, {**plain, "price": f"{plain['price']:.17e}"}, {**plain, "brand": "no"}]
    write_csv(place / "new.csv", rows)
    got = chances(predicted(ref, place / "new.csv", place / "out.parquet")[0])
    np.testing.assert_allclose(got[1:3], got[[0, 0]], atol=1e-7)
    assert np.abs(got[3] - got[0]).max() > 1e-4


def test_rows_that_cannot_be_used_stand_in_their_place(made, model, place):
    (place / "pictures" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (place / "pictures" / "empty.png").touch()
    good = made.val[0]
    lines = [json.dumps(good)]
    lines += [json.dumps({**good, "key": f"bad {at}", **bad}) for at, bad in enumerate([
        {"picture": "pictures/none.png"}, {"picture": "pictures/broken.png"}, {"picture": "pictures/empty.png"},
        {"picture": "../secret.png"}, {"picture": None}, {"price": "12,50"}, {"size": "tall"}, {"words": ["a", "b"]},
    ])]  # fmt: skip
    lines.insert(3, "{damaged")
    lines.append(json.dumps({**good, "key": "last"}))
    (place / "new.jsonl").write_text("\n".join(lines) + "\n")
    table, written = predicted(model("all"), place / "new.jsonl", place / "out.parquet")
    errors = dict(zip(table["id"].to_pylist(), table["error"].to_pylist(), strict=True))
    told = {
        good["key"]: None, "bad 0": "no picture pictures/none.png", "bad 1": "the image cannot be decoded",
        "new.jsonl-4": "not a JSON object", "bad 2": "is empty", "bad 3": "leaves the folder",
        "bad 4": "no picture in 'picture'", "bad 5": "'price' is '12,50', no number (a decimal comma? write 12.50)",
        "bad 6": "'size' is 'tall', no number", "bad 7": "'words' is no single value", "last": None,
    }  # fmt: skip
    assert [*errors] == [*told]
    for id, text in told.items():
        assert errors[id] is None if text is None else text in errors[id]
    assert [value is None for value in table["prediction"].to_pylist()] == [text is not None for text in told.values()]
    assert table[table.column_names[2]].null_count == written.num_errors == 9
    assert written.first_error == "bad 0: no picture pictures/none.png"
    np.testing.assert_allclose(chances(table)[[0, -1]], softmax(made.logits("all"))[[0, 0]], atol=1e-5)


def test_samples_of_a_fixed_format_that_cannot_be_used_stand_in_their_place(model, place):
    """SNLI-VE: a missing picture, a damaged line and a repeated id, in the middle, at an end and in another file."""
    (place / "flickr30k-images").mkdir()
    shutil.copy(place / "pictures" / "0.png", place / "flickr30k-images" / "7.jpg")

    def pair(id, picture="7"):
        words = {"pairID": id, "sentence2": "a square", "gold_label": "neutral", "Flickr30K_ID": picture}
        return json.dumps(words)

    for split, lines in {
        "train": [pair("a"), pair("b", "9"), pair("c"), "{damaged"],
        "dev": [pair("d"), pair("a")],
        "test": [pair("e", "9"), pair("f"), pair("g")],
    }.items():
        (place / f"snli_ve_{split}.jsonl").write_text("\n".join(lines) + "\n")
    no_picture, damaged = "no picture flickr30k-images/9.jpg", "not a JSON object"
    told = [
        ("a", None), ("b", no_picture), ("c", None), ("snli_ve_train.jsonl line 4", damaged), ("d", None),
        ("a", "was there before"), ("e", no_picture), ("f", None), ("g", None),
    ]  # fmt: skip
    for split, expected in ((None, told), ("test", told[-3:])):
        table, written = predicted(model("image"), place, place / "out.parquet", dataset="snli_ve", split=split)
        errors = table["error"].to_pylist()
        assert table["id"].to_pylist() == [id for id, _ in expected]
        for error, (_, text) in zip(errors, expected, strict=True):
            assert error is None if text is None else text in error
        answers = table["prediction"].to_pylist()
        assert [value is None for value in answers] == [error is not None for error in errors]
        assert written.num_errors == sum(text is not None for _, text in expected)


@pytest.mark.slow
def test_rows_none_of_which_can_be_used(made, model, place):
    write_jsonl(place / "new.jsonl", [{**made.val[0], "size": "x"}])
    table, written = predicted(model("all"), place / "new.jsonl", place / "out.parquet")
    assert written.num_errors == 1 and table["prediction"].to_pylist() == [None] and table.num_columns == 6


@pytest.mark.slow
def test_several_classes_and_a_number(made, model, place):
    write_csv(place / "new.csv", made.val)
    many, _ = predicted(model("many"), place / "new.csv", place / "many.parquet")
    want = 1 / (1 + np.exp(-made.logits("many")))
    np.testing.assert_allclose(chances(many), want, atol=1e-5)
    assert many["prediction"].to_pylist() == [
        [name for name, chance in zip("xyz", row, strict=True) if chance > 0.5] for row in want
    ]
    score, _ = predicted(model("score"), place / "new.csv", place / "score.parquet")
    assert score.column_names == ["id", "prediction", "error"]
    np.testing.assert_allclose(score["prediction"].to_numpy(), made.logits("score")[:, 0], rtol=1e-5)
    assert 95 < score["prediction"].to_numpy().mean() < 115


def test_many_classes_are_one_column_of_lists(tmp_path):
    names = tuple(f"class {at}" for at in range(60))
    logits = np.random.default_rng(0).normal(size=(2, 60)).astype(np.float32)
    trained = SimpleNamespace(
        task=Task("multiclass", names), facts=SimpleNamespace(target="y"), scores=lambda logits: softmax(logits)
    )
    table = prediction_table(trained, Answered(["a", "b", "c"], [None, "broken", None], np.array([0, 2]), logits, {}))
    with row_file(tmp_path / "out.parquet") as write:
        write(table)
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table.column_names == ["id", "prediction", "probabilities", "error"]
    first, second, third = table["probabilities"].to_pylist()
    assert second is None and table["prediction"][1].as_py() is None
    np.testing.assert_allclose([first, third], softmax(logits), rtol=1e-6)
    assert json.loads(table.schema.metadata[b"classes"])[np.argmax(third)] == table["prediction"][2].as_py()


@pytest.mark.slow
def test_other_files_hold_the_same(made, model, place):
    write_csv(place / "new.csv", [*made.val[:3], {**made.val[3], "key": "bad", "picture": "none.png"}])
    ref = model("all")
    table, _ = predicted(ref, place / "new.csv", place / "out.parquet")
    predict_data(ref, str(place / "new.csv"), out=place / "out.jsonl")
    rows = [json.loads(line) for line in (place / "out.jsonl").read_text().splitlines()]
    assert rows == table.to_pylist()
    predict_data(ref, str(place / "new.csv"), out=place / "out.csv")
    with (place / "out.csv").open(newline="") as file:
        cells = [*csv.DictReader(file)]
    assert [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows] == cells
    predict_data(model("many"), str(place / "new.csv"), out=place / "many.csv")
    with (place / "many.csv").open(newline="") as file:
        assert all(isinstance(json.loads(row["prediction"]), list) for row in csv.DictReader(file))


@pytest.mark.slow
def test_rows_of_python(made, model):
    trained = load_trained(model("all").folder)
    rows = [{**row, "picture": made.folder / row["picture"]} for row in made.val]
    rows[1]["picture"] = rows[1]["picture"].read_bytes()
    del rows[2]["key"]
    got = pyarrow.concat_tables(predict_rows(trained, iter(rows)))
    assert got["id"].to_pylist()[:3] == [rows[0]["key"], rows[1]["key"], "2"]
    np.testing.assert_allclose(chances(got), softmax(made.logits("all")), atol=1e-5)
    below = pyarrow.concat_tables(predict_rows(trained, made.val, root=made.folder))
    np.testing.assert_array_equal(chances(below), chances(got))
    renamed = {"word" if name == "words" else name: value for name, value in made.val[0].items()}
    with pytest.raises(
        ValueError, match="the first row: no column 'words', which the model reads as text, did you mean"
    ):
        list(predict_rows(trained, [renamed]))
    assert list(predict_rows(trained, [])) == []


@pytest.mark.slow
def test_a_single_row(made, model):
    trained, row = load_trained(model("all").folder), made.val[0]
    picture = str(made.folder / row["picture"])
    text = f"{row['title']} {row['words']}".strip()
    values = [f"price={row['price']!r}", f"size={row['size']}", f"brand={row['brand']}"]
    said = predict_one(trained, single_row(trained, text=text, image=picture, values=values))
    want = dict(zip(trained.task.classes, softmax(made.logits("all"))[0], strict=True))
    assert [chance for _, chance in said] == sorted((chance for _, chance in said), reverse=True)
    assert dict(said) == pytest.approx(want, abs=1e-5)
    ((name, number),) = predict_one(load_trained(model("score").folder), {"title": row["title"], "words": row["words"]})
    assert name == "score" and number == pytest.approx(made.logits("score")[0, 0], rel=1e-5)


@pytest.mark.slow
def test_a_model_trained_on_a_gpu_answers_without_one(made, model, tmp_path):
    folder = tmp_path / "gpu"
    shutil.copytree(model("text").folder, folder)
    tensors, saved = load_checkpoint(folder / BEST)
    saved["config"] |= {"device": "gpu", "precision": "fp16"}
    save_checkpoint(folder / BEST, tensors, saved)
    trained = load_trained(folder)
    (table,) = predict_rows(trained, made.val)
    np.testing.assert_allclose(chances(table), softmax(made.logits("text")), atol=1e-5)
