"""New rows over two workers of a real Ray: the file that one process writes, in its order."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from mmtune.slots.rows import over_cluster

HERE = Path(__file__).parent


@pytest.mark.slow
def test_two_workers_write_what_one_process_writes(tmp_path):
    command = [sys.executable, str(HERE / "rows_on_two_workers.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "WARNING" not in done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    here, there = (pyarrow.parquet.read_table(tmp_path / f"{name}.parquet") for name in ("here", "there"))
    assert here.schema.equals(there.schema, check_metadata=True) and len(here) == 9_000
    for name in here.column_names:
        if name.startswith("p_"):
            np.testing.assert_allclose(here[name].to_numpy(), there[name].to_numpy(), atol=1e-6)
        else:
            assert here[name].equals(there[name]), name
    assert here["error"].null_count == 8_999 and here["error"][5_000].as_py() == "3 fields, not 2"
    assert result["processes"] == 2 and result["ids"] == here["id"].to_pylist()
    assert result["steps"][2:3] == [9_000] and result["steps"][-1] == 9_000 and len(result["steps"]) > 5


def test_no_rows_start_no_cluster():
    class Nothing:
        def tables(self, size):
            return iter(())

    assert list(over_cluster(Nothing(), Path(), lambda *_: None, size=1, address="nowhere:1")) == []
