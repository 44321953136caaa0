import numpy as np
import pytest
from PIL import Image

from trainables.data.cache.identity import dataset_key
from trainables.data.cache.images import prepare_images
from trainables.data.reading.dataset import DatasetRef, load_table
from trainables.data.reading.exclude import without_excluded
from trainables.data.reading.sparse import SparseRows
from trainables.data.reading.table import Target

YAML = "files: rows.csv\nid: id\nimage: picture\nlabels: {label: {column: label, kind: multiclass}}\nsplit: split\n"


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for row in range(6):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(tmp_path / f"{row}.png")
        rows.append(f"r{row},{row}.png,{'ab'[row % 2]},{'val' if row > 3 else 'train'}")
    (tmp_path / "rows.csv").write_text("\n".join(["id,picture,label,split", *rows]) + "\n")
    (tmp_path / "table.yaml").write_text(YAML)
    for row in (1, 4):
        (tmp_path / f"{row}.png").write_bytes((tmp_path / f"{row}.png").read_bytes()[:60])
    return tmp_path


def fresh(folder):
    for function in (load_table, dataset_key):
        function.cache_clear()  # as in another process
    return DatasetRef("table", str(folder))


def test_broken_pictures_are_all_counted_and_can_be_left_out(cache, folder):
    with pytest.raises(ValueError, match=r"table row r1: the image cannot be decoded .*, and 1 more.*exclude.txt"):
        prepare_images(fresh(folder), size=16)
    key = dataset_key(DatasetRef("table", str(folder)))
    (folder / "exclude.txt").write_text("# truncated\nr4\n\nr1\n")
    dataset = fresh(folder)
    table = load_table(dataset)
    assert table.ids == ["r0", "r2", "r3", "r5"] and table.split.tolist() == ["train"] * 3 + ["val"]
    assert table.targets["label"].labels.tolist() == [0, 0, 1, 1]
    assert [line.split("exclude.txt")[1] for line in table.problems] == [
        " (line 2): row r4 is left out",
        " (line 4): row r1 is left out",
    ]
    assert prepare_images(dataset, size=16).shape == (4, 3, 16, 16)
    assert dataset_key(dataset) != key


def test_an_unknown_id_is_named_with_its_line(folder):
    (folder / "exclude.txt").write_text("r1\nr9\n")
    with pytest.raises(ValueError, match=r"exclude.txt \(line 2\): no row has the id 'r9'"):
        load_table(fresh(folder))


def test_everything_that_a_row_has_goes_with_it(tmp_path):
    table = load_table(DatasetRef("toy"))
    sparse = SparseRows([{row % 5: 1.0} for row in range(68)], 5)
    targets = {**table.targets, "sparse": Target(table.targets["many"].task, sparse, np.ones(68, bool))}  # pyright: ignore
    (tmp_path / "exclude.txt").write_text("row-0\nrow-66\n")
    rest = without_excluded(table.__class__(**{**vars(table), "targets": targets}), tmp_path / "exclude.txt")
    rows = [row for row in range(68) if row not in (0, 66)]
    assert rest.ids == [f"row-{row}" for row in rows]
    assert rest.texts == [table.texts[row] for row in rows]
    assert list(rest.images) == [table.images[row] for row in rows]
    assert np.array_equal(rest.numeric, table.numeric[rows], equal_nan=True)
    assert {name: list(values) for name, values in rest.categorical.items()} == {
        name: [values[row] for row in rows] for name, values in table.categorical.items()
    }
    for name in ("class", "many", "number"):
        assert np.array_equal(rest.targets[name].labels, table.targets[name].labels[rows])
    assert rest.targets["sparse"].labels[:].argmax(axis=1).tolist() == [row % 5 for row in rows]
    for at, row in enumerate(rows):
        one, other = rest.graph, table.graph
        mine = one.nodes[one.offsets[at] : one.offsets[at + 1]]
        assert mine.tolist() == other.nodes[other.offsets[row] : other.offsets[row + 1]].tolist()


def test_samples_that_cannot_be_used_stay_between_the_rows_that_are_left(folder):
    (folder / "3.png").unlink()
    (folder / "exclude.txt").write_text("r1\nr2\nr4\n")
    table = load_table(fresh(folder))
    assert table.ids == ["r0", "r5"] and [(one.before, one.id) for one in table.left_out] == [(1, "r3")]
