import csv
import io
import math
from collections import Counter

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from disk import by_id, classes, jsonl, png, write_files

from trainables.data.formats import table as table_format

YAML = """
files: {files}
text: [title, body]
labels:
  topic: {{kind: multiclass}}
  tags: {{column: keywords, kind: multilabel, separator: "|"}}
  score: {{column: score, kind: regression}}
numeric: [price, weight]
categorical: brand
id: key
group: author
"""
COLUMNS = ("key", "title", "body", "topic", "keywords", "score", "price", "weight", "brand", "author", "unused")


def row(at):
    return {
        "key": f"k{at}", "title": f"Title, {at}", "body": 'two\n"lines"' if at % 2 else "", "topic": "ab"[at % 2],
        "keywords": ("x|y", "y", "")[at % 3], "score": at / 2, "price": at, "weight": None if at == 3 else 2.5,
        "brand": "Acme" if at % 4 else None, "author": f"w{at // 2}", "unused": "z" * 50,
    }  # fmt: skip


def as_csv(rows, delimiter=","):
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def write_csv(folder, name="data.csv", num=40):
    write_files(
        folder,
        {name: as_csv(map(row, range(num)), "\t" if ".tsv" in name else ","), "table.yaml": YAML.format(files=name)},
    )


def write_jsonl(folder, name="data.jsonl"):
    write_files(folder, {name: jsonl(*map(row, range(40))), "table.yaml": YAML.format(files=name)})


def write_parquet(folder, name="data.parquet"):
    rows = [row(at) | {"keywords": row(at)["keywords"].split("|") if row(at)["keywords"] else None} for at in range(40)]
    folder.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / name, row_group_size=7)
    write_files(folder, {"table.yaml": YAML.format(files=name).replace(', separator: "|"', "")})


LAYOUTS = {
    "csv": write_csv,
    "csv.gz": lambda folder: write_csv(folder, "data.csv.gz"),
    "tsv": lambda folder: write_csv(folder, "data.tsv"),
    "jsonl": write_jsonl,
    "jsonl.gz": lambda folder: write_jsonl(folder, "data.jsonl.gz"),
    "parquet": write_parquet,
}
write = write_csv


