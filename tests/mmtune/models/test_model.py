"""A Model answers rows of Python as the verbs answer files, whatever holds them."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

import mmtune
from mmtune.models.embed import embed_data
from mmtune.models.predict import predict_data

pytestmark = pytest.mark.slow


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def picture_as(kind, path):
    if kind == "path":
        return path
    return path.read_bytes() if kind == "bytes" else Image.open(path)


@pytest.fixture
def rows(made):
    """The validation rows, their pictures as paths."""
    return [{**row, "picture": made.folder / row["picture"]} for row in made.val]


@pytest.mark.parametrize("kind", ["path", "bytes", "PIL"])
@pytest.mark.parametrize("holder", ["dicts", "DataFrame"])
def test_rows_get_what_training_gave(made, model, rows, kind, holder):
    loaded = mmtune.load_model(model("all").folder)
    rows = [{**row, "picture": picture_as(kind, row["picture"])} for row in rows]
    given = rows if holder == "dicts" else pd.DataFrame(rows, index=pd.Index(range(100, 140, 2)))
    found, want = loaded.predict_proba(given), softmax(made.logits("all"))
    assert (*found.columns,) == loaded.classes
    np.testing.assert_allclose(found.to_numpy(), want, atol=1e-5)
    assert found.index.to_list() == (list(range(20)) if holder == "dicts" else list(range(100, 140, 2)))
    table = loaded.predict(given)
    assert table["prediction"].to_list() == [loaded.classes[at] for at in want.argmax(axis=1)]
    assert table["id"].to_list() == [row["key"] for row in rows]
    assert table["error"].isna().to_list() == [True] * 20


def test_tables_are_those_of_the_verbs(made, model, rows, tmp_path):
    loaded = mmtune.load_model(model("all").folder)
    inside = [{**row, "picture": row["picture"].read_bytes()} for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(inside), tmp_path / "new.parquet")
    for write, answer in ((predict_data, loaded.predict), (embed_data, loaded.embed)):
        write(model("all"), str(tmp_path / "new.parquet"), out=tmp_path / "out.parquet")
        pd.testing.assert_frame_equal(answer(rows), pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pandas())
    joint = np.stack(loaded.embed(rows)["joint"].to_list())
    assert joint.shape[0] == 20 and np.isfinite(joint).all()


def test_missing_and_broken_cells(model, rows):
    loaded = mmtune.load_model(model("all").folder)
    frame = pd.DataFrame(rows[:6])
    frame["price"] = frame["price"].astype("Float64")
    frame.loc[1, "price"] = pd.NA
    frame["brand"] = frame["brand"].astype("object")
    frame.loc[2, "brand"] = np.nan
    frame["picture"] = frame["picture"].astype("object")
    frame.at[3, "picture"] = "nowhere.png"
    frame.at[4, "picture"] = None
    frame.at[5, "picture"] = b"no picture"
    table = loaded.predict(frame)
    assert table["error"].isna().to_list() == [True] * 3 + [False] * 3
    assert table["error"].to_list()[3] == "nowhere.png: No such file or directory"
    assert "no picture in 'picture'" in table["error"].to_list()[4]
    assert "cannot be decoded" in table["error"].to_list()[5]
    assert table["prediction"].isna().to_list() == [False] * 3 + [True] * 3
    assert np.isnan(loaded.predict_proba(frame).to_numpy()).any(axis=1).tolist() == [False] * 3 + [True] * 3
    for row in ({**rows[1], "price": None}, {**rows[1], "price": float("nan")}):
        pd.testing.assert_series_equal(loaded.predict_proba([row]).loc[0], loaded.predict_proba(frame).loc[1],
                                       check_names=False, atol=1e-5)  # fmt: skip


def test_any_mode_of_picture_is_seen_as_its_file_is(model, rows):
    loaded = mmtune.load_model(model("image").folder)
    picture = Image.open(rows[0]["picture"])
    turned = Image.Exif()
    turned[0x0112] = 6  # lies on its side
    for kind, mode, extra in (("PNG", "RGBA", {}), ("PNG", "P", {}), ("TIFF", "CMYK", {}), ("TIFF", "F", {}),
                              ("TIFF", "I", {}), ("JPEG", "L", {}), ("JPEG", "RGB", {"exif": turned})):  # fmt: skip
        out = io.BytesIO()
        picture.convert("L" if mode in "FI" else mode).convert(mode).save(out, kind, **extra)
        opened = Image.open(out)
        assert opened.mode == mode
        pair = loaded.predict_proba([{"picture": out.getvalue()}, {"picture": opened}]).to_numpy()
        np.testing.assert_allclose(pair[0], pair[1], atol=1e-6, err_msg=mode)


def test_of_several_labels_and_of_a_number(made, model, rows):
    many, score = mmtune.load_model(model("many").folder), mmtune.load_model(model("score").folder)
    chances = 1 / (1 + np.exp(-made.logits("many")))
    np.testing.assert_allclose(many.predict_proba(rows).to_numpy(), chances, atol=1e-5)
    said = [[name for name, value in zip(many.classes, row, strict=True) if value > 0.5] for row in chances]
    assert [list(value) for value in many.predict(rows)["prediction"]] == said
    assert score.classes == () and score.predict(rows)["prediction"].between(50, 200).all()
    with pytest.raises(ValueError, match="score: predicts a number, which has no probabilities"):
        score.predict_proba(rows)


def test_no_rows_and_what_are_none(model, rows):
    loaded = mmtune.load_model(model("text").folder)
    for nothing in ([], pd.DataFrame(columns=["key", "title", "words"])):
        assert len(loaded.predict(nothing)) == len(loaded.predict_proba(nothing)) == len(loaded.embed(nothing)) == 0
        assert loaded.predict(nothing).columns.to_list() == loaded.predict(rows[:1]).columns.to_list()
    for given in (rows[0], "a red square"):
        with pytest.raises(ValueError, match="rows are a DataFrame or a list of dicts, one a row, not a"):
            loaded.predict(given)
    with pytest.raises(ValueError, match="a row is a dict by column, not a str"):
        loaded.predict(["a red square"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="the first row: no column 'words', which the model reads as text"):
        loaded.predict([{"title": "red"}])


def test_what_it_says_of_itself_and_its_test(model, tmp_path):
    ref = model("all")
    loaded = mmtune.load_model(str(ref.folder))
    assert (loaded.name, loaded.path) == ("all", ref.folder)
    assert loaded.columns == ("title", "words", "picture", "price", "size", "brand")
    tested = loaded.test(split="val", out=tmp_path / "tested", metrics=["accuracy"])
    assert tested.results["all inputs"]["accuracy"] == loaded.metrics["val_accuracy"]
    assert tested.num_rows == 20 and (tmp_path / "tested" / "confusion.csv").exists()
    assert repr(loaded).startswith(
        "<Model all: fusion, reads title, words, picture, price, size, brand, predicts 3 clas"
    )
    for given, message in (("nowhere", "nowhere: no such model"), (tmp_path, "neither a study nor a trained model")):
        with pytest.raises(ValueError, match=message):
            mmtune.load_model(given)
    with pytest.raises(ValueError, match="device 'tpu' is unknown"):
        mmtune.load_model(ref.folder, device="tpu")
