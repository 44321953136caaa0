import math

import numpy as np
import pytest

from trainables.batch import ModelOutput
from trainables.errors import NonFiniteError
from trainables.evaluate import evaluate
from trainables.loop import setup
from trainables.metrics import compute_metrics
from trainables.ranks import Ranks


def test_validation_loss_is_the_mean_over_samples(toy, tmp_path):
    config = toy("image", eval_batch_size=4, epochs=1, loss={"label_smoothing": 0.2, "class_weight": True})
    state = setup(config, folder=tmp_path, ranks=Ranks())
    val = evaluate(state, "val")
    logits, rows = val.logits, val.rows
    labels = state.data.labels[rows]
    counts = np.bincount(state.data.labels[state.data.rows["train"]])
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    each = -log_p[np.arange(len(rows)), labels] * (counts.sum() / (3 * counts))[labels]
    assert val.loss == pytest.approx(each.mean(), rel=1e-5)  # weighted as in training, without smoothing
    assert rows.tolist() == list(range(45, 66))
    assert val.metrics == compute_metrics(logits, labels, state.task)


def test_bad_validation_logits_end_the_trial(toy, tmp_path, monkeypatch):
    state = setup(toy("image"), folder=tmp_path, ranks=Ranks())
    state.model.register_forward_hook(lambda module, inputs, out: ModelOutput(logits=out.logits * math.inf))
    with pytest.raises(NonFiniteError, match="val logits became nan or infinite"):
        evaluate(state, "val")