def groups(table):
    return [int(id[1:]) // 2 for id in table.ids]


def read(folder):
    return table_format.read(str(folder))


def refused(folder):
    with pytest.raises(ValueError) as caught:
        read(folder)
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_formats_say_the_same(tmp_path, layout):
    LAYOUTS[layout](tmp_path)
    table = read(tmp_path)
    assert table.problems == []
    assert table.ids == [f"k{at}" for at in range(40)]
    assert table.texts[:2] == ["Title, 0", 'Title, 1 two\n"lines"']
    assert list(table.targets) == ["topic", "tags", "score"]
    assert classes(table, "topic") == ["ab"[at % 2] for at in range(40)]
    assert classes(table, "tags") == [({"x", "y"}, {"y"}, None)[at % 3] for at in range(40)]
    assert classes(table, "score") == [at / 2 for at in range(40)]
    assert table.numeric_names == ("price", "weight")
    assert np.array_equal(table.numeric[:4], [[0, 2.5], [1, 2.5], [2, 2.5], [3, math.nan]], equal_nan=True)
    assert table.categorical == {"brand": ["Acme" if at % 4 else None for at in range(40)]}
    assert [path.name for path in table_format.sources(str(tmp_path))] == ["table.yaml", f"data.{layout}"]
    assert Counter(table.split.tolist()) == {"train": 32, "val": 4, "test": 4}
    assert len(set(zip(groups(table), table.split.tolist(), strict=True))) == 20


def test_splits_do_not_depend_on_the_format_or_the_order(tmp_path):
    splits = []
    for layout, writer in LAYOUTS.items():
        writer(tmp_path / layout)
        splits.append(by_id(table := read(tmp_path / layout), table.split.tolist()))
    lines = [row(at) for at in reversed(range(40))]
    write_files(tmp_path / "csv", {"data.csv": as_csv(lines)})
    splits.append(by_id(table := read(tmp_path / "csv"), table.split.tolist()))
    assert all(split == splits[0] for split in splits)


def test_files_by_split(tmp_path):
    for at, name in enumerate(("a", "b", "c", "d")):
        write_files(tmp_path, {f"{name}.csv": f"t,y\nx{at},{at % 2}\nz{at},{1 - at % 2}\n"})
    write_files(
        tmp_path,
        {
            "table.yaml": "files: {train: [a.csv, b.csv], dev: c.csv, test: d.csv}\ntext: t\n"
            "labels: {y: {kind: multiclass}}"
        },
    )
    table = read(tmp_path)
    assert table.ids == ["a.csv-2", "a.csv-3", "b.csv-2", "b.csv-3", "c.csv-2", "c.csv-3", "d.csv-2", "d.csv-3"]
    assert table.split.tolist() == ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    assert classes(table) == ["0", "1", "1", "0", "0", "1", "1", "0"]


def test_splits_by_column_and_groups_across_them(tmp_path):
    text = "part,y,g\ntrain,1,a\nvalidation,2,b\ntest,1,c\n,2,d\nholdout,1,e\n"
    yaml = "files: data.csv\nlabels: {y: {kind: multiclass}}\nsplit: part\ngroup: g\n"
    write_files(tmp_path, {"data.csv": text, "table.yaml": yaml})
    table = read(tmp_path)
    assert table.split.tolist() == ["train", "val", "test"] and table.texts is None
    assert table.problems == [
        "data.csv line 5: 'part' is '', none of train, val, test, dev, valid, validation",
        "data.csv line 6: 'part' is 'holdout', none of train, val, test, dev, valid, validation",
    ]
    write_files(tmp_path, {"data.csv": text + "test,2,a\n"})
    assert refused(tmp_path) == "table.yaml: group: 'a' is in splits train and test"


def test_pictures_by_path(tmp_path):
    yaml = "files: data.csv\nimage: p\nlabels: {y: {kind: multiclass}}"
    lines = "p,y\na.png,1\nsub/b.png,2\nc.png,1\n../x.png,2\n/etc/passwd,1\n,1\n"
    write_files(tmp_path, {"data.csv": lines, "table.yaml": yaml, "a.png": png(1), "sub/b.png": png(2)})
    table = read(tmp_path)
    assert list(table.images) == [png(1), png(2)]
    assert table.problems == [
        "data.csv line 4: no picture c.png",
        "data.csv line 5: picture '../x.png' leaves the folder",
        "data.csv line 6: picture '/etc/passwd' is absolute",
        "data.csv line 7: picture '' is no path",
    ]


@pytest.mark.parametrize("is_struct", [False, True])
def test_pictures_in_parquet(tmp_path, is_struct):
    """Bytes, or a struct as Hugging Face datasets write it; some missing."""
    data = [None if at == 5 else b"" if at == 6 else png(at) for at in range(20)]
    column = [None if at == 5 else {"bytes": data[at], "path": f"{at}.png"} for at in range(20)] if is_struct else data
    for part in range(2):
        rows = pyarrow.table({"p": column[part * 10 : part * 10 + 10], "y": ["a", "b"] * 5})
        pyarrow.parquet.write_table(rows, tmp_path / f"{part}.parquet", row_group_size=3)
    write_files(tmp_path, {"table.yaml": "files: [0.parquet, 1.parquet]\nimage: p\nlabels: {y: {kind: multiclass}}"})
    table = read(tmp_path)
    assert list(table.images) == [png(at) for at in range(20) if at not in (5, 6)]
    assert table.images[17] == png(19) and table.images[0] == png(0) and list(table.images[3:5]) == [png(3), png(4)]
    assert table.problems == ["0.parquet row 6: no bytes in 'p'", "0.parquet row 7: no bytes in 'p'"]


def test_values_that_are_no_numbers(tmp_path):
    write_files(
        tmp_path,
        {
            "data.csv": "y,n\n1.5,2\nmany,3\n2,1e400\n,\n-1,nan\n",
            "table.yaml": "files: data.csv\nlabels: {y: {kind: regression}}\nnumeric: n",
        },
    )
    table = read(tmp_path)
    assert classes(table) == [1.5, None, 2, None, -1]
    assert np.array_equal(table.numeric[:, 0], [2, 3, math.nan, math.nan, math.nan], equal_nan=True)
    assert table.problems == [
        "data.csv line 3: 'y' is 'many', no number: taken as missing",
        "data.csv line 4: 'n' is '1e400', no number: taken as missing",
    ]


def test_whole_numbers_as_classes(tmp_path):
    """A column of whole numbers with gaps is one of floats in Parquet."""
    pyarrow.parquet.write_table(
        pyarrow.table({"y": [1.0, None, 3.0, 2.5], "z": [True, False, True, None]}), tmp_path / "d.parquet"
    )
    yaml = "files: d.parquet\nlabels:\n  y: {kind: multiclass}\n  z: {kind: multiclass}"
    write_files(tmp_path, {"table.yaml": yaml})
    table = read(tmp_path)
    assert classes(table, "y") == ["1", None, "3", "2.5"] and classes(table, "z") == ["True", "False", "True", None]


def test_rows_that_cannot_be_used_are_listed(tmp_path):
    write_files(
        tmp_path,
        {
            "d.jsonl": jsonl({"k": 1, "t": "a", "y": "p"}, "{", {"k": 1, "t": "b", "y": "p"}, {"t": "c", "y": "p"},
                             {"k": "2", "t": {"x": 1}, "y": "p"}, {"k": 3, "t": "\ud800", "y": "q"}),
            "table.yaml": "files: d.jsonl\nid: k\ntext: t\nlabels: {y: {kind: multiclass}}",
        },
    )  # fmt: skip
    table = read(tmp_path)
    assert by_id(table, table.texts) == {"1": "a", "3": "?"}
    assert table.problems == [
        "d.jsonl line 2: not a JSON object (Expecting property name enclosed in double quotes at column 2)",
        "d.jsonl line 3: id 1 was there before",
        "d.jsonl line 4: no 'k'",
        "d.jsonl line 5: 't' is no single value: {'x': 1}",
    ]


@pytest.mark.parametrize(
    "yaml, message",
    [
        (
            "file: d.csv\nlabels: {y: {kind: multiclass}}",
            "'file' is no key, did you mean 'files'? Known: files, text, image",
        ),
        (
            "files: d.csv\nlabels: {y: {kind: multiclas}}",
            "labels.y.kind: 'multiclas' is none, did you mean 'multiclass'?",
        ),
        (
            "files: d.csv\nlabels: {y: {kind: multiclass, colum: y}}",
            "labels.y: 'colum' is no key, did you mean 'column'?",
        ),
        (
            "files: d.csv\ntext: titel\nlabels: {y: {kind: multiclass}}",
            "text: d.csv has no column 'titel', did you mean 'title'? Known: title, y",
        ),
        ("files: d.csv\nlabels: {z: {kind: multiclass}}", "labels.z.column: d.csv has no column 'z'. Known: title, y"),
        ("files: ../d.csv\nlabels: {y: {kind: multiclass}}", "files: '../d.csv' leaves the folder"),
        ("files: /d.csv\nlabels: {y: {kind: multiclass}}", "files: '/d.csv' is absolute"),
        ("files: d.xls\nlabels: {y: {kind: multiclass}}", "files: 'd.xls' ends in none of .csv, .csv.gz"),
        ("files: e.csv\nlabels: {y: {kind: multiclass}}", "files: e.csv is missing"),
        ("files: {trian: d.csv}\nlabels: {y: {kind: multiclass}}", "files: 'trian' is no split, did you mean 'train'?"),
        (
            "files: {train: d.csv}\nsplit: y\nlabels: {y: {kind: multiclass}}",
            "split: the files are given by split already",
        ),
        ("files: d.csv", "labels: missing; write 'labels: {topic: {column: topic, kind: multiclass}}'"),
        ("labels: {y: {kind: multiclass}}", "files: missing"),
        ("files: d.csv\nnumeric: y\nlabels: {y: {kind: regression}}", "numeric: column 'y' is the label 'y'"),
        (
            "files: d.csv\nnumeric: [title, title]\nlabels: {y: {kind: regression}}",
            "numeric: column 'title' is named twice",
        ),
        ("files: d.csv\nid: 3\nlabels: {y: {kind: regression}}", "id: 3 is no column name"),
        (
            "files: d.csv\nlabels: {y: {kind: multiclass, separator: '|'}}",
            "labels.y.separator: a text that stands between",
        ),
        ("files: d.csv\nfiles: d.csv", "table.yaml line 2: not YAML ('files' is given twice, first on line 1)"),
        ("files: [d.csv", "not YAML ("),
        ("- files", "table.yaml: not a mapping of keys such as files and labels"),
        ("files: !!python/object/apply:os.getcwd []", "table.yaml line 1: not YAML ('files' the tag"),
        (
            "files: d.csv\nlabels: {title: {kind: multiclass}}",
            "labels.title: column 'title': all labelled rows are 'a'",
        ),
    ],
)
def test_a_table_yaml_that_cannot_be_used(tmp_path, yaml, message):
    write_files(tmp_path, {"table.yaml": yaml, "d.csv": "title,y\na,1\na,2\n"})
    assert message in refused(tmp_path)


def test_everything_wrong_is_said_at_once(tmp_path):
    write_files(tmp_path, {"table.yaml": "file: d.csv\nlabels: {y: {kind: x}}\nnumeric: 7"})
    assert refused(tmp_path).splitlines() == [
        "table.yaml has 4 problems:",
        "  'file' is no key, did you mean 'files'? "
        "Known: files, text, image, labels, numeric, categorical, id, group, split, na_values, normalise, "
        "separator, ...",
        "  files: missing",
        "  labels.y.kind: 'x' is none. Known: multiclass, multilabel, regression",
        "  numeric: 7 is no column name; quote it",
    ]


@pytest.mark.parametrize(
    "name, content, message",
    [
        (
            "d.csv",
            b"title,y\n\xff,1\n\xff,2\n",
            "no row that can be used; 2 problems, the first: d.csv line 2: not UTF-8",
        ),
        ("d.csv", b"", "d.csv: is empty"),
        ("d.csv", b"y,y\n1,2\n", "d.csv line 1: column 'y' is named twice"),
        ("d.csv", b'title,y\n"a,1\nb,2\n', "d.csv line 2: a quote is opened here and never closed"),
        ("d.jsonl", b"title,y\n", "d.jsonl line 1: not a file of JSON lines"),
        ("d.jsonl", b'{"title": 1}\n', "table.yaml: labels.y.column: d.jsonl has no column 'y'. Known: title"),
        ("d.parquet", b"PAR1 or not", "d.parquet: not a Parquet file, or not all of it"),
        ("d.csv", b"title,y\na,1\nb,1\n", "labels.y: column 'y': all labelled rows are '1'"),
    ],
)
def test_files_that_are_something_else(tmp_path, name, content, message):
    write_files(
        tmp_path, {name: content, "table.yaml": f"files: {name}\ntext: title\nlabels: {{y: {{kind: multiclass}}}}"}
    )
    assert message in refused(tmp_path)


def test_without_a_table_yaml(tmp_path):
    assert "has no table.yaml. Known layouts: table.yaml and the files that it names" in refused(tmp_path)
