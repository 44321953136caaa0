from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from trainables import loop
from trainables.loop import setup
from trainables.ranks import Ranks


@pytest.mark.slow
def test_the_training_metric_of_evaluated_rows(toy, tmp_path):
    """M^T of 20 fixed training rows, in evaluation mode, after each epoch."""
    uda = {"mode": "dynamic", "n": 2, "k": 3}
    config = toy("text", model={"dropout": 0.5}, epochs=3, optim={"lr": 3e-3}, uda=uda, train_eval_rows=20)
    rows = loop.train(config, folder=tmp_path).reports
    state = setup(config, folder=tmp_path, ranks=Ranks())  # as it was after the last epoch
    picked = np.sort(np.random.default_rng(0).permutation(np.arange(45))[:20])
    labels = state.data.labels[picked]
    with torch.no_grad():
        logits = state.model.eval()(state.data.batch(picked, state.data.clean)).logits.numpy()
    assert rows[-1]["train_accuracy"] == pytest.approx(accuracy_score(labels, logits.argmax(axis=1)))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert rows[-1]["train_clean"] == pytest.approx(log_loss(labels, p, labels=range(3)), rel=1e-4)
    q_t = (1 + rows[1]["train_accuracy"]) / (1 + rows[0]["train_accuracy"])
    assert rows[2]["uda_q_t"] == pytest.approx(q_t)
    running = loop.train(config.model_copy(update={"train_eval_rows": None}), folder=tmp_path / "running").reports
    assert running[0]["train_supervised"] == rows[0]["train_supervised"]  # nothing of training depends on it
    assert running[0]["train_clean"] != rows[0]["train_clean"]


@pytest.mark.slow
def test_ogr_compares_what_training_gained_with_what_validation_did(toy, tmp_path):
    loss = {"class_weight": True, "label_smoothing": 0.2}
    config = toy("image", epochs=4, optim={"lr": 1e-2}, loss=loss)
    rows = loop.train(config, folder=tmp_path).reports
    assert "ogr" not in rows[0]
    for before, row in pairwise(rows):
        gaps = [each["val_supervised"] - each["train_clean"] for each in (before, row)]
        gained = before["val_supervised"] - row["val_supervised"]
        assert row["ogr"] == pytest.approx(abs((gaps[1] - gaps[0]) / gained))
    plain = loop.train(toy("image", epochs=1, model={"dropout": 0.0}), folder=tmp_path / "plain").reports[0]
    assert plain["train_clean"] == pytest.approx(plain["train_supervised"], rel=1e-5)  # without smoothing the same
    smoothed = rows[0]["train_supervised"]
    assert rows[0]["train_clean"] != pytest.approx(smoothed, rel=1e-3)
