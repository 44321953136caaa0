"""A configuration trained a little: its seconds fit into the time that it took, its memory is what training has."""

from __future__ import annotations

import io
import json
import time

import pytest

from trainables import probe as module
from trainables.config import TrialConfig
from trainables.loop import train
from trainables.probe import main, probe

CONFIG = TrialConfig.from_params(
    {"family": "text", "dataset": "openclipart", "epochs": 3, "max_train_rows": 128, "max_text_len": 16,
     "model.text_encoder": "tiny-bert", "objective": "val_accuracy", "device": "cpu"}
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [60.0, 0.0])
def test_its_parts_fit_into_the_time_that_it_took_and_its_memory_is_a_trainings(tmp_path, seconds):
    """With no time at all it stops inside of an epoch, and the rest is worked out from shares of it."""
    began = time.perf_counter()
    found = probe(CONFIG, seconds=seconds)
    took = time.perf_counter() - began
    assert min(found.setup_seconds, found.first_seconds, found.epoch_seconds, found.once_seconds) > 0
    assert found.first_seconds + found.setup_seconds + found.once_seconds < took
    if seconds:
        assert found.epoch_seconds * 2 < took
    peak = max(row["peak_memory_gib"] for row in train(CONFIG, folder=tmp_path / "t").reports)
    assert found.peak_memory_gib == pytest.approx(peak, rel=0.3)


@pytest.mark.slow
def test_a_line_is_answered_by_a_line(monkeypatch, capsys):
    lines = [json.dumps(CONFIG.to_dict()), "", json.dumps({**CONFIG.to_dict(), "max_train_rows": 0})]
    monkeypatch.setattr(module.sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
    monkeypatch.setattr(module.sys, "argv", ["probe", "0"])
    main()
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 3 and answers[0]["epoch_seconds"] > 0 and "error" in answers[1] and "error" in answers[2]
