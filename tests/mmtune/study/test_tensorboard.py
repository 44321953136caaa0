"""Event files: what TensorBoard reads in them."""

import pytest

from mmtune import records
from mmtune.records import StudyFolder
from mmtune.study.ledger import Ledger

tensorboard = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def test_tensorboard_has_a_run_a_trial_with_hparams(tmp_path):
    ledger = Ledger(
        StudyFolder(tmp_path), objective=("val_accuracy", "max"), params=["family", "optim.lr"], max_epochs=3
    )
    ledger.start("t0000", {"family": "text", "optim.lr": 1e-3})
    ledger.add("t0000", {"epoch": 1, "val_accuracy": 0.4, "device_seconds": 1.0})
    ledger.add("t0000", {"epoch": 2, "val_accuracy": 0.7, "device_seconds": 1.0})
    ledger.end("t0000", records.PRUNED)
    events = tensorboard.EventAccumulator(str(tmp_path / "tensorboard" / "t0000"))
    events.Reload()
    scalars = events.Scalars("val/accuracy")
    assert [event.step for event in scalars] == [1, 2]
    assert [event.value for event in scalars] == pytest.approx([0.4, 0.7])
    assert events.Scalars("total/device_seconds")[-1].value == 2.0
    hparams = events.summary_metadata["_hparams_/session_start_info"]
    assert b"optim.lr" in hparams.plugin_data.content
