import itertools
import json
import math

import numpy as np
import pytest
import torch

from trainables.config import UdaConfig
from trainables.task import Task
from trainables.uda import Divergence, DynamicLambda, consistency_loss

MULTICLASS, MULTILABEL = Task("multiclass", ("a", "b", "c")), Task("multilabel", ("a", "b", "c"))
REGRESSION = Task("regression")
DIVERGENCES = ("kl_softmax", "kl_bernoulli", "js_softmax", "js_bernoulli", "mse_prob")


def views(num_rows: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean, augmented = 2 * torch.randn(2, num_rows, 3, generator=generator, dtype=torch.float64)
    return clean, augmented


def gradients(**kwargs) -> tuple[torch.Tensor, torch.Tensor]:
    """dL/d(clean), dL/d(augmented) through one concatenated batch, as the training loop runs it."""
    both = torch.cat(views()).requires_grad_()
    clean, augmented = both.chunk(2)
    consistency_loss(clean, augmented, **kwargs).backward()
    assert both.grad is not None
    return tuple(both.grad.chunk(2))  # pyright: ignore[reportReturnType]


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def js(p, q):
    mean = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return (kl(p, mean) + kl(q, mean)) / 2


def slow_loss(clean, augmented, *, divergence, is_multilabel, temperature=1.0, confidence=-1.0):
    """Eq. 7 one distribution at a time."""
    total, num_decisions = 0.0, 0
    as_softmax = divergence.endswith("softmax") or (divergence == "mse_prob" and not is_multilabel)
    for row_clean, row_augmented in zip(clean.numpy(), augmented.numpy(), strict=True):
        if as_softmax:
            triples = [(softmax(row_clean / temperature), softmax(row_augmented), softmax(row_clean))]
        else:
            ps, qs, raws = sigmoid(row_clean / temperature), sigmoid(row_augmented), sigmoid(row_clean)
            triples = [((p, 1 - p), (q, 1 - q), (raw, 1 - raw)) for p, q, raw in zip(ps, qs, raws, strict=True)]
        for p, q, raw in triples:
            num_decisions += 1
            if max(raw) > confidence:
                if divergence == "mse_prob":
                    total += np.square(np.subtract(p, q)).mean()
                else:
                    total += kl(p, q) if divergence.startswith("kl") else js(p, q)
    return total / num_decisions


@pytest.mark.parametrize("task", [MULTICLASS, MULTILABEL], ids=["multiclass", "multilabel"])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_against_a_loop_over_distributions(task, divergence):
    clean, augmented = views(40)
    options: list[dict[str, float]] = [{}, {"temperature": 0.4}, {"temperature": 0.7, "confidence": 0.8}]
    for given in options:
        expected = slow_loss(clean, augmented, divergence=divergence, is_multilabel=task.kind == "multilabel", **given)
        loss = consistency_loss(clean, augmented, task=task, divergence=divergence, **given)
        assert loss.shape == () and loss.item() == pytest.approx(expected, rel=2e-5)


def test_auto_follows_the_task():
    clean, augmented = views()
    expected: list[tuple[Task, Divergence]] = [(MULTICLASS, "kl_softmax"), (MULTILABEL, "kl_bernoulli")]
    for task, divergence in expected:
        automatic = consistency_loss(clean, augmented, task=task)
        assert torch.equal(automatic, consistency_loss(clean, augmented, task=task, divergence=divergence))
    loss = consistency_loss(torch.tensor([[1.0], [2.0]]), torch.tensor([[4.0], [1.0]]), task=REGRESSION)
    assert loss.item() == pytest.approx((9 + 1) / 2)


def test_gradient_of_softmax_kl():
    (p, q), num_rows = (value.softmax(dim=1) for value in views()), 5
    on_clean, on_augmented = gradients(task=MULTICLASS, divergence="kl_softmax")
    torch.testing.assert_close(on_augmented, (q - p) / num_rows, rtol=1e-5, atol=1e-7)
    assert (on_clean == 0).all()


def test_gradient_of_bernoulli_kl():
    p, q = (value.sigmoid() for value in views())
    on_clean, on_augmented = gradients(task=MULTILABEL)
    torch.testing.assert_close(on_augmented, (q - p) / (5 * 3), rtol=1e-5, atol=1e-7)
    assert (on_clean == 0).all()


def test_gradient_of_softmax_js():
    # d JS / d logit_i = q_i (log(q_i / m_i) - KL(q || m)) / 2: the mean m moves with q, its own terms cancel.
    p, q = (value.softmax(dim=1) for value in views())
    log_ratio = (q / ((p + q) / 2)).log()
    expected = q * (log_ratio - (q * log_ratio).sum(dim=1, keepdim=True)) / 2 / 5
    on_clean, on_augmented = gradients(task=MULTICLASS, divergence="js_softmax")
    torch.testing.assert_close(on_augmented, expected, rtol=1e-4, atol=1e-6)
    assert (on_clean == 0).all()


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_clean_side_gets_no_gradient_at_all(divergence):
    clean, augmented = (value.requires_grad_() for value in views())
    loss = consistency_loss(clean, augmented, task=MULTICLASS, divergence=divergence, temperature=0.5)
    on_clean, on_augmented = torch.autograd.grad(loss, [clean, augmented], allow_unused=True)
    assert on_clean is None and on_augmented.abs().sum() > 0


def test_temperature_sharpens_the_target_only():
    clean, augmented = views()
    p, q = (clean / 0.4).softmax(dim=1), augmented.softmax(dim=1)
    _, on_augmented = gradients(task=MULTICLASS, temperature=0.4)
    torch.testing.assert_close(on_augmented, (q - p) / 5, rtol=1e-5, atol=1e-7)


def test_confidence_is_strict_looks_before_sharpening_and_averages_over_all():
    unsure, sure = [0.0, 0.0, 0.0], [math.log(8), 0.0, 0.0]  # largest probabilities 1/3 and .8
    clean, augmented = torch.tensor([unsure, sure, sure, sure]), torch.zeros(4, 3)
    one = consistency_loss(clean[1:2], augmented[1:2], task=MULTICLASS, temperature=0.5)
    masked = consistency_loss(clean, augmented, task=MULTICLASS, temperature=0.5, confidence=0.7)
    assert masked.item() == pytest.approx(3 / 4 * one.item())
    assert consistency_loss(clean, augmented, task=MULTICLASS, temperature=0.1, confidence=0.85).item() == 0
    halves = torch.zeros(2, 3)  # every Bernoulli is exactly as sure as the threshold
    assert consistency_loss(halves, halves + 1, task=MULTILABEL, confidence=0.5).item() == 0


@pytest.mark.parametrize("task", [MULTICLASS, MULTILABEL], ids=["multiclass", "multilabel"])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_stable_for_extreme_logits(task, divergence):
    for dtype, temperature in itertools.product((torch.float32, torch.bfloat16, torch.float16), (1.0, 0.1)):
        rows = torch.tensor(list(itertools.product([-50.0, 0.0, 50.0], repeat=3)), dtype=dtype)
        clean, augmented = rows.repeat_interleave(27, dim=0), rows.repeat(27, 1).requires_grad_()
        loss = consistency_loss(clean, augmented, task=task, divergence=divergence, temperature=temperature)
        loss.backward()
        assert loss.dtype == torch.float32 and loss.isfinite() and loss >= 0
        assert augmented.grad is not None and augmented.grad.isfinite().all()


def test_values_at_the_extremes():
    far, near = torch.tensor([[50.0, -50.0, -50.0]]), torch.tensor([[-50.0, 50.0, -50.0]])
    assert consistency_loss(far, near, task=MULTICLASS).item() == pytest.approx(100)  # log of e^-100 is not lost
    assert consistency_loss(far, near, task=MULTILABEL).item() == pytest.approx((50 + 50 + 0) / 3)
    js_loss = consistency_loss(far, near, task=MULTICLASS, divergence="js_softmax")
    assert js_loss.item() == pytest.approx(math.log(2))  # its upper bound


@pytest.mark.parametrize("divergence", ["auto", *DIVERGENCES])
def test_equal_views_cost_nothing(divergence):
    clean, _ = views()
    assert consistency_loss(clean, clean, task=MULTILABEL, divergence=divergence).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("given", [{"divergence": "kl_softmax"}, {"temperature": 0.5}, {"confidence": 0.5}])
def test_a_regression_refuses_what_it_would_ignore(given):
    with pytest.raises(ValueError, match="no meaning for a regression"):
        consistency_loss(torch.zeros(2, 1), torch.zeros(2, 1), task=REGRESSION, **given)


def after(*epochs: tuple[float, float], **config) -> DynamicLambda:
    dynamic = DynamicLambda(UdaConfig(**{"mode": "dynamic", **config}))
    for val_loss, train_metric in epochs:
        dynamic.update(val_loss, train_metric)
    return dynamic


# (L^V, M^T) of two epochs and, by hand: q_V, q_T, R = q_V^N q_T^K, case.
@pytest.mark.parametrize(
    ("before", "last", "n", "k", "q_v", "q_t", "ratio", "case"),
    [
        ((1.0, 0.0), (2.0, 1.0), 2, 1, 1.5, 2.0, 4.5, "1"),  # loss up, metric up: overfitting
        ((1.0, 0.0), (0.5, 1.0), 2, 3, 0.75, 2.0, 4.5, "2"),  # 2^3 > (4/3)^2
        ((1.0, 0.0), (0.5, 1.0), 5, 1, 0.75, 2.0, 2 * 0.75**5, "3"),  # 2 < (4/3)^5 = 4.2
        ((1.0, 1.0), (0.5, 0.0), 1, 1, 0.75, 0.5, 0.375, "3"),  # both fall
        ((1.0, 1.0), (2.0, 0.5), 1, 1, 1.5, 0.75, 1.125, "outside"),  # the quadrant the table leaves out, up
        ((1.0, 1.0), (2.0, 0.5), 1, 2, 1.5, 0.75, 0.84375, "outside"),  # and down
        ((1.0, 0.0), (0.0, 1.0), 1, 1, 0.5, 2.0, 1.0, "equal"),  # the boundary of cases 2 and 3
        ((1.0, 0.5), (1.0, 0.5), 5, 1, 1.0, 1.0, 1.0, "equal"),  # nothing moved
        ((1.0, 0.0), (2.0, 1.0), 0, 0, 1.5, 2.0, 1.0, "equal"),  # exponents of 0 switch it off
        ((1.0, 0.0), (1.0, 1.0), 5, 1, 1.0, 2.0, 2.0, "outside"),  # q_V is exactly 1
        ((1.0, 0.5), (2.0, 0.5), 2, 1, 1.5, 1.0, 2.25, "outside"),  # q_V > 1 and q_T is exactly 1
        ((1.0, 0.5), (0.5, 0.5), 2, 1, 0.75, 1.0, 0.5625, "3"),  # 1 < (4/3)^2
    ],
)
def test_table_1(before, last, n, k, q_v, q_t, ratio, case):
    state = after(before, last, n=n, k=k, lam=0.5).current()
    assert state.case == case
    assert (state.q_v, state.q_t, state.ratio) == pytest.approx((q_v, q_t, ratio), rel=1e-12)
    assert state.lam == pytest.approx(0.5 * ratio, rel=1e-12)


def test_lambda_is_not_cumulative():
    history = [(1.0, 0.2), (2.0, 0.4), (1.5, 0.6), (1.5, 0.6), (0.7, 0.9)]
    dynamic = after(n=3, k=2, lam=2.0)
    for (loss_before, metric_before), (loss_last, metric_last) in itertools.pairwise(history):
        dynamic.update(loss_before, metric_before)
        fresh = after((loss_before, metric_before), (loss_last, metric_last), n=3, k=2, lam=2.0).current()
        dynamic.update(loss_last, metric_last)
        assert dynamic.current() == fresh == dynamic.current()
        ratio = ((1 + loss_last) / (1 + loss_before)) ** 3 * ((1 + metric_last) / (1 + metric_before)) ** 2
        assert fresh.lam == pytest.approx(2.0 * ratio)
    assert after(*history[:4], n=3, k=2, lam=2.0).current().lam == 2.0  # a product so far would not be back at lambda


@pytest.mark.parametrize(("warmup", "lam"), [("base", 0.7), ("zero", 0.0)])
def test_warm_up_lasts_two_epochs(warmup, lam):
    dynamic = after(lam=0.7, n=1, k=1, warmup_lambda=warmup)
    for epoch in ((1.0, 0.0), (0.0, 1.0)):
        state = dynamic.current()
        assert (state.lam, state.ratio, state.case) == (lam, 1.0, "warmup")
        dynamic.update(*epoch)
    assert dynamic.current().case == "equal" and dynamic.current().lam == pytest.approx(0.7)


@pytest.mark.parametrize(("mode", "lam"), [("none", 0.0), ("fixed", 0.7)])
def test_the_other_modes_never_move(mode, lam):
    dynamic = after((1.0, 0.1), (9.0, 0.9), (math.nan, 0.9), mode=mode, lam=0.7)
    state = dynamic.current()
    assert (state.lam, state.ratio, state.case) == (lam, 1.0, mode)


def test_state_survives_json_to_the_last_bit():
    epochs = [(0.1 + 0.2, 1 / 3), (1 / 7, 0.7), (math.pi, 2 / 3)]
    for known in range(4):
        original = after(*epochs[:known])
        resumed = after((5.0, 0.5))
        resumed.load_state_dict(json.loads(json.dumps(original.state_dict())))
        assert resumed.current() == original.current()
        original.update(0.3, 0.9)
        resumed.update(0.3, 0.9)
        assert resumed.current() == original.current()


def test_big_exponents_stay_finite():
    jump = ((0.0, 0.0), (1e6, 1.0))
    capped = after(*jump, n=100, k=100, lambda_max=3.0).current()
    assert capped.lam == 3.0 and math.isfinite(capped.ratio) and capped.case == "1"
    with pytest.raises(ValueError, match=r"lambda overflows at n = 100, k = 100; set uda.lambda_max"):
        after(*jump, n=100, k=100).current()
    fall = after((1e6, 1.0), (0.0, 0.0), n=100, k=100).current()
    assert fall.lam == 0.0 and fall.case == "3"
    assert after(*jump, n=100, k=100, lam=0.0).current().lam == 0.0


def test_lambda_max_caps_and_nothing_else():
    assert after((1.0, 0.0), (2.0, 1.0), n=2, k=1, lam=1.0, lambda_max=4.0).current().lam == 4.0
    assert after((1.0, 0.0), (2.0, 1.0), n=2, k=1, lam=1.0, lambda_max=5.0).current().lam == pytest.approx(4.5)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [(math.nan, 0.5), (math.inf, 0.5), (0.5, math.nan), (0.5, -math.inf), (-1.0, 0.5)])
def test_values_that_make_no_ratio_are_refused_and_leave_the_state_alone(bad):
    dynamic = after((1.0, 0.5), (0.5, 0.6))
    state = dynamic.current()
    with pytest.raises(ValueError, match="dynamic lambda needs finite values above -1"):
        dynamic.update(*bad)
    assert dynamic.current() == state
