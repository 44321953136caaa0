"""Tables of a million rows are read in a stream."""

from __future__ import annotations

import subprocess
import sys

import pyarrow
import pyarrow.parquet
import pytest
from disk import write_files

MEASURE = """
import sys
from trainables.data.formats import table

def mib(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(name))

before = mib("VmRSS")
found = table.read(sys.argv[1])
print(len(found.ids), sum(map(len, found.texts)), mib("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_million_rows_stream(tmp_path, suffix):
    """700 MiB at most, most of it the table itself: the file of 530 MB would not fit beside it."""
    num, unused = 1_000_000, "u" * 400
    columns = ("key", "text", "price", "brand", "topic", "unused")

    def part(start, stop):
        rows = range(start, stop)
        return [
            [f"key-{at}" for at in rows], [f"a text of some forty characters, number {at}" for at in rows],
            [str(at / 4) for at in rows], [f"brand {at % 1000}" for at in rows], [f"topic {at % 20}" for at in rows],
            [unused] * len(rows),
        ]  # fmt: skip

    path = tmp_path / f"data.{suffix}"
    if suffix == "csv":
        with path.open("w") as file:
            file.write(",".join(columns) + "\n")
            for start in range(0, num, 50_000):
                file.writelines(
                    ",".join([*row[:1], f'"{row[1]}"', *row[2:]]) + "\n"
                    for row in zip(*part(start, start + 50_000), strict=True)
                )
    else:
        schema = pyarrow.schema([(name, pyarrow.string()) for name in columns])
        with pyarrow.parquet.ParquetWriter(path, schema) as writer:
            for start in range(0, num, 50_000):
                writer.write_table(pyarrow.table(dict(zip(columns, part(start, start + 50_000), strict=True)), schema))
    yaml = f"files: data.{suffix}\nid: key\ntext: text\nnumeric: price\ncategorical: brand\n"
    yaml += "labels: {topic: {kind: multiclass}}"
    write_files(tmp_path, {"table.yaml": yaml})
    out = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    rows, characters, mib = out.split()
    assert int(rows) == num and int(characters) == sum(
        len(f"a text of some forty characters, number {at}") for at in range(num)
    )
    assert float(mib) < 700
