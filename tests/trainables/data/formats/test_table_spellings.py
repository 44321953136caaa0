"""A table as its owner means it: one value in several spellings, missing-value words, lists, quotes, line ends, ids."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from disk import BY_SPLIT, ONE, classes, jsonl, png, read, refused, write_files

from trainables.data.cache.identity import dataset_key
from trainables.data.reading.dataset import DatasetRef, load_table


# --- one value, several spellings -------------------------------------------------------------------
def test_whole_numbers_with_and_without_a_point(tmp_path):
    yaml = BY_SPLIT + "categorical: c\n"
    files = {
        "a__csv": "t,y,c\nx,0.0,5.0\nz,1.0,6.0\n",
        "b__csv": "t,y,c\nx,0,5\nz,1,6\n",
        "c__csv": "t,y,c\nx,0.00,5\nz,1,7\n",
    }
    table = read(tmp_path, yaml, **files)
    assert table.targets["y"].task.classes == ("0", "1") and classes(table) == ["0", "1"] * 3
    assert table.categorical["c"] == ["5", "6", "5", "6", "5", "7"]
    assert table.notes == [
        "label y: 2 values in several spellings, 3 times another than the one that is kept: '0' and '0.0' and '0.00' "
        "as '0', '1' and '1.0' as '1'; first a.csv line 2 (normalise: false in table.yaml says otherwise)",
        "categorical c: 2 values in several spellings, 2 times another than the one that is kept: '5' and '5.0' as "
        "'5', '6' and '6.0' as '6'; first a.csv line 2 (normalise: false in table.yaml says otherwise)",
    ]
    apart = read(tmp_path, yaml + "normalise: false\n", **files)
    assert apart.targets["y"].task.classes == ("0", "0.0", "0.00", "1", "1.0") and apart.notes == []


def test_types_of_several_formats(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"t": ["x", "z"], "y": [True, False]}), tmp_path / "a.parquet")
    yaml = BY_SPLIT.replace("a.csv", "a.parquet").replace("c.csv", "c.jsonl")
    lines = jsonl({"t": "x", "y": True}, {"t": "z", "y": "FALSE"})
    table = read(tmp_path, yaml, b__csv="t,y\nx,true\nz,false\n", c__jsonl=lines)
    assert table.targets["y"].task.classes == ("false", "true") and classes(table) == ["true", "false"] * 3
    lines = jsonl({"t": "x", "y": 1}, {"t": "z", "y": 0.0})
    table = read(tmp_path, yaml, b__csv="t,y\nx,true\nz,false\n", c__jsonl=lines)
    assert classes(table) == ["1", "0"] * 3


def test_accents_as_one_character_or_two(tmp_path):
    def text(form):
        return unicodedata.normalize(form, "t,y\nx,caf\u00e9\ny,th\u00e9\n")

    table = read(tmp_path, BY_SPLIT, a__csv=text("NFC"), b__csv=text("NFD"), c__csv=text("NFC"))
    assert (
        table.targets["y"].task.classes == ("caf\u00e9", "th\u00e9") and classes(table) == ["caf\u00e9", "th\u00e9"] * 3
    )
    assert "2 values in several spellings, 2 times another" in table.notes[0] and "first b.csv line 2" in table.notes[0]


def test_classes_of_a_multilabel_column_and_names_of_columns(tmp_path):
    yaml = 'files: d.csv\nlabels: {gen\u00e9: {kind: multilabel, separator: "|"}}\n'
    table = read(tmp_path, yaml, d__csv="x,gene\u0301\n1,cafe\u0301|1.0\n2,caf\u00e9\n3,1\n4,1|NaN\n5,NaN\n6,\n")
    assert classes(table) == [{"caf\u00e9", "1"}, {"caf\u00e9"}, {"1"}, {"1"}, None, None]
    assert table.notes[0] == "label gen\u00e9: 3 labels read as missing: NaN (2), empty (1); first d.csv line 5"


def test_names_of_parquet_columns(tmp_path):
    columns = {unicodedata.normalize("NFD", name): values for name, values in {
        "\u00e9": [png(1), png(2)], "a\u00f1o": ["1", "2"], "x": ["p", "q"],
    }.items()}  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "d.parquet")
    yaml = "files: d.parquet\nimage: \u00e9\ntext: x\nlabels: {a\u00f1o: {kind: multiclass}}\n"
    table = read(tmp_path, yaml)
    assert list(table.images) == [png(1), png(2)] and classes(table) == ["1", "2"] and table.texts == ["p", "q"]


def test_ids_and_the_names_in_exclude_txt(tmp_path):
    yaml = ONE + "id: id\n"
    rows = "id,t,y\n1.0,x,a\n2.0,x,b\ne\u0301,x,a\n3.10,x,b\n3.1,x,a\n"
    table = read(tmp_path, yaml, d__csv=rows, exclude__txt="\ufeff2\r3.0\r".replace("3.0", "\u00e9"))
    assert table.ids == ["1", "2", "\u00e9", "3.10", "3.1"] and table.problems == []
    for function in (load_table, dataset_key):
        function.cache_clear()
    assert load_table(DatasetRef("table", str(tmp_path))).ids == ["1", "3.10", "3.1"]


# --- missing values ---------------------------------------------------------------------------------
WORDS = ("NaN", "nan", "NA", "None", "null", "N/A", "")


def test_words_that_mean_missing(tmp_path):
    yaml = ONE + "numeric: n\ncategorical: c\n"
    rows = "".join(f"x,{word},{word},{word}\n" for word in WORDS) + "x,a,1,p\nx,b,2,q\n"
    table = read(tmp_path, yaml, d__csv="t,y,n,c\n" + rows)
    assert classes(table) == [None] * 7 + ["a", "b"] and table.categorical["c"] == [None] * 7 + ["p", "q"]
    assert np.array_equal(table.numeric[:, 0], [np.nan] * 7 + [1, 2], equal_nan=True) and table.problems == []
    counts = "N/A (1), NA (1), NaN (1), None (1), nan (1), null (1)"
    assert table.notes == [
        f"label y: 7 labels read as missing: empty (1), {counts}; first d.csv line 2",
        f"categorical c: 6 values read as missing: {counts}; first d.csv line 2",
        "numeric n: 6 values read as missing: NaN (1), nan (1), NA (1), None (1), null (1), N/A (1); first d.csv line 2"
        .replace("NaN (1), nan (1), NA (1), None (1), null (1), N/A (1)", counts),
    ]  # fmt: skip


def test_one_word_is_said_as_in_the_file(tmp_path):
    table = read(tmp_path, ONE, d__csv="t,y\n" + "x,NaN\n" * 6 + "x,a\nx,b\n")
    assert table.notes == ["label y: 6 labels read as missing: NaN; first d.csv line 2"]


def test_other_words_can_be_given(tmp_path):
    yaml = ONE + "numeric: n\nna_values: [-999, '?']\n"
    table = read(tmp_path, yaml, d__csv="t,y,n\nx,NA,1\nx,?,-999.0\nx,b,?\nx,,3\n")
    assert classes(table) == ["NA", None, "b", None]
    assert np.array_equal(table.numeric[:, 0], [1, np.nan, np.nan, 3], equal_nan=True)
    assert classes(read(tmp_path, ONE + "na_values: []\n", d__csv="t,y\nx,NaN\nx,a\nx,\n")) == ["NaN", "a", None]


def test_regression_labels(tmp_path):
    yaml = "files: d.csv\nlabels: {y: {kind: regression}}\n"
    table = read(tmp_path, yaml, d__csv="x,y\n1,NA\n2,1.5\n3,\n")
    assert classes(table) == [None, 1.5, None]
    assert table.notes == ["label y: 1 label read as missing: NA; first d.csv line 2"]


def test_a_column_without_any_number_is_refused(tmp_path):
    yaml = ONE + "numeric: n\n"
    assert refused(tmp_path, yaml, d__csv="t,y,n\nx,a,many\nx,b,\nx,a,few\n") == (
        "table.yaml: numeric: column 'n' has no number; the first: d.csv line 2: 'n' is 'many', no number: "
        "taken as missing"
    )


def test_a_decimal_comma_is_asked_about(tmp_path):
    table = read(tmp_path, ONE + "numeric: n\n", d__csv="t;y;n\nx;a;1,5\nx;b;2\n")
    assert table.problems == ["d.csv line 2: 'n' is '1,5', no number (a decimal comma? write 1.5): taken as missing"]


# --- lists ------------------------------------------------------------------------------------------
LABELS = 'files: d.csv\nlabels: {y: {kind: multilabel, separator: ","}}\n'


@pytest.mark.parametrize("dumps", [str, json.dumps])
def test_lists_as_text(tmp_path, dumps):
    rows = [["Drama", "Comedy"], ["Drama"], [], ["it's"]]
    lines = ["x,y", *(f'{at},"{dumps(row).replace(chr(34), chr(34) * 2)}"' for at, row in enumerate(rows))]
    table = read(tmp_path, LABELS, d__csv="\n".join([*lines, "5,", '6,"Drama,Comedy"', ""]))
    assert table.targets["y"].task.classes == ("Comedy", "Drama", "it's")
    assert classes(table) == [{"Drama", "Comedy"}, {"Drama"}, set(), {"it's"}, None, {"Drama", "Comedy"}]
    assert "label y: 4 times a text that is a list, read as its items; first d.csv line 2: " in table.notes[-1]


def test_lists_that_cannot_be_labels(tmp_path):
    text = "x,y\n1,\"[{'id': 18, 'name': 'Drama'}]\"\n"
    assert refused(tmp_path, LABELS, d__csv=text).startswith(
        "table.yaml: labels.y: column 'y' holds lists of objects, d.csv line 2: \"[{'id': 18, 'name': 'Drama'}]\""
    )
    table = read(tmp_path, ONE, d__csv="t,y\nx,['a']\nx,['b']\nx,c\n")
    assert table.notes == [
        "label y: 2 times a list where one value is expected, and taken as one text (kind: multilabel reads lists); "
        "first d.csv line 2: ['a']"
    ]


def test_another_separator_is_asked_about(tmp_path):
    rows = "x,y\n" + "".join(f"{at},{'|'.join(names)}\n" for at, names in enumerate(("ab", "b", "abc", "ca", "a")))
    table = read(tmp_path, LABELS, d__csv=rows)
    assert table.notes == [
        "label y: no row has the separator given, and 3 of 5 rows have '|', such as 'a|b': is that labels.y.separator?"
    ]
    assert read(tmp_path, LABELS.replace('","', '"|"'), d__csv=rows).notes == []


# --- quotes and separators --------------------------------------------------------------------------
TSV = ONE.replace("d.csv", "d.tsv")


def test_an_unquoted_tsv_keeps_its_rows_and_labels(tmp_path):
    text = 't\ty\n"what a film\tpos\nhe said wow"\tneg\nfine\tpos\nbad\tneg\n'
    table = read(tmp_path, TSV, d__tsv=text)
    assert table.texts == ['"what a film', 'he said wow"', "fine", "bad"] and table.problems == []
    assert classes(table) == ["pos", "neg", "pos", "neg"]
    assert table.notes == [
        "d.tsv: 1 field with a quotation mark that is not closed, first line 2: read without quotes, each line is a row"
    ]
    swallowed = read(tmp_path, TSV + "quote: '\"'\n", d__tsv=text)
    assert len(swallowed.ids) == 3 and swallowed.notes == [
        "d.tsv: 1 time a quoted field that runs over several lines; first d.tsv line 2"
    ]


def test_a_quoted_tsv_is_read_as_such(tmp_path):
    table = read(tmp_path, TSV, d__tsv='"t"\t"y"\n"say ""hi"""\t"pos"\n"x"\t"neg"\n')
    assert table.texts == ['say "hi"', "x"] and classes(table) == ["pos", "neg"] and table.notes == []
    plain = read(tmp_path, TSV + "quote: false\n", d__tsv='t\ty\n"a"\tpos\nb\tneg\n')
    assert plain.texts == ['"a"', "b"]
    apostrophes = read(tmp_path, ONE + 'quote: "\'"\n', d__csv="t,y\n'a,b',1\nc,2\n")
    assert apostrophes.texts == ["a,b", "c"]


