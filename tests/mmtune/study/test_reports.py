"""Arrow reads reports.csv as Python does, whatever is in it."""

from __future__ import annotations

import random

import pytest

from mmtune import records
from mmtune.study.reports import read_reports

CELLS = {
    "trial": ["t0000", "t0001", "t12345", "t1", "", "x"],
    "time": ["2026-01-01T00:00:00Z", "", "12:00"],
    "epoch": ["1", "2", "10", "", "-1", "1.5", "²"],
    "val_loss": ["0.1", "1e-05", "nan", "inf", "", "x"],
    "uda_case": ["1", "2", "3", "", "true"],
    "note": ["fine", "a 'b'", "true", "false", "TRUE", "", "2026-01-01", "ä🎈"],
}


def same(one: list[dict], other: list[dict]) -> bool:
    return repr(one) == repr(other)  # types too, and nan is nan


def test_random_tables_are_read_as_python_reads_them(tmp_path):
    rng, path = random.Random(0), tmp_path / "reports.csv"
    for _ in range(300):
        some = {name: rng.sample(cells, rng.randint(1, 2)) for name, cells in CELLS.items()}
        lines = [",".join(rng.choice(cells) for cells in some.values()) for _ in range(rng.randint(0, 5))]
        path.write_text("\n".join([",".join(some), *lines, ""]))
        assert same(read_reports(path), records.read_rows(path)), path.read_text()


@pytest.mark.parametrize("torn", ["", "trial,ep", "trial,epoch\n", "trial,epoch,val_loss\nt0000,1,0.5\nt0000,2"])
def test_what_was_cut_short_is_left_out(tmp_path, torn):
    path = tmp_path / "reports.csv"
    assert read_reports(path) == []
    path.write_text(torn)
    assert same(read_reports(path), records.read_rows(path))


def test_rows_of_other_lengths_are_left_out(tmp_path):
    (path := tmp_path / "reports.csv").write_text("trial,epoch\nt0000,1\nt0000\nt0000,2,3\n\nt0000,4\n")
    assert [row["epoch"] for row in read_reports(path)] == [1, 4]


def test_a_file_that_is_no_table_is_named(tmp_path):
    (path := tmp_path / "reports.csv").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match="is damaged"):
        read_reports(path)
