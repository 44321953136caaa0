import numpy as np
import pytest

from trainables.data.reading.dataset import DatasetRef, load_table
from trainables.data.reading.notes import dataset_notes
from trainables.data.reading.sparse import SparseRows

YAML = "files: {train: a.csv, val: b.csv, test: b.csv}\nid: id\ntext: t\nlabels:\n"
YAML += "  y: {kind: multiclass}\n  z: {kind: multilabel, separator: '|'}\n  r: {kind: regression}\n"


def notes(folder, train, val, target=None):
    for name, rows in (("a", train), ("b", val)):
        lines = [f"{name}{at},x,{y},{z},{at}" for at, (y, z) in enumerate(rows)]
        (folder / f"{name}.csv").write_text("\n".join(["id,t,y,z,r", *lines]) + "\n")
    (folder / "table.yaml").write_text(YAML.replace(", test: b.csv", ""))
    load_table.cache_clear()
    return dataset_notes(DatasetRef("table", str(folder)), target)


def test_classes_that_train_or_val_lack_are_counted(tmp_path):
    rows = [("a", "p|q"), ("b", "p"), ("c", "q"), ("d", "p")]
    assert notes(tmp_path, rows, rows) == []
    assert notes(tmp_path, rows[:3], rows[1:]) == [
        "dataset table: target y: 1 of 4 classes have no row in train: 'd'",
        "dataset table: target y: 1 of 4 classes have no row in val: 'a'",
    ]
    assert notes(tmp_path, rows, [("a", "p"), ("b", "p|s")], "z") == [
        "dataset table: target z: 1 of 3 classes have no row in train: 's'",
        "dataset table: target z: 1 of 3 classes have no row in val: 'q'",
    ]
    assert notes(tmp_path, rows, rows[:1], "r") == []
    many = [(f"c{at}", "p") for at in range(10)]
    assert notes(tmp_path, many, many[:2])[0].endswith(
        "8 of 10 classes have no row in val: 'c2', 'c3', 'c4', 'c5', 'c6', ..."
    )


def test_labels_that_nothing_can_be_learnt_from_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match="target y: no class of val has a row in train, .* val has '0', '1', train has 'n', 'p'"
    ):
        notes(tmp_path, [("p", "x"), ("n", "y")], [("1", "x"), ("0", "y")])
    assert len(notes(tmp_path, [("p", "x"), ("n", "y")], [("o", "x")])) == 2  # of a single class that may be chance


def test_rows_left_out_and_what_was_read_otherwise_come_first(tmp_path):
    (found, *rest) = notes(tmp_path, [("a", "p"), ("b,1", "p"), ("1", "q"), ("1.0", "q"), ("b", "p")], [("a", "p")])
    assert found.startswith(
        "dataset table: rows left out or repaired: 1, the first: a.csv line 3: 6 fields, not 5 (all: "
    )
    assert rest[0].startswith("dataset table: label y: 1 value in several spellings, 1 times another")


def test_heavy_tails_are_said(tmp_path):
    prices = [f"{10 + at % 7}" for at in range(150)]
    rows = [f"{at},x,{'p' if at % 2 else 'n'},{price},{at}" for at, price in enumerate(prices)]
    text = "files: a.csv\nid: id\ntext: t\nnumeric: [price, even]\nlabels:\n  y: {kind: multiclass}\n"
    text += "  r: {column: price, kind: regression}\n"
    (tmp_path / "table.yaml").write_text(text.replace("numeric: [price, even]", "numeric: [even]"))

    def of(target, *extra):
        (tmp_path / "a.csv").write_text("\n".join(["id,t,y,price,even", *rows, *extra]) + "\n")
        load_table.cache_clear()
        return dataset_notes(DatasetRef("table", str(tmp_path)), target)

    far = "700,x,p,1e9,1e9"
    assert of("r") == [] and of("y") == []
    assert any("target r: labels have a heavy tail, 1 lie more than 10 deviations" in note for note in of("r", far))
    (said,) = of("y", far)
    assert "numeric: 1 of 1 columns have a heavy tail" in said and "even (1, the farthest at" in said


def test_columns_that_sparse_rows_use():
    rows = SparseRows([{0: 1.0, 3: 0.5}, {}, {2: 0.0, 3: 1.0}, {1: 1.0}], 5)
    for picked in ([0, 2], [1], [3, 0], []):
        expected = (rows[np.array(picked, int)] != 0).any(axis=0)
        assert rows.used_columns(np.array(picked, int)).tolist() == expected.tolist()
