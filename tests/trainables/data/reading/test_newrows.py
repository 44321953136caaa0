"""Cells of new rows: what they mean to a model that was trained on others."""

import math

import pytest

from trainables.data.reading.cells import Cells, known_values, read_number
from trainables.data.reading.newrows import RowReader, check_columns, in_tables
from trainables.modelfolder import Columns, ModelFacts
from trainables.task import Task


@pytest.mark.parametrize(
    "known, text, found",
    [
        (("1", "2"), "1.0", "1"), (("0", "1"), "TRUE", "1"), (("1", "2"), "true", None),
        (("false", "true"), "True", "true"),
        (("007",), "7", None), (("Ärger",), "A\u0308rger", "Ärger"), (("a b",), "a  b", "a b"), (("a",), "A", None),
    ],
)  # fmt: skip
def test_a_value_is_found_by_any_of_its_spellings(known, text, found):
    assert known_values(known, Cells())(text) == found
    assert known_values(known, Cells(normalise=False))(text) == (text if text in known else None)


def test_numbers():
    cells = Cells(na_values=frozenset({"-1", "unknown"}))
    assert read_number("2.50", cells) == (2.5, None) and read_number(True, Cells()) == (1.0, None)
    for cell, word in ((None, ""), ("", ""), ("unknown", "unknown"), ("-1.0", "-1.0"), (-1, "-1")):
        number, said = read_number(cell, cells)
        assert math.isnan(number) and said == word
    for cell in ("12,5", "1_000", "inf", "abc", [1], {}):
        with pytest.raises(ValueError, match="no number"):
            read_number(cell, cells)


def test_rows_hold_their_place_and_paths_stay_below_the_folder(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    facts = ModelFacts(Task("regression"), "y", "table", "", rows={})
    reader = RowReader(facts, columns=Columns(text=("a", "b"), image="p", id="id"), root=tmp_path)
    rows = [{"id": 7.0, "a": " x ", "b": None, "p": "a.png"}, "damaged", {"p": "../a.png"}, {"p": "/etc/passwd"}]
    read = [reader.read(row, f"here-{at}") for at, row in enumerate(rows)]
    assert read[0] == {"id": "7", "text": "x", "path": str(tmp_path / "a.png")}
    assert read[1] == {"id": "here-1", "error": "damaged"}
    assert read[2]["error"].endswith("leaves the folder") and read[3]["error"].endswith("is absolute")
    tables = list(in_tables(iter(read), 3))
    assert [len(table) for table in tables] == [3, 1] and tables[0].schema == tables[1].schema
    assert tables[0]["text"].to_pylist() == ["x", None, None]


def test_a_missing_column_is_named_with_what_is_like_it():
    with pytest.raises(
        ValueError, match="f.csv: no column 'price', which the model reads as numeric, did you mean 'prize'"
    ):
        check_columns(Columns(text=("a",), numeric=("price",), id="id"), ["a", "prize"], "f.csv")
    check_columns(Columns(text=("a",), id="id"), ["a"], "f.csv")
