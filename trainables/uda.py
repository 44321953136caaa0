"""Fixed and dynamic unsupervised data augmentation (Monter-Aldana et al. 2023, eqs. 6-11).

Epoch i trains on L_s + lambda_i L_c. L_c makes the prediction on the augmented view follow the one on the
clean view, which is a constant target. lambda_i = lambda (q_V)^N (q_T)^K with
q_V = (1 + L^V_{i-1}) / (1 + L^V_{i-2}), supervised validation loss with the weights of training, and
q_T = (1 + M^T_{i-1}) / (1 + M^T_{i-2}), tuning metric on clean training inputs. lambda is the configured
constant each time, never the previous lambda_i. The paper's text is the only authority: no code of the
dynamic part was published (docs/methods.md#uda).

Tensor letters: B samples, C classes, G decisions a sample (1 softmax, or C Bernoulli), K outcomes a decision.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.config import UdaConfig
from trainables.task import Task

Divergence = Literal["auto", "kl_softmax", "kl_bernoulli", "js_softmax", "js_bernoulli", "mse_prob"]


def consistency_loss(
    clean_logits: Tensor,
    augmented_logits: Tensor,
    *,
    task: Task,
    divergence: Divergence = "auto",
    temperature: float = 1.0,
    confidence: float | None = None,
) -> Tensor:
    """Mean divergence of the augmented view's prediction from the clean view's (eq. 7), in float32.

    Args:
        clean_logits: (B, C), the target; gets no gradient.
        augmented_logits: (B, C).
        task: 'auto' is kl_bernoulli for multi-label, kl_softmax for multi-class, and for a regression the
            squared error of the outputs, which is the only one it takes.
        divergence: '*_softmax' compares one distribution over the classes; '*_bernoulli' one of two outcomes
            for each class, averaged over classes; 'mse_prob' squared probabilities, averaged over classes.
        temperature: divides the target's logits; below 1 sharpens it. The other side is left alone.
        confidence: None, or decisions count only where the largest probability of the target, before
            sharpening, is above this. A decision is a sample (softmax) or a (sample, class) pair (Bernoulli).
            The mean stays over all decisions, masked ones included, as in Xie et al.'s code.

    Returns:
        Scalar, a mean over the batch.

    Raises:
        ValueError: a setting that a regression would ignore.
    """
    assert clean_logits.shape == augmented_logits.shape
    clean, augmented = clean_logits.detach().float(), augmented_logits.float()
    if task.kind == "regression":
        if divergence != "auto" or temperature != 1 or confidence is not None:
            raise ValueError("uda: divergence, temperature and confidence have no meaning for a regression")
        return (augmented - clean).square().mean()
    is_softmax = divergence.endswith("softmax") or (divergence in ("auto", "mse_prob") and task.kind == "multiclass")
    log_p_BGK = _log_probabilities(clean / temperature, is_softmax)
    log_q_BGK = _log_probabilities(augmented, is_softmax)
    if divergence == "mse_prob":
        loss_BG = (log_p_BGK.exp() - log_q_BGK.exp()).square().mean(dim=2)
    elif divergence.startswith("js"):
        log_mean_BGK = torch.logaddexp(log_p_BGK, log_q_BGK) - math.log(2)
        loss_BG = (_kl(log_p_BGK, log_mean_BGK) + _kl(log_q_BGK, log_mean_BGK)) / 2
    else:
        loss_BG = _kl(log_p_BGK, log_q_BGK)
    if confidence is not None:
        loss_BG = loss_BG * (_log_probabilities(clean, is_softmax).exp().amax(dim=2) > confidence)
    return loss_BG.mean()


def check_uda(config: UdaConfig, task: Task) -> None:
    """Refuses what the consistency loss of this kind of task would ignore.

    Raises:
        ValueError: with the setting's name.
    """
    if task.kind == "regression" and config.mode in ("fixed", "dynamic"):
        plain = {"divergence": "auto", "temperature": 1.0, "confidence": None}
        for name in (name for name, value in plain.items() if getattr(config, name) != value):
            raise ValueError(f"uda.{name}: has no meaning for a regression")


@dataclass(frozen=True)
class LambdaState:
    """lambda of one epoch and where it came from.

    Attributes:
        lam: lambda_i, what the consistency loss is multiplied by.
        q_v: q_V, above 1 when validation loss grew.
        q_t: q_T, above 1 when the training metric grew.
        ratio: R_i = q_V^N q_T^K, saturating at the largest float.
        case: Table 1 of the paper. '1': q_V > 1 and q_T > 1. '2': q_V < 1 and R > 1. '3': q_V < 1 and R < 1.
            'equal': R is exactly 1, lambda stays, whatever the quadrant. 'outside': what the table leaves out,
            q_V > 1 with q_T <= 1, or q_V = 1; the formula alone decides. 'warmup': fewer than two epochs are
            known. 'none' and 'fixed': the mode, there is nothing to tell apart.
    """

    lam: float
    q_v: float
    q_t: float
    ratio: float
    case: str


class DynamicLambda:
    """lambda of the epoch about to run, from the two last finished ones.

    Keeps (L^V, M^T) of those two, which is all that resuming needs. In the modes none and fixed it keeps
    nothing and ``update`` does nothing.
    """

    def __init__(self, config: UdaConfig) -> None:
        self.config = config
        self._history: list[tuple[float, float]] = []

    def current(self) -> LambdaState:
        """The state for the epoch about to run; asking twice changes nothing.

        Raises:
            ValueError: lambda overflows and ``uda.lambda_max`` is not set.
        """
        config = self.config
        if config.mode in ("none", "aug"):
            return LambdaState(lam=0.0, q_v=1.0, q_t=1.0, ratio=1.0, case="none")
        if config.mode == "fixed":
            return LambdaState(lam=self._capped(config.lam), q_v=1.0, q_t=1.0, ratio=1.0, case="fixed")
        if len(self._history) < 2:
            lam = self._capped(config.lam) if config.warmup_lambda == "base" else 0.0
            return LambdaState(lam=lam, q_v=1.0, q_t=1.0, ratio=1.0, case="warmup")
        (loss_before, metric_before), (loss_last, metric_last) = self._history
        log_q_v = math.log1p(loss_last) - math.log1p(loss_before)
        log_q_t = math.log1p(metric_last) - math.log1p(metric_before)
        log_ratio = config.n * log_q_v + config.k * log_q_t
        log_lam = math.log(config.lam) + log_ratio if config.lam > 0 else -math.inf
        return LambdaState(
            lam=self._capped(_exp(log_lam)),
            q_v=_exp(log_q_v),
            q_t=_exp(log_q_t),
            ratio=_exp(log_ratio),
            case=_table_1_case(log_q_v, log_q_t, log_ratio),
        )

    def update(self, val_loss: float, train_metric: float) -> None:
        """Takes in a finished epoch.

        Args:
            val_loss: L^V, mean supervised loss over the whole validation set, weighted as in training.
            train_metric: M^T in [0, 1], bigger is better, see :func:`trainables.metrics.tuning_metric`.

        Raises:
            ValueError: a value that is not finite, or not above -1.
        """
        if self.config.mode != "dynamic":
            return
        for name, value in (("validation loss", val_loss), ("training metric", train_metric)):
            if not (math.isfinite(value) and value > -1):
                raise ValueError(f"uda: {name} is {value}, dynamic lambda needs finite values above -1")
        self._history = [*self._history, (float(val_loss), float(train_metric))][-2:]

    def state_dict(self) -> dict[str, Any]:
        """JSON-able; what :meth:`load_state_dict` takes."""
        return {"history": [list(epoch) for epoch in self._history]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`state_dict` gave."""
        self._history = [(float(val_loss), float(train_metric)) for val_loss, train_metric in state["history"]]

    def _capped(self, lam: float) -> float:
        if self.config.lambda_max is not None:
            return min(lam, self.config.lambda_max)
        if lam >= sys.float_info.max:
            raise ValueError(f"uda: lambda overflows at n = {self.config.n}, k = {self.config.k}; set uda.lambda_max")
        return lam


def _log_probabilities(logits_BC: Tensor, is_softmax: bool) -> Tensor:
    if is_softmax:
        return F.log_softmax(logits_BC, dim=1).unsqueeze(1)
    return torch.stack([F.logsigmoid(logits_BC), F.logsigmoid(-logits_BC)], dim=2)


def _kl(log_p_BGK: Tensor, log_q_BGK: Tensor) -> Tensor:
    return (log_p_BGK.exp() * (log_p_BGK - log_q_BGK)).sum(dim=2)


def _exp(log_value: float) -> float:
    """exp that saturates at the largest float instead of raising."""
    return math.exp(log_value) if log_value < math.log(sys.float_info.max) else sys.float_info.max


def _table_1_case(log_q_v: float, log_q_t: float, log_ratio: float) -> str:
    if log_ratio == 0:
        return "equal"
    if log_q_v > 0 and log_q_t > 0:
        return "1"
    if log_q_v < 0:
        return "2" if log_ratio > 0 else "3"
    return "outside"
