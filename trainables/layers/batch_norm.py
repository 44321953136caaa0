"""BatchNorm over the whole batch of an optimiser step, whichever ranks its rows are on (docs/methods.md#batch-norm).

torch's SyncBatchNorm does the same on GPUs alone. The statistics are sums over all ranks first and one division
last, so every rank has the same ones, and its running statistics are those that a single process would have.

Letters: B rows, D features, n values of a feature over all ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.freezing import locked_names


class BatchNorm(nn.BatchNorm1d):
    """Takes (B, D) or (B, D, ...), and one value a feature too: that has no variance, so the running statistics serve.

    Attributes:
        is_fixed: in training too, the running statistics normalise and stay as they are.
    """

    is_fixed = False

    def forward(self, input: Tensor) -> Tensor:
        """The input, normalised for each feature; its running statistics move in training."""
        if not self.training:
            return super().forward(input)
        if self.is_fixed:
            return self._by_running_statistics(input)
        if num_ranks() > 1:
            return self._over_ranks(input)  # pyright: ignore (loses the signature in torch.compiler.disable)
        return self._by_running_statistics(input) if input.numel() == input.shape[1] else super().forward(input)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions."""

    def _by_running_statistics(self, input: Tensor) -> Tensor:
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)

    @torch.compiler.disable
    def _over_ranks(self, input: Tensor) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        normed, mean_D, var_D, count = _Normalise.apply(input, self.weight, self.bias, self.eps)  # pyright: ignore
        if count.item() == 1:
            return self._by_running_statistics(input)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean_D, self.momentum)
            self.running_var.lerp_(var_D * (count / (count - 1)), self.momentum)
        return normed


def num_ranks() -> int:
    """How many processes train together; 1 outside of torch.distributed."""
    is_alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
    return 1 if is_alone else torch.distributed.get_world_size()


class _Normalise(torch.autograd.Function):
    """w (x - mean) / sqrt(var + eps) + b with mean and var (D,) over all ranks, in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        over, values = _other_dims(x), x.float()
        sums = torch.cat([values.sum(over), values.new_tensor([x.numel() / x.shape[1]])])
        torch.distributed.all_reduce(sums)
        mean_D, count = sums[:-1] / sums[-1], sums[-1]
        centred = values - _like(mean_D, x)
        var_D = centred.square().sum(over)
        torch.distributed.all_reduce(var_D)
        var_D /= count
        scale_D = (var_D + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean_D, scale_D, count)
        ctx.mark_non_differentiable(mean_D, var_D, count)
        return (centred * _like(scale_D * weight, x) + _like(bias, x)).to(x.dtype), mean_D, var_D, count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """d/dx: w / sd (g - mean(g) - x^ mean(g x^)), means over all ranks; weight and bias get this rank's share."""
        x, weight, mean_D, scale_D, count = ctx.saved_tensors
        over, grad = _other_dims(x), grads[0].float()
        normed = (x.float() - _like(mean_D, x)) * _like(scale_D, x)
        bias_D, weight_D = grad.sum(over), (grad * normed).sum(over)
        sums_2D = torch.stack([bias_D, weight_D])
        torch.distributed.all_reduce(sums_2D)
        sums_2D /= count
        back = (grad - _like(sums_2D[0], x) - normed * _like(sums_2D[1], x)) * _like(scale_D * weight, x)
        return back.to(x.dtype), weight_D, bias_D, None


def _other_dims(x: Tensor) -> list[int]:
    return [0, *range(2, x.ndim)]


def _like(values_D: Tensor, x: Tensor) -> Tensor:
    return values_D.view(1, -1, *[1] * (x.ndim - 2))


def share_batch_norms(model: nn.Module) -> None:
    """Every BatchNorm of ``model`` becomes a :class:`BatchNorm` with the same parameters and statistics."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) and type(child) is not BatchNorm:
                setattr(parent, name, _shared(child))


def trained_batch_norms(model: nn.Module) -> Iterator[tuple[str, BatchNorm]]:
    """Name and module of each :class:`BatchNorm` that no lock holds."""
    locked = locked_names(model)
    for name, module in model.named_modules():
        if isinstance(module, BatchNorm) and f"{name}.running_mean" not in locked:
            yield name, module


def _shared(norm: Any) -> BatchNorm:
    assert norm.affine and norm.track_running_stats, "a BatchNorm of another kind than encoders have"
    shared = BatchNorm(norm.num_features, eps=norm.eps, momentum=norm.momentum, device=norm.weight.device)
    shared.weight, shared.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers():
        setattr(shared, name, buffer)
    return shared.train(norm.training)
