"""Pictures that stay in Parquet files, read by several threads."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from trainables.data.reading.parquet import ParquetImages


@pytest.fixture
def images(tmp_path):
    """Eight pictures, the bytes of which are their row's number, two to a row group."""
    path = tmp_path / "a.parquet"
    column = pyarrow.array([str(row).encode() for row in range(8)])
    pyarrow.parquet.write_table(pyarrow.table({"image": column}), path, row_group_size=2)
    return ParquetImages([path], "image", np.array([(0, row) for row in range(8)]))


class Stepped(threading.Thread):
    """Runs ``call`` a line of ``__getitem__`` at a time, each when ``step`` is called."""

    def __init__(self, call):
        super().__init__(daemon=True)
        self.call, self.result, self.is_done = call, None, False
        self.go, self.stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.start()
        assert self.stopped.acquire(timeout=10)

    def run(self):
        sys.settrace(self.trace)
        self.result = self.call()
        sys.settrace(None)
        self.is_done = True
        self.stopped.release()

    def trace(self, frame, event, argument):
        if frame.f_code is not ParquetImages.__getitem__.__code__:
            return None
        if event == "line":
            self.stopped.release()
            self.go.acquire(timeout=10)
        return self.trace

    def step(self):
        if not self.is_done:
            self.go.release()
            assert self.stopped.acquire(timeout=10)


@pytest.mark.slow
def test_threads_get_their_own_pictures_however_their_lines_interleave(images):
    rng = np.random.default_rng(0)
    for _ in range(60):
        rows = rng.integers(0, 8, 3).tolist()
        threads = [Stepped(partial(images.__getitem__, row)) for row in rows]
        while not all(thread.is_done for thread in threads):
            threads[rng.integers(3)].step()
        assert [thread.result for thread in threads] == [str(row).encode() for row in rows]


@pytest.mark.slow
def test_many_threads_in_any_order(images):
    rows = np.random.default_rng(0).integers(0, 8, 2000).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(images.__getitem__, rows)) == [str(row).encode() for row in rows]
