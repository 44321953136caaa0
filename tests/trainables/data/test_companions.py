"""Training rows without a label: who takes them, how many, and what they are part of."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from trainables import loop, step
from trainables.data.companions import companions
from trainables.data.formats import DATASETS
from trainables.data.open import open_data
from trainables.loop import setup
from trainables.ranks import Ranks
from trainables.uda import LambdaState

FIXED = LambdaState(2.0, 1.0, 1.0, 1.0, "fixed")
LABELLED, UNLABELLED = np.arange(0, 45, 5), np.array([row for row in range(45) if row % 5])


@pytest.fixture(autouse=True)
def partly(monkeypatch):
    monkeypatch.setitem(DATASETS, "partly", "partly_labelled")


def partly_toy(toy, family, **given):
    return toy(family, **{"dataset": "partly", "uda": {"mode": "fixed"}, **given})


def test_every_unlabelled_row_comes_equally_often(toy):
    data = open_data(partly_toy(toy, "image"))
    assert data.rows["train"].tolist() == LABELLED.tolist() and data.unlabelled.tolist() == UNLABELLED.tolist()
    seen = []
    for epoch in range(1, 5):  # 9 rows with 3 companions each: 108 are three turns of 36
        batches = [companions(data, rows, ratio=3, seed=1, epoch=epoch) for rows in np.split(LABELLED, [2, 7])]
        assert [len(batch) for batch in batches] == [6, 15, 6]
        whole = companions(data, LABELLED, ratio=3, seed=1, epoch=epoch)
        assert np.array_equal(np.concatenate(batches), whole)  # however the labelled rows are cut
        seen += whole.tolist()
    assert np.bincount(seen, minlength=45)[UNLABELLED].tolist() == [3] * 36
    assert seen[:36] != seen[36:72] and sorted(seen[:36]) == UNLABELLED.tolist()
    assert companions(data, LABELLED, ratio=3, seed=2, epoch=1).tolist() != seen[:27]


def test_consistency_is_of_all_rows_and_the_supervised_loss_of_those_with_a_label(toy, tmp_path):
    config = partly_toy(toy, "image", unlabelled_ratio=2, model={"dropout": 0.0})
    state = setup(config, folder=tmp_path, ranks=Ranks())
    seen = []
    state.model.register_forward_hook(lambda module, inputs, out: seen.append((inputs[0], out)))
    rows = LABELLED[:3]
    loaded = step.load(state, rows, 1)
    terms, logits = step.forward(state, loaded, FIXED)
    batch, out = seen[0]
    joining = companions(state.data, rows, ratio=2, seed=config.seed, epoch=1)
    drawn = [*rows, *joining]
    assert batch.ids == [f"row-{row}" for row in [*drawn, *drawn]] and loaded.num_rows == 3 and len(logits) == 3
    labels = torch.from_numpy(state.data.labels[rows])
    assert terms["train_supervised"].item() == pytest.approx(F.cross_entropy(out.logits[:3], labels).item(), rel=1e-5)
    p, q = out.logits[:9].detach().softmax(1), out.logits[9:].log_softmax(1)
    expected = (p * (p.log() - q)).sum(dim=1).mean()  # docs/methods.md#uda, over the 9 rows
    assert terms["train_consistency"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_vae_reconstructs_all_rows(toy, tmp_path):
    config = partly_toy(toy, "hybrid_vae", uda={}, unlabelled_ratio=3)
    state = setup(config, folder=tmp_path, ranks=Ranks())
    seen = []
    state.model.register_forward_hook(lambda module, inputs, out: seen.append(out))
    loaded = step.load(state, LABELLED[:2], 1)
    terms, _ = step.forward(state, loaded, FIXED)
    out = seen[0]
    assert len(out.logits) == 8 and loaded.num_unlabelled == 6
    for name, value_B in out.losses.items():
        assert terms[f"train_{name}"].item() == pytest.approx(value_B.detach().mean().item(), rel=1e-5)


def test_a_familys_supervised_losses_are_of_labelled_rows(toy, tmp_path):
    config = partly_toy(toy, "flava", model={"unimodal_heads": True})
    state = setup(config, folder=tmp_path, ranks=Ranks())
    seen = []
    state.model.register_forward_hook(lambda module, inputs, out: seen.append(out))
    terms, _ = step.forward(state, step.load(state, LABELLED[:4], 1), FIXED)
    expected = seen[0].losses["unimodal"][:4].detach().mean()
    assert len(seen[0].logits) == 16 and terms["train_unimodal"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("family, uda", [("image", {}), ("image", {"mode": "aug"}), ("fusion", {})])
def test_nothing_else_takes_them(family, uda, toy):
    assert len(open_data(partly_toy(toy, family, uda=uda)).unlabelled) == 0


def test_a_ratio_of_0_leaves_them_out(toy):
    assert len(open_data(partly_toy(toy, "mvae", uda={}, unlabelled_ratio=0)).unlabelled) == 0
    assert len(open_data(partly_toy(toy, "mvae", uda={})).unlabelled) == 36


@pytest.mark.slow
@pytest.mark.parametrize("target, objective", [("class", "val_accuracy"), ("many", "val_loss"), ("number", "val_rmse")])
def test_micro_batches_with_companions_give_the_same_training(target, objective, toy, tmp_path):
    given = {"target": target, "objective": objective, "unlabelled_ratio": 3, "batch_size": 5}
    rows = [
        loop.train(
            partly_toy(toy, "image", model={"dropout": 0.0}, optim={"lr": 1e-3}, micro_batch_size=size, **given),
            folder=tmp_path / str(size),
        ).reports
        for size in (None, 2)
    ]
    for whole, parts in zip(*rows, strict=True):
        for key in ("train_loss", "train_supervised", "train_consistency", "val_loss"):
            assert parts[key] == pytest.approx(whole[key], rel=1e-4), key
