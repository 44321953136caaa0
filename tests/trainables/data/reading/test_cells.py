import unicodedata

import pytest

from trainables.data.reading.cells import NA_VALUES, Cells, number_key, plain_id, plain_spellings, read_names, value_key


def names(counts, **settings):
    counts = dict.fromkeys(counts, 1) if not isinstance(counts, dict) else counts
    order = list(counts)

    def place(texts):
        return f"line {1 + min(order.index(text) for text in texts)}"

    return read_names(counts, cells=Cells(**settings), what="label y", unit="label", place_of=place)


@pytest.mark.parametrize(
    "text, key",
    [
        ("1", "1"), ("1.0", "1"), ("1.00", "1"), ("+1", "1"), ("1.", "1"), ("-1.50", "-1.5"), (".5", "0.5"),
        ("-0.0", "0"), ("007", None), ("1e3", None), ("", None), (".", None), ("-", None), ("1,0", None),
        ("\u0661", None), ("0x1", None),
    ],
)  # fmt: skip
def test_numbers_by_their_value_and_codes_as_they_are(text, key):
    assert number_key(text) == key
    if key is not None:
        assert float(text) == float(key)


def test_spellings_of_one_value_have_one_key():
    for spellings in (
        ("true", "True", "TRUE"),
        ("caf\u00e9", "cafe\u0301"),
        ("New York", "New\u00a0York", "New  York"),
        ("a", "a\u200b"),
    ):
        assert len({value_key(text) for text in spellings}) == 1
    assert len({value_key(text) for text in ("Drama", "drama", "DRAMA", "7", "07", "yes", "true")}) == 7


def test_a_column_with_one_spelling_each_stays_as_it_is():
    for column in (["1.0", "2.0"], ["True", "False"], ["cafe\u0301", "x"], ["007", "7"], ["1", "2", "true"]):
        assert plain_spellings(dict.fromkeys(column, 1)) == {}


def test_several_spellings_become_the_plain_one():
    assert plain_spellings({"1.0": 9, "1": 1, "2.00": 4, "1.00": 1, "x": 1}) == {"1.0": "1", "1.00": "1", "2.00": "2"}
    assert plain_spellings({"TRUE": 5, "True": 1, "False": 1}) == {"True": "TRUE"}
    assert plain_spellings({"TRUE": 5, "true": 1}) == {"TRUE": "true"}
    decomposed = unicodedata.normalize("NFD", "té")
    assert plain_spellings({decomposed: 9, "té": 1}) == {decomposed: "té"}


def test_truth_values_and_one_are_one_value_where_there_is_nothing_else():
    assert plain_spellings({"1": 1, "0": 1, "true": 1, "FALSE": 1}) == {"true": "1", "FALSE": "0"}
    assert plain_spellings({"1.0": 1, "TRUE": 1}) == {"1.0": "1", "TRUE": "1"}
    assert plain_spellings({"1": 1, "2": 1, "true": 1}) == {}


@pytest.mark.parametrize("word", ["NaN", "nan", "NA", "None", "null", "N/A", "", *NA_VALUES])
def test_words_that_mean_missing(word):
    assert Cells().is_missing(word)


def test_what_is_missing_can_be_said():
    cells = Cells(na_values=frozenset({"-999", "unknown"}))
    assert [cells.is_missing(text) for text in ("-999", "-999.0", "unknown", "", "NaN", "999")] == [
        True, True, True, True, False, False,
    ]  # fmt: skip
    assert not any(Cells().is_missing(text) for text in ("none", "na", "0", "nano", "Nancy"))


def test_what_was_read_otherwise_is_said_with_count_and_place():
    changed, notes = names({"a": 3, "NaN": 6, "1": 2, "1.0": 5})
    assert changed == {"NaN": None, "1.0": "1"}
    assert notes == [
        "label y: 6 labels read as missing: NaN; first line 2",
        "label y: 1 value in several spellings, 5 times another than the one that is kept: '1' and '1.0' as '1'; "
        "first line 4",
    ]
    assert names({"NaN": 1, "": 2, "b": 1})[1] == [
        "label y: 3 labels read as missing: empty (2), NaN (1); first line 1"
    ]
    assert names({"a": 1, "1": 1, "1.0": 1}, normalise=False) == ({}, [])
    note = names({"1": 1, "1.0": 1}, setting="table.yaml")[1][0]
    assert note.endswith("first line 2 (normalise: false in table.yaml says otherwise)")


def test_what_is_not_sure_is_said():
    assert names(["Drama", "drama", "x"]) == (
        {},
        ["label y: 'Drama' and 'drama' differ in capitals only and stay apart"],
    )
    assert names({"none": 4, "?": 1, "x": 1}) == (
        {},
        ["label y: '?' (1), 'none' (4) may mean that there is no label, first line 1"],
    )
    assert names(["none"]) == ({}, [])


def test_ids_keep_what_tells_them_apart():
    assert [plain_id(text) for text in ("7.0", "7", "3.10", "007", "a.0", "-2.00")] == [
        "7",
        "7",
        "3.10",
        "007",
        "a.0",
        "-2",
    ]
    assert plain_id("e\u0301") == "\u00e9"
