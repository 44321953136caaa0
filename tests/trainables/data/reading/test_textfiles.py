import gzip
import json
import random

import pytest

from trainables.data.reading.folder import FolderFiles, Pictures, unsafe
from trainables.data.reading.lines import read_lines
from trainables.data.reading.textfiles import csv_rows, json_document, json_lines, separated_lines


@pytest.fixture
def notes():
    return []


@pytest.fixture
def note(notes):
    return lambda path, line, why: notes.append((path.name, line, why))


def test_lines_of_packed_and_plain_files(tmp_path):
    data = "\ufeffone\r\ntwo\n\nfour".encode()
    for name, content in (("a.txt", data), ("a.txt.gz", gzip.compress(data))):
        (tmp_path / name).write_bytes(content)
        assert list(read_lines(tmp_path / name)) == [(1, b"one"), (2, b"two"), (3, b""), (4, b"four")]


def test_a_packed_file_that_is_cut_anywhere(tmp_path):
    rng = random.Random(0)
    lines = [json.dumps({"x": rng.random()}) for _ in range(2000)]
    data = gzip.compress("\n".join(lines).encode())
    for keep in (5, len(data) // 2, len(data) - 4):
        (tmp_path / "a.jsonl.gz").write_bytes(data[:keep])
        with pytest.raises(ValueError, match=r"a.jsonl.gz line \d+: the gzip file is cut short or broken"):
            list(json_lines(tmp_path / "a.jsonl.gz", lambda *_: None))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="gone.jsonl: cannot be read .No such file"):
        list(read_lines(tmp_path / "gone.jsonl"))


def test_json_lines_go_on_after_a_broken_one(tmp_path, notes, note):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n\n{"a": \n"text"\n' + b"[" * 100_000 + b'\n{"a": "\xe9"}\n{"a": 2}')
    assert list(json_lines(path, note)) == [(1, {"a": 1}), (7, {"a": 2})]
    assert notes == [
        ("a.jsonl", 3, "not a JSON object (Expecting value at column 7)"),
        ("a.jsonl", 4, "not a JSON object (a JSON str, not an object)"),
        ("a.jsonl", 5, "not a JSON object (nested too deeply)"),
        ("a.jsonl", 6, "not a JSON object (not UTF-8 at byte 8)"),
    ]


def test_a_document_of_another_kind(tmp_path):
    for content, message in (
        (b'{\n"a": ]', r"line 2: not JSON \(Expecting value at column 6\)"),
        (b'{\n"a": "\xe9"}', "line 2: not UTF-8 at byte 9"),
        (b"[" * 100_000, "nested too deeply"),
    ):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            json_document(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes("\ufeff[1]".encode())
    assert json_document(tmp_path / "a.json") == [1]


def test_csv_lines_are_those_of_an_editor(tmp_path, notes, note):
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbfx,y\r\n1,"a\nb\nc"\r\n\r\n2,"say ""hi"""\n3\n4,\xff\n5,"a"b\n6,z\n')
    rows = list(csv_rows(path, note))
    assert rows == [(2, {"x": "1", "y": "a\nb\nc"}), (6, {"x": "2", "y": 'say "hi"'}), (10, {"x": "6", "y": "z"})]
    assert notes == [
        ("a.csv", 7, "1 fields, not 2"),
        ("a.csv", 8, "not UTF-8"),
        ("a.csv", 9, "not CSV (',' expected after '\"')"),
    ]


def test_long_fields(tmp_path, notes, note):
    path = tmp_path / "a.csv"
    path.write_text("x\n" + "a" * 1_000_000 + "\n")
    assert [len(row["x"]) for _, row in csv_rows(path, note)] == [1_000_000]


def test_headers(tmp_path, note):
    path = tmp_path / "a.csv"
    for content, message in (
        ("x,y,x\n", "line 1: column 'x' is named twice"),
        ("userId,movieId\n", "line 1: no column 'rating'. Known: userId, movieId"),
        ("ratings\n", "no column 'rating', did you mean 'ratings'"),
        ("", "is empty"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            list(csv_rows(path, note, required=("rating",)))


def test_separated_lines(tmp_path, notes, note):
    path = tmp_path / "a.dat"
    path.write_bytes("1::Am\u00e9lie::x\n\n2::a::b::c\n".encode("latin-1"))
    assert list(separated_lines(path, note, separator="::", num_fields=3, encoding="latin-1")) == [
        (1, ["1", "Am\u00e9lie", "x"])
    ]
    assert notes == [("a.dat", 3, "4 fields between '::', not 3")]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/a",
        "../a",
        "a/../../b",
        "..",
        "a\\..\\..\\b",
        "a\0b",
        "C:\\a",
        "c:/a",
        "\\\\server\\a",
        "https://x.org/a.png",
    ],
)
def test_paths_that_must_not_be_used(name):
    assert unsafe(name) is not None


@pytest.mark.parametrize("name", ["a", "a/b.png", "..a", "a..b/c", "./a", "a:b.png"])
def test_paths_that_may_be_used(name):
    assert unsafe(name) is None


def test_pictures(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "b.png").write_bytes(b"x")
    pictures = Pictures(tmp_path)
    assert pictures.problem("b.png") is None and pictures.first("b") == "b.png"
    assert pictures.problem("folder.jpg") == "picture folder.jpg is no file"
    assert pictures.problem("empty.jpg") == "picture empty.jpg is empty"
    assert pictures.problem("b.png/c.jpg") == "no picture b.png/c.jpg"
    assert pictures.problem("n" * 5000) == f"no picture {'n' * 5000}"
    assert pictures.first("folder") is None


def test_names_that_another_system_has_written(tmp_path):
    files = FolderFiles(tmp_path)
    for name in ("img/a.png", "img/B.png", "img/b.png", "Caf\u00e9/x.JPG", "back\\slash.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    for name, found in {
        "img/a.png": "img/a.png",
        "img\\a.png": "img/a.png",
        ".\\IMG\\A.PNG": "img/a.png",
        "img/b.png": "img/b.png",
        "img/B.PNG": "img/B.PNG",  # either of two
        "cafe\u0301/x.jpg": "Caf\u00e9/x.JPG",
        "back\\slash.png": "back\\slash.png",
        f"file://{tmp_path}/img/a.png": "img/a.png",
        "file:///etc/passwd": "file:///etc/passwd",
        "img/gone.png": "img/gone.png",
        "..\\x": "..\\x",
        "": "",
    }.items():
        assert files.find(name) == found
