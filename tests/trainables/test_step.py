import math

import numpy as np
import pytest
import torch

from trainables import loop, step
from trainables.checkpoint import BEST, LAST, load_checkpoint
from trainables.errors import NonFiniteError
from trainables.loop import setup
from trainables.model import model_size
from trainables.ranks import Ranks
from trainables.uda import LambdaState


def test_both_views_go_through_the_model_once(toy, tmp_path, monkeypatch):
    state = setup(toy("image", uda={"mode": "fixed"}), folder=tmp_path, ranks=Ranks())
    sizes = []
    state.model.register_forward_hook(lambda module, inputs, out: sizes.append(inputs[0].size))
    rows = state.data.rows["train"][:5]
    loaded = step.load(state, rows, 1)
    terms, logits = step.forward(state, loaded, LambdaState(2.0, 1.0, 1.0, 1.0, "fixed"))
    assert sizes == [10] and len(logits) == 5 and loaded.clean_rows.tolist() == rows.tolist()
    assert terms["train_loss"].item() == pytest.approx(
        (terms["train_supervised"] + 2 * terms["train_consistency"]).item()
    )


OWN = {"mvae": {"subset_elbo": True}, "hybrid_vae": {"posterior": "moe"}, "flava": {"unimodal_heads": True}}


@pytest.mark.slow
@pytest.mark.parametrize("family", OWN)
def test_a_familys_own_losses_are_of_the_clean_rows_alone(family, toy, tmp_path):
    """L = L_s(clean) + lambda L_c + own(clean), from a forward over the clean rows and one over the copies."""
    uda = {"mode": "fixed", "lam": 3.0, "randaug_magnitude": 30, "text_replace": 1.0}
    state = setup(toy(family, model=OWN[family], uda=uda), folder=tmp_path, ranks=Ranks())
    rows = state.data.rows["train"][:6]
    assert state.data.augmented is not None
    state.model.eval()  # no noise: what is drawn does not depend on the batch
    with torch.no_grad():
        terms, _ = step.forward(state, step.load(state, rows, 1), LambdaState(3.0, 1.0, 1.0, 1.0, "fixed"))
        clean, copies = (state.model(state.data.batch(rows, view)) for view in (state.data.clean, state.data.augmented))
    own = {f"train_{name}": value.mean().item() for name, value in clean.losses.items()}
    found = {name: value.item() for name, value in terms.items()}
    assert own and {name: found[name] for name in own} == pytest.approx(own, rel=1e-4)
    log_p, log_q = clean.logits.log_softmax(dim=1), copies.logits.log_softmax(dim=1)
    consistency = (log_p.exp() * (log_p - log_q)).sum(dim=1).mean().item()
    assert found["train_consistency"] == pytest.approx(consistency, rel=1e-3, abs=1e-7)
    labels = torch.from_numpy(state.data.labels[rows])
    supervised = torch.nn.functional.cross_entropy(clean.logits, labels).item()
    total = clean.supervised_weight * supervised + 3.0 * consistency + sum(own.values())
    assert found["train_loss"] == pytest.approx(total, rel=1e-4)
    of_copies = {f"train_{name}": value.mean().item() for name, value in copies.losses.items()}
    assert any(of_copies[name] != pytest.approx(own[name], rel=1e-3) for name in own)


@pytest.mark.slow
def test_beta_rises_in_every_step_of_a_trial(toy, tmp_path, monkeypatch):
    """Six steps an epoch; a resumed trial goes on where it was."""
    betas, real = [], step.begin_step

    def begin_step(state, number):
        real(state, number)
        if state.steps_per_epoch == 6:  # a rehearsal has one
            betas.append(state.model.vae.beta.item())

    monkeypatch.setattr(step, "begin_step", begin_step)
    config = toy("mvae", model={"beta": 0.6, "beta_schedule": "linear", "anneal_epochs": 2}, epochs=3)
    loop.train(config, folder=tmp_path, ranks=Ranks(), report=lambda row: True)  # ends after the first epoch
    rows = loop.train(config, folder=tmp_path, ranks=Ranks()).reports
    assert betas == pytest.approx([0.6 * min(1, number / 12) for number in range(18)])
    assert all(row["train_kl"] > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "model"), [("lit_tirg", {}), ("image", {"image_encoder": "tiny-resnet", "depth": 0})]
)
def test_bn_eval_for_aug_takes_statistics_from_the_clean_rows(family, model, toy, tmp_path):
    """As two forwards would: the clean rows in training mode, then the copies by the statistics that these left."""
    uda = {"mode": "fixed", "lam": 2.0, "bn_eval_for_aug": True, "randaug_magnitude": 30, "text_replace": 1.0}
    state = setup(toy(family, model=model, uda=uda, image_size=32), folder=tmp_path / "a", ranks=Ranks())
    plain = toy(family, model=model, uda={**uda, "bn_eval_for_aug": False}, image_size=32)
    twin = setup(plain, folder=tmp_path / "b", ranks=Ranks()).model
    norms = [norms_of(net.eval()) for net in (state.model, twin)]  # no dropout
    for norm in (norm for both in norms for norm in both):
        norm.train()
    rows, seen = state.data.rows["train"][:6], []
    state.model.register_forward_hook(lambda module, inputs, out: seen.append(out.logits))
    terms, _ = step.forward(state, step.load(state, rows, 1), LambdaState(2.0, 1.0, 1.0, 1.0, "fixed"))
    assert state.data.augmented is not None
    clean = twin(state.data.batch(rows, state.data.clean)).logits
    for norm in norms[1]:
        norm.eval()
    copies = twin(state.data.batch(rows, state.data.augmented)).logits
    torch.testing.assert_close(seen[0], torch.cat([clean, copies]), rtol=1e-3, atol=1e-4)
    for one, other in zip(*norms, strict=True):
        torch.testing.assert_close(one.running_mean, other.running_mean)
        torch.testing.assert_close(one.running_var, other.running_var)
    step.backward(state, terms["train_loss"])
    assert all(part.grad is not None and part.grad.isfinite().all() for part in state.trainable)
    for norm in norms[0]:
        norm.eval()
    assert len(state.model(state.data.batch(rows, state.data.clean)).logits) == 6  # nothing is halved in evaluation


