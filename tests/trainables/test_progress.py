import json
from dataclasses import replace

import pytest

from trainables import loop
from trainables.checkpoint import BEST, load_checkpoint
from trainables.evaluate import evaluate
from trainables.loop import setup
from trainables.metrics import metric_mode
from trainables.progress import Progress
from trainables.ranks import Ranks


def scripted(monkeypatch, config, folder, values, *, name="accuracy"):
    """A trial whose validation gives these values, one an epoch."""
    state = setup(config, folder=folder, ranks=Ranks())
    real, series = evaluate(state, "val"), iter(values)

    def validate(state):
        value = next(series)
        return replace(real, loss=value if name == "loss" else 1.0, metrics={**real.metrics, name: value})

    monkeypatch.setattr(loop, "validate", validate)
    return loop.outcome(state, loop.fit(state))


def test_patience_counts_epochs_without_strict_improvement(toy, tmp_path, monkeypatch):
    values = [0.5, 0.5, 0.6, 0.6, 0.55, 0.9]
    outcome = scripted(monkeypatch, toy("image", epochs=9, patience=2), tmp_path, values)
    assert (outcome.reason, outcome.best_epoch, len(outcome.reports)) == ("patience", 3, 5)
    state = load_checkpoint(tmp_path / BEST)[1]
    assert state["epoch"] == 3 and state["report"]["val_accuracy"] == 0.6


def test_losses_are_minimised(toy, tmp_path, monkeypatch):
    config = toy("image", epochs=4, objective="val_loss")
    outcome = scripted(monkeypatch, config, tmp_path, [0.5, 0.4, 0.4, 0.6], name="loss")
    assert (outcome.reason, outcome.best_epoch) == ("epochs", 2)
    modes = {name: metric_mode(name) for name in ("val_loss", "val_rmse", "val_mae", "val_ap_micro")}
    assert modes == {"val_loss": "min", "val_rmse": "min", "val_mae": "min", "val_ap_micro": "max"}


@pytest.mark.slow
def test_plateau_reduces_the_lr_at_the_first_bad_epoch_beyond_its_patience(toy, tmp_path, monkeypatch):
    optim = {"lr": 1e-3, "schedule": "plateau", "plateau_patience": 1, "plateau_factor": 0.1, "warmup_ratio": 0.0}
    values = [0.5, 0.5, 0.5, 0.5, 0.5, 0.9, 0.1]  # bad: 2, 3 (reduced), 4, 5 (reduced), 7
    outcome = scripted(monkeypatch, toy("image", epochs=7, optim=optim), tmp_path, values)
    expected = [1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5]
    assert [row["lr"] for row in outcome.reports] == pytest.approx(expected)


@pytest.mark.slow
def test_the_training_metric_is_the_objectives_or_the_first(toy, tmp_path):
    rows = loop.train(toy("image", objective="val_macro_f1", epochs=1), folder=tmp_path / "a").reports
    assert "train_macro_f1" in rows[0] and "train_accuracy" not in rows[0]
    rows = loop.train(toy("image", objective="val_loss", target="many", epochs=1), folder=tmp_path / "b").reports
    assert "train_ap_micro" in rows[0]


def test_progress_is_the_same_after_a_checkpoint_has_carried_it(toy):
    optim = {"schedule": "plateau", "plateau_patience": 0}
    config = toy("image", epochs=9, patience=2, optim=optim)
    straight, carried = Progress(), Progress()
    for epoch, value in enumerate([0.5, 0.4, 0.6, 0.6, 0.5], start=1):
        row = {"epoch": epoch, "val_accuracy": value}
        straight.advance(row, config)
        carried = Progress(**json.loads(json.dumps(vars(carried))))
        carried.advance(row, config)
        assert straight == carried
    assert (carried.reason, carried.best_epoch, carried.plateau_factor) == ("patience", 3, 0.5**3)
