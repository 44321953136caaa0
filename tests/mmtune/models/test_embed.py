"""Features of new rows: what the model's own batches give, by name, in the order of the rows."""

from __future__ import annotations

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from mmtune.models.embed import embed_data, embed_rows
from trainables.data.open import open_data
from trainables.trained import load_trained

pytestmark = pytest.mark.slow


def test_features_of_a_file_are_those_of_its_own_batches(made, model, tmp_path):
    ref = model("all")
    rows = [{**row, "picture": (made.folder / row["picture"]).read_bytes()} for row in made.val]
    rows.insert(3, {**rows[0], "key": "bad", "size": "x"})
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{**row, "size": str(row["size"])} for row in rows]),
                                tmp_path / "new.parquet")  # fmt: skip
    written = embed_data(ref, str(tmp_path / "new.parquet"), out=tmp_path / "out.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    trained = load_trained(ref.folder)
    data = open_data(trained.config)
    want = trained.forward(data.batch(data.rows["val"], data.clean)).features
    assert table.column_names == ["id", *want, "error"] == [*written.columns]
    assert {"text", "image", "numeric", "categorical", "joint"} == {*want}
    assert table["id"].to_pylist() == [row["key"] for row in rows] and table["error"][3].as_py().startswith("'size'")
    for name, values in want.items():
        assert table.schema.field(name).type == pyarrow.list_(pyarrow.float32(), values.shape[1])
        found = table[name].to_pylist()
        assert found.pop(3) is None
        np.testing.assert_allclose(np.array(found, np.float32), values.numpy(), atol=1e-5)


def test_rows_of_which_none_can_be_used_have_the_same_columns(made, model):
    trained = load_trained(model("text").folder)
    bad, good = ({"title": ["a", "b"], "words": ""}, {"title": "red", "words": ""})
    (one,), (other,) = (list(embed_rows(trained, [row])) for row in (bad, good))
    assert one.schema == other.schema and one.column_names == ["id", "text", "error"]
    assert one["text"].to_pylist() == [None] and one["error"][0].as_py() == "'title' is no single value: ['a', 'b']"


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_other_files(made, model, tmp_path, suffix):
    embed_data(model("text"), None, split="val", out=tmp_path / f"out.{suffix}")
    assert (tmp_path / f"out.{suffix}").read_text().count("\n") == 20 + (suffix == "csv")