def norms_of(net):
    kinds = torch.nn.BatchNorm1d | torch.nn.BatchNorm2d
    return [module for module in net.modules() if isinstance(module, kinds)]


def test_bn_eval_for_aug_needs_a_batch_norm(toy, tmp_path):
    with pytest.raises(ValueError, match="uda.bn_eval_for_aug: this model has no BatchNorm whose statistics train"):
        setup(toy("text", uda={"mode": "fixed", "bn_eval_for_aug": True}), folder=tmp_path, ranks=Ranks())
    with pytest.raises(ValueError, match="uda.bn_eval_for_aug: this model has no BatchNorm"):
        model_size(toy("text", uda={"mode": "fixed", "bn_eval_for_aug": True}))  # so that `check` says it
    setup(toy("text", uda={"mode": "none", "bn_eval_for_aug": True}), folder=tmp_path, ranks=Ranks())


def test_aug_trains_on_every_row_and_its_copy(toy, tmp_path):
    config = toy("fusion", uda={"mode": "aug", "views": "text"}, batch_size=8)
    state = setup(config, folder=tmp_path, ranks=Ranks())
    batches = step.epoch_batches(config, state.data, 1)
    assert sorted(np.concatenate(batches)) == [*range(45), *range(68, 68 + 45)]  # 68 rows in all
    assert len(batches) == 12 == state.steps_per_epoch  # ceil(90 / 8)
    seen = []
    state.model.register_forward_hook(lambda module, inputs, out: seen.append((inputs[0], out)))
    rows = np.array([3, 68 + 3, 68 + 7])
    loaded = step.load(state, rows, 1)
    terms, logits = step.forward(state, loaded, LambdaState(0.0, 1.0, 1.0, 1.0, "none"))
    (batch, out), data = seen[0], state.data
    assert loaded.clean_rows.tolist() == [3] and len(logits) == 1 and batch.ids == ["row-3", "row-3", "row-7"]
    clean, copy = data.batch(np.array([3]), data.clean), data.batch(np.array([3, 7]), data.augmented)
    assert batch.text_features[:1].equal(clean.text_features) and batch.text_features[1:].equal(copy.text_features)
    expected = torch.nn.functional.cross_entropy(out.logits, torch.from_numpy(data.labels[[3, 3, 7]]))
    assert terms.keys() == {"train_loss", "train_supervised"}
    assert terms["train_loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    row = loop.train(config, folder=tmp_path, ranks=Ranks()).reports[0]
    assert "uda_lambda" not in row and "train_consistency" not in row


def poisoned(monkeypatch, value, *, at):
    """The loss of the ``at``-th training step onwards times ``value``."""
    calls = {"steps": 0}
    real = step.forward

    def forward(*given):
        calls["steps"] += 1
        terms, logits = real(*given)
        return ({**terms, "train_loss": terms["train_loss"] * value} if calls["steps"] >= at else terms), logits

    monkeypatch.setattr(step, "forward", forward)
    monkeypatch.setattr(loop, "rehearse", lambda *given, **how: None)  # its steps are none of the trial's
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_bad_gradient_ends_the_trial_at_once_and_spares_the_checkpoint(value, toy, tmp_path, monkeypatch):
    calls = poisoned(monkeypatch, value, at=9)
    with pytest.raises(NonFiniteError, match="the gradient became nan or infinite in epoch 2, step 3"):
        loop.train(toy("image"), folder=tmp_path, ranks=Ranks())
    assert calls["steps"] == 9
    for file in (LAST, BEST):
        tensors, state = load_checkpoint(tmp_path / file)
        assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert load_checkpoint(tmp_path / LAST)[1]["progress"]["epoch"] == 1