def test_fields_over_several_lines_of_a_csv_are_said(tmp_path):
    table = read(tmp_path, ONE, d__csv='t,y\n"a\nb",1\nc,2\n"d\n\ne",1\n')
    assert table.texts == ["a\nb", "c", "d\n\ne"]
    assert table.notes == ["d.csv: 2 times a quoted field that runs over several lines; first d.csv line 2"]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_another_separator_of_fields(tmp_path, separator):
    text = "t,y\nx,1\nz,2\n".replace(",", separator)
    table = read(tmp_path, ONE, d__csv=text)
    assert table.texts == ["x", "z"] and classes(table) == ["1", "2"]
    assert table.notes == [f"d.csv: fields stand between {separator!r}"]
    assert read(tmp_path, ONE + f"separator: {json.dumps(separator)}\n", d__csv=text).notes == []


def test_the_first_line_that_excel_reads(tmp_path):
    table = read(tmp_path, ONE, d__csv="\ufeff\ufeffsep=|\nt|y\nx|1\nz|2\n")
    assert table.texts == ["x", "z"] and classes(table) == ["1", "2"] and table.ids == ["d.csv-3", "d.csv-4"]


@pytest.mark.parametrize(
    "line, message",
    [
        ("na_value: x", "'na_value' is no key, did you mean 'na_values'?"),
        ("normalize: false", "'normalize' is no key, did you mean 'normalise'?"),
        ("seperator: x", "'seperator' is no key, did you mean 'separator'?"),
        ("qoute: x", "'qoute' is no key, did you mean 'quote'?"),
        ("na_values: {a: b}", "na_values: {'a': 'b'} is no word; quote it"),
        ("normalise: 3", "normalise: 3 is neither true nor false"),
        ("separator: '::'", "separator: '::' is no single character"),
        ("quote: none", "quote: 'none' is neither false (none), true (\") nor a character"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path, line, message):
    assert message in refused(tmp_path, f"{ONE}{line}\n", d__csv="t,y\nx,1\nz,2\n")


# --- other systems ----------------------------------------------------------------------------------
@pytest.mark.parametrize("end", ["\r", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_line_ends_and_byte_order_marks(tmp_path, end, encoding):
    text = f"t,y{end}x,caf\u00e9{end}y,0"
    table = read(tmp_path, ONE, d__csv=text.encode(encoding))
    assert classes(table) == ["caf\u00e9", "0"] and table.problems == table.notes == []
    lines = end.join([json.dumps({"t": "x", "y": "1"}), json.dumps({"t": "y", "y": "0"})])
    table = read(tmp_path, ONE.replace("csv", "jsonl").replace("\n", end), d__jsonl=lines.encode(encoding))
    assert classes(table) == ["1", "0"]


def test_picture_names_of_other_systems(tmp_path):
    yaml = "files: D.CSV\nimage: p\nlabels: {y: {kind: multiclass}}\n"
    names = [
        "img\\a.png",
        "img/b.PNG",
        f"file://{tmp_path}/img/c%20d.png",
        "img/caf\u00e9.png",
        "IMG/a.png",
        "img/a.png",
    ]
    on_disk = ["img/a.png", "img/b.png", "img/c d.png", unicodedata.normalize("NFD", "img/caf\u00e9.png")]
    write_files(tmp_path, {name: png(at) for at, name in enumerate(on_disk)})
    wrong = ["https://x.org/a.png", "C:\\a.png", "file:///etc/passwd", "img\\..\\..\\x.png"]
    rows = [f"{name},{'ab'[at % 2]}" for at, name in enumerate(names + wrong)]
    write_files(tmp_path, {"D.CSV": "\n".join(["p,y", *rows])})
    table = read(tmp_path, yaml)
    assert list(table.images) == [png(at) for at in (0, 1, 2, 3, 0, 0)]
    address = "is an address, not a file below the folder: fetch it, and write its path here"
    assert table.problems == [
        f"D.CSV line 8: picture 'https://x.org/a.png' {address}",
        "D.CSV line 9: picture 'C:\\\\a.png' is absolute",
        f"D.CSV line 10: picture 'file:///etc/passwd' {address}",
        "D.CSV line 11: picture 'img\\\\..\\\\..\\\\x.png' leaves the folder",
    ]
    assert table.notes == [
        "pictures: 5 times a name that is spelled in another way on disk; first D.CSV line 2: img\\a.png is img/a.png"
    ]
    assert read(tmp_path, yaml.replace("D.CSV", "d.csv")).ids == table.ids


def test_a_json_array_is_read_as_its_objects(tmp_path):
    yaml = ONE.replace("csv", "jsonl")
    rows = [{"t": f"x{at}", "y": "ab"[at % 2]} for at in range(4)]
    for text in (json.dumps(rows), json.dumps(rows, indent=1), "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n"):
        table = read(tmp_path, yaml, d__jsonl=text)
        assert table.texts == ["x0", "x1", "x2", "x3"] and classes(table) == ["a", "b"] * 2
    assert table.ids == [f"d.jsonl-{line}" for line in (2, 3, 4, 5)]  # of the last spelling
    cut = refused(tmp_path, yaml, d__jsonl=text[:-20])
    assert cut.startswith("d.jsonl line 5: one JSON array, and broken here (")
