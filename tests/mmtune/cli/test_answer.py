"""``mmtune predict`` and ``embed`` as people use them."""

from __future__ import annotations

import pyarrow.parquet
import pytest


@pytest.mark.slow
def test_a_file_a_split_a_single_row_and_features(mmtune, tiny):
    (mmtune.cwd / "tiny.yaml").write_text(tiny)
    assert mmtune("train", "tiny.yaml").code == 0
    (mmtune.cwd / "new.csv").write_text('id,text\na,a red rose\nb,"a dog, a cat"\nc,"one, two",three\n')
    done = mmtune("predict", "trained/tiny", "--data", "new.csv", "--out", "said/new.parquet")
    assert done.code == 0 and "Traceback" not in done.err, done
    lines = done.out.splitlines()
    assert lines[0] == "1 of 3 rows could not be used (column error), the first: new.csv-4: 3 fields, not 2"
    assert lines[1].startswith("written: said/new.parquet, 3 rows: id, prediction, p_animals, p_buildings,")
    table = pyarrow.parquet.read_table(mmtune.cwd / "said" / "new.parquet")
    assert table["id"].to_pylist() == ["a", "b", "new.csv-4"] and table.num_columns == 18 + 3

    done = mmtune("predict", "trained/tiny")
    assert "note: 2,296 of 3,290 rows are of the training split" in done.out
    assert len(pyarrow.parquet.read_table(mmtune.cwd / "predictions.parquet")) == 3290
    assert "note" not in mmtune("predict", "trained/tiny", "--split", "val").out

    one = mmtune("predict", "trained/tiny", "--text", "a red rose").out.splitlines()
    assert one[0].split() == ["class", "probability"] and len(one) == 19
    chances = [float(line.split()[1]) for line in one[1:]]
    assert chances == sorted(chances, reverse=True) and sum(chances) == pytest.approx(1, abs=1e-3)
    assert one[1].split()[0] == table["prediction"][0].as_py()

    done = mmtune("embed", "trained/tiny", "--split", "test")
    assert done.code == 0 and "written: embeddings.parquet, 663 rows: id, text, error" in done.out


@pytest.mark.slow
def test_what_is_no_model(mmtune):
    assert mmtune.refused("predict", "none").startswith("none: no such model; give STUDY/t0007")
    assert "--text: is empty" in mmtune.refused("predict", "none", "--text", "")
    assert mmtune.refused("embed", "none").startswith("none: no such model")
