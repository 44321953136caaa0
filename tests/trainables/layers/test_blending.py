from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from trainables import step
from trainables.evaluate import evaluate
from trainables.layers.blending import Blending, blended
from trainables.loop import setup, train
from trainables.ranks import Ranks
from trainables.uda import LambdaState

EVEN = torch.full((3,), 1 / 3, dtype=torch.float64)


def test_weights_are_generalisation_over_the_square_of_overfitting():
    """G = (0.4, 0.2, -0.1); O = (0.2, 0.1, 0.3); G / O^2 = (10, 20, 0): nine tenths in 1 : 2 : 0, one tenth evenly."""
    before = torch.tensor([[1.0, 1.0, 1.0], [1.1, 1.2, 1.0]], dtype=torch.float64)
    now = torch.tensor([[0.4, 0.7, 0.8], [0.7, 1.0, 1.1]], dtype=torch.float64)
    expected = [0.9 / 3 + 0.1 / 3, 0.9 * 2 / 3 + 0.1 / 3, 0.1 / 3]
    assert blended(before, now, EVEN).tolist() == pytest.approx(expected)
    worse = torch.tensor([[0.4, 0.7, 0.8], [1.7, 2.0, 2.1]], dtype=torch.float64)
    assert blended(before, worse, EVEN).equal(EVEN)  # nobody generalises: as they were
    still = torch.tensor([[0.9, 0.9, 0.9], [1.0, 1.1, 0.9]], dtype=torch.float64)
    assert blended(before, still, EVEN).tolist() == pytest.approx([1 / 3] * 3)  # all gaps stood still: no division by 0


def row_of(train, val):
    names = ("supervised", "supervised_text", "supervised_image")
    given = {f"train_{name}": value for name, value in zip(names, train, strict=True)}
    return given | {f"val_{name}": value for name, value in zip(names, val, strict=True)}


def test_weights_are_estimated_every_so_many_epochs():
    net, even = Blending(("text", "image"), epochs=2), pytest.approx([1 / 3] * 3)
    net.end_epoch(row_of((1.0, 1.0, 1.0), (1.1, 1.2, 1.0)))  # what estimates begin from
    assert net.weights_K.tolist() == even
    net.end_epoch(row_of((9.0, 9.0, 9.0), (0.0, 0.0, 0.0)))
    assert net.weights_K.tolist() == even
    other = Blending(("text", "image"), epochs=2)
    other.load_state_dict(net.state_dict())  # a trial that goes on
    for each in (net, other):
        each.end_epoch(row_of((0.4, 0.7, 0.8), (0.7, 1.0, 1.1)))
        assert each.weights_K.tolist() == pytest.approx([0.9 / 3 + 0.1 / 3, 0.6 + 0.1 / 3, 0.1 / 3])
    equal = Blending(("text", "image"), epochs=None)
    for losses in ((1.0, 1.0, 1.0), (0.5, 0.1, 0.9)):
        equal.end_epoch(row_of(losses, losses))
    assert equal.weights_K.tolist() == even


@pytest.mark.parametrize("kind", ["early", "late", "gmu", "intermediate", "multilevel"])
def test_each_head_has_a_loss_and_its_weight(kind, toy, tmp_path):
    state = setup(toy("fusion", model={"kind": kind, "blend": "ogr", "hidden": 32}), folder=tmp_path, ranks=Ranks())
    model: Any = state.model
    model.blending.weights_K.copy_(torch.tensor([0.5, 0.2, 0.3]))
    model.eval()
    rows = state.data.rows["train"][:9]
    loaded = step.load(state, rows, 1)
    terms, _ = step.forward(state, loaded, LambdaState(0.0, 1.0, 1.0, 1.0, "none"))
    losses = [terms[f"train_{name}"].item() for name in ("supervised", "supervised_text", "supervised_image")]
    assert terms["train_loss"].item() == pytest.approx(np.dot([0.5, 0.2, 0.3], losses), rel=1e-5)
    with torch.no_grad():
        features = model(loaded.batch).features
        for name, loss in zip(("text", "image"), losses[1:], strict=True):
            assert loss == pytest.approx(F.cross_entropy(model.heads[name](features[name]), loaded.batch.labels).item())
    told = evaluate(state, "val").named("val")
    given = state.data.batch(state.data.rows["val"], state.data.clean)
    with torch.no_grad():
        alone = model(given).heads["image"]
    assert told["val_supervised_image"] == pytest.approx(F.cross_entropy(alone, given.labels).item(), rel=1e-5)
    assert told["val_weight_loss_joint"] == 0.5 and told["val_weight_loss_image"] == pytest.approx(0.3)


@pytest.mark.slow
def test_a_trial_with_blending_goes_on_where_it_was(toy, tmp_path, unmeasured):
    config = toy("fusion", model={"blend": "ogr"}, epochs=4, optim={"lr": 3e-3})
    whole = train(config, folder=tmp_path / "whole").reports
    train(config, folder=tmp_path / "cut", report=lambda row: row["epoch"] == 2)
    assert unmeasured(train(config, folder=tmp_path / "cut").reports) == unmeasured(whole)
    weights = [[row[f"val_weight_loss_{name}"] for name in ("joint", "text", "image")] for row in whole]
    assert weights[0] == weights[1] == pytest.approx([1 / 3] * 3)  # the first estimate is behind the second epoch
    assert weights[2] != weights[1] and all(sum(each) == pytest.approx(1) for each in weights)


def test_multilevel_is_the_mean_of_early_and_late(toy, tmp_path):
    net: Any = setup(toy("fusion", model={"kind": "multilevel"}), folder=tmp_path, ranks=Ranks()).model
    data = setup(toy("fusion", model={"kind": "multilevel"}), folder=tmp_path, ranks=Ranks()).data
    given = data.batch(np.arange(6), data.clean)
    with torch.no_grad():
        out = net.eval()(given)
        text, image = out.features["text"], out.features["image"]
        early = net.head(torch.cat([text, image], dim=1))
        late = (net.heads["text"](text) + net.heads["image"](image)) / 2
    torch.testing.assert_close(out.logits, (early + late) / 2)
    assert out.heads == {}
