"""Study files survive awkward cells and kills in the middle of a write."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mmtune import records
from mmtune.records import CsvAppender, open_study

AWKWARD = ["a,b", 'say "x"', '"', "'", "ä€🎈", " spaces ", ";\t|", "nulls", "=1+1", "#no comment", ",,,", '""",']


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- cells and rows -----------------------------------------------------------------------------------
@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_cells_come_back(tmp_path, text):
    file = tmp_path / "x.csv"
    rows = CsvAppender(file)
    rows.append({"trial": "t0000", text: text, "last": 1})
    rows.append({"trial": "t0001", text: None, "last": 2})
    again = CsvAppender(file)
    again.append({"last": 3, "trial": text})
    assert records.read_rows(file) == [
        {"trial": "t0000", text: text, "last": 1},
        {"trial": "t0001", text: None, "last": 2},
        {"trial": text, text: None, "last": 3},
    ]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\v", "\f", "\x85", "\u2028", "\u2029", "\x1c"])
def test_a_row_stays_one_line_for_every_reader(tmp_path, end):
    file = tmp_path / "x.csv"
    rows = CsvAppender(file)
    for number in range(3):
        rows.append({"error": f"first{end}second{end}", "epoch": number})
    assert [row["error"] for row in records.read_rows(file)] == ["first second"] * 3
    assert len(file.read_text(encoding="utf-8").splitlines()) == 4


@pytest.mark.parametrize(
    "value", [0, -1, 2**70, 0.1, 1e-300, -0.0, 5e-324, 1.0, 1e22, math.pi, True, False, None, "none", "1.2.3", "t0001"]
)
def test_values_come_back_with_their_type(tmp_path, value):
    file = tmp_path / "x.csv"
    CsvAppender(file).append({"a": value, "b": 1})
    ((found, _),) = [row.values() for row in records.read_rows(file)]
    assert found == value and type(found) is type(value)
    assert repr(found) == repr(value)  # to the last digit, and the sign of zero


def test_nan_and_infinity_come_back():
    text = records.csv_text(["a", "b"], [{"a": math.nan, "b": -math.inf}])
    assert [records.parse_cell(cell) for cell in text.splitlines()[1].split(",")] == [
        pytest.approx(math.nan, nan_ok=True),
        -math.inf,
    ]


def test_random_tables_come_back(tmp_path):
    rng = random.Random(0)
    alphabet = "ab,\"' ;ä🎈\t"
    for case in range(100):
        columns = [f"c{i}" for i in range(rng.randint(1, 5))]
        made = [
            {column: f"x{''.join(rng.choices(alphabet, k=rng.randint(0, 6)))}" for column in columns}
            for _ in range(rng.randint(0, 5))
        ]
        file = tmp_path / f"{case}.csv"
        rows = CsvAppender(file)
        for row in made:
            rows.append(row)
        assert records.read_csv(file) == made


# --- writes cut short ---------------------------------------------------------------------------------
def test_any_torn_last_line_is_left_out_and_repaired(tmp_path):
    whole, last = "trial,note\nt0000,fine\n", "t0001,törn 🎈\n"
    for size in range(len(last.encode())):
        file = tmp_path / f"{size}.csv"
        file.write_bytes(whole.encode() + last.encode()[:size])
        assert records.read_rows(file) == [{"trial": "t0000", "note": "fine"}]
        CsvAppender(file).append({"trial": "t0002", "note": "next"})
        assert file.read_text() == whole + "t0002,next\n"


@pytest.mark.parametrize("torn", [b"", b"tri", b"trial,no", "trial,nö".encode()[:-1]])
def test_a_torn_header_is_no_header(tmp_path, torn):
    file = tmp_path / "x.csv"
    file.write_bytes(torn)
    assert records.read_rows(file) == []
    CsvAppender(file).append({"trial": "t0000", "epoch": 1})
    assert file.read_text() == "trial,epoch\nt0000,1\n"


def test_rows_with_too_few_or_too_many_cells_are_left_out(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text("a,b\n1,2\n3\n4,5,6\n\n7,8\n")
    assert records.read_rows(file) == [{"a": 1, "b": 2}, {"a": 7, "b": 8}]
    assert records.read_rows(tmp_path / "none.csv") == []


def test_a_new_column_rewrites_the_file_whole(tmp_path, monkeypatch):
    file = tmp_path / "x.csv"
    rows = CsvAppender(file)
    rows.append({"a": 1})
    before = file.read_bytes()

    def fails(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fails)
        with pytest.raises(OSError, match="disk full"):
            rows.append({"a": 2, "b": 3})
    assert file.read_bytes() == before and names(tmp_path) == ["x.csv"]
    rows.append({"a": 4})  # still one cell wide
    rows.append({"b": 5, "a": 6})
    assert file.read_text() == "a,b\n1,\n4,\n6,5\n" and names(tmp_path) == ["x.csv"]


def test_each_row_is_on_disk_when_append_returns(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from mmtune.records import CsvAppender\n"
        "rows = CsvAppender(Path(sys.argv[1]))\n"
        "for epoch in range(5): rows.append({'epoch': epoch})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.csv")])
    assert done.returncode == -signal.SIGKILL
    assert [row["epoch"] for row in records.read_rows(tmp_path / "x.csv")] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "data", [b",,\n,,\n", b"a,b\n1,2\n", b"\x89PNG\r\n\x1a\n", b"trial,epoch\n\x00,1\n\xff\n", b"a" * 2**18 + b"\n1\n"]
)
def test_a_table_that_is_none_is_named(tmp_path, data):
    for name in ("reports.csv", "trials.csv"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"{tmp_path / name}: is damaged"):
            records.read_csv(tmp_path / name)


def test_rows_that_do_not_say_what_they_are_of_are_left_out(tmp_path):
    rows = [",,", "t0000,1,.5", "t0000,x,.5", "x,2,.5", "t0000,3,.a", "t0001,1,", ""]
    (tmp_path / "reports.csv").write_text("\n".join(["trial,epoch,val_loss", *rows]))
    assert [(row["trial"], row["epoch"]) for row in records.read_csv(tmp_path / "reports.csv")] == [
        ("t0000", "1"), ("t0001", "1"),
    ]  # fmt: skip
    (tmp_path / "trials.csv").write_text("trial,state\n,\nt0000,COMPLETE\nt0001,NONE\n")
    assert [row["trial"] for row in records.read_csv(tmp_path / "trials.csv")] == ["t0000"]


# --- folders ------------------------------------------------------------------------------------------
def test_open_study(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such study folder"):
        open_study(tmp_path / "nowhere")
    for name in ("study.json", "spec.yaml"):
        with pytest.raises(ValueError, match=r"not a study folder \(no study.json and spec.yaml in it\)"):
            open_study(tmp_path)
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match="no such study folder"):
        open_study(tmp_path / "spec.yaml")
    assert open_study(str(tmp_path)).name == tmp_path.name
    assert open_study(tmp_path / "." / ".." / tmp_path.name).root == tmp_path.resolve()


def test_trial_names():
    for number in (0, 7, 9999, 12345):
        assert records.trial_number(records.trial_id(number)) == number
    assert records.trial_id(7) == "t0007"


def test_is_better():
    assert records.is_better(0.0, None, "max") and records.is_better(-1.0, None, "min")
    assert records.is_better(2, 1, "max") and not records.is_better(2, 1, "min")
    assert not records.is_better(1, 1, "max") and not records.is_better(1, 1, "min")
    assert not records.is_better(math.nan, 1, "max") and not records.is_better(math.nan, 1, "min")
