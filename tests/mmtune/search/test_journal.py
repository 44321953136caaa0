"""Optuna's journal on a disk that fills."""

import resource

import pytest

from mmtune.search.journal import Journal


def test_what_a_full_disk_cuts_short_is_taken_back_and_written_again(tmp_path):
    path, names = tmp_path / "optuna.log", [("val_loss", "min")]
    journal = Journal(path, name="s", objectives=names)
    journal.enqueue({"x": 0.5})
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 40, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.enqueue({"x": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    again = Journal(path, name="s", objectives=names)
    count = len(again.trials())
    again.enqueue({"x": 1.5})
    assert len(Journal(path, name="s", objectives=names).trials()) == count + 1
