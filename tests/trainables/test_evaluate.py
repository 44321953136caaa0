import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

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
    odds = np.exp(logits.astype(np.float64))
    p = odds / odds.sum(axis=1, keepdims=True)
    assert val.loss == pytest.approx(log_loss(labels, p, labels=range(3)), rel=1e-5)  # neither weights nor smoothing
    counts = np.bincount(state.data.labels[state.data.rows["train"]])
    each = -np.log(p[np.arange(len(rows)), labels]) * (counts.sum() / (3 * counts))[labels]
    assert val.supervised == pytest.approx(each.mean(), rel=1e-5)  # weighted as in training, without smoothing
    assert val.named("val")["val_loss"] == val.loss
    assert rows.tolist() == list(range(45, 66))
    assert val.metrics == compute_metrics(logits, labels, state.task)


@pytest.mark.parametrize("pos_weight", [False, True])
def test_weights_of_the_loss_leave_the_metric_alone(pos_weight, toy, tmp_path):
    """One model under both settings: a search over pos_weight compares equal numbers."""
    config = toy("image", target="many", objective="val_loss", loss={"pos_weight": pos_weight})
    state = setup(config, folder=tmp_path, ranks=Ranks())
    val = evaluate(state, "val")
    truth, p = state.data.labels[val.rows], 1 / (1 + np.exp(-val.logits.astype(np.float64)))
    plain = [log_loss(truth[:, c], p[:, c], labels=[0, 1]) for c in range(truth.shape[1])]
    assert val.loss == pytest.approx(np.mean(plain), rel=1e-5)
    train = state.data.labels[state.data.rows["train"]]
    weight = len(train) / train.sum(axis=0) if pos_weight else 1
    each = -(weight * truth * np.log(p) + (1 - truth) * np.log(1 - p))
    assert val.supervised == pytest.approx(each.mean(), rel=1e-5)
    assert (val.loss != pytest.approx(val.supervised, rel=1e-3)) == pos_weight


@pytest.mark.parametrize("family", ["mvae", "hybrid_vae"])
def test_the_vaes_count_their_active_units(family, toy, tmp_path):
    """Dimensions whose posterior mean varies by more than 0.01 over the validation rows; three are made constant."""
    state = setup(toy(family, model={"z": 7}), folder=tmp_path, ranks=Ranks())
    model: Any = state.model
    with torch.no_grad():
        for encoder in model.vae.encoders.values():
            encoder[-1].weight.mul_(30.0)
            encoder[-1].weight[[0, 2, 5]] = encoder[-1].weight[7:] = 0
            encoder[-1].bias.zero_()
    val = evaluate(state, "val")
    rows = state.data.rows["val"]
    with torch.no_grad():
        means = model.eval()(state.data.batch(rows, state.data.clean)).features["joint"].numpy()
    expected = int((means.astype(np.float64).var(axis=0) > 0.01).sum())
    assert val.named("val")["val_active_units"] == expected and 0 < expected <= 4
    assert evaluate(setup(toy("image"), folder=tmp_path / "i", ranks=Ranks()), "val").reported == {}


def test_learnt_weights_are_told(toy, tmp_path):
    late: Any = setup(toy("fusion", model={"kind": "late", "merge": "prob_weighted"}), folder=tmp_path, ranks=Ranks())
    with torch.no_grad():
        late.model.weights_M.copy_(torch.tensor([0.0, np.log(3.0)]))
    told = evaluate(late, "val").named("val")
    assert (told["val_weight_text"], told["val_weight_image"]) == pytest.approx((0.25, 0.75))
    tirg = setup(toy("lit_tirg", model={"tirg_w_g": 2.0, "tirg_w_r": 3.0}), folder=tmp_path / "t", ranks=Ranks())
    told = evaluate(tirg, "val").named("val")
    assert (told["val_weight_gate"], told["val_weight_residual"]) == (2.0, 3.0)
    assert evaluate(setup(toy("fusion"), folder=tmp_path / "e", ranks=Ranks()), "val").reported == {}


def test_bad_validation_logits_end_the_trial(toy, tmp_path, monkeypatch):
    state = setup(toy("image"), folder=tmp_path, ranks=Ranks())
    state.model.register_forward_hook(lambda module, inputs, out: ModelOutput(logits=out.logits * math.inf))
    with pytest.raises(NonFiniteError, match="val logits became nan or infinite"):
        evaluate(state, "val")
