"""Bytes that are alive while something runs on tensors without values, and what a GPU would do otherwise.

Every tensor that torch's FakeTensorMode makes has a shape, a type and a storage that takes nothing. :class:`LiveBytes`
counts a storage from the operation that makes it until nobody holds it any more, forward, backward and what is
computed again alike, so that its peak is that of the same run with values, less what is inside of a single kernel.
"""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from trainables.parts import InParts

_aten = torch.ops.aten
_ASKED = {torch.bool: False, torch.float32: 1.0}  # what a tensor without values says where Python asks for its value
_INDEXED = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default}


class LiveBytes(TorchDispatchMode):
    """Counts the storages that operations make; entered after the FakeTensorMode.

    Where Python asks for a value, which there is none of, a truth is False and a number 1: a mask does mask. Where
    truths choose elements, they choose all.

    Args:
        block: bytes that an allocator rounds up to.
    """

    def __init__(self, *, block: int = 1) -> None:
        super().__init__()
        self._block = block
        self._known: dict[int, tuple[Any, int]] = {}  # address of a storage -> what hears of its end, bytes
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What the operation gives."""
        if func is _aten._local_scalar_dense.default:
            return _ASKED.get(args[0].dtype, 1)
        if func in _INDEXED:
            args = (args[0], _chosen(args[1]), *args[2:])
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                self._add(value.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = math.ceil(storage.nbytes() / self._block) * self._block
        self._known[key] = weakref.ref(storage, lambda _: self._drop(key)), size
        self.now += size
        self.peak = max(self.peak, self.now)

    def _drop(self, key: int) -> None:
        self.now -= self._known.pop(key)[1]


def _chosen(indices: Any) -> list[Tensor | None]:
    """Indices with positions in place of truths."""
    found: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype == torch.bool:
            found += [torch.empty(index.numel(), dtype=torch.int64, device=index.device) for _ in index.shape]
        else:
            found.append(index)
    return found


def without_values(model: nn.Module, device: torch.device) -> None:
    """Replaces parameters and buffers, of the meta device, by tensors of the FakeTensorMode that is on."""
    memo: dict[int, Tensor] = {}  # what is tied stays tied
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, value in tensors.items():
                if value is not None:
                    tensors[name] = memo.setdefault(id(value), _like(value, device))  # pyright: ignore


def _like(value: Tensor, device: torch.device) -> Tensor:
    empty = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device)
    return nn.Parameter(empty, requires_grad=value.requires_grad) if isinstance(value, nn.Parameter) else empty


def recompute_as_on_gpu(model: nn.Module) -> None:
    """Has what is computed again in backward, where no mode follows, be computed under :class:`AsOnGpu`."""
    recompute = partial(checkpoint, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), AsOnGpu()))
    for module in model.modules():
        if isinstance(module, InParts):
            module.recompute = recompute
        elif getattr(module, "gradient_checkpointing", False):
            module._gradient_checkpointing_func = recompute  # pyright: ignore


class AsOnGpu(TorchFunctionMode):
    """What CUDA's kernels keep, on tensors of a CPU without values.

    Dropout keeps a byte an element. Attention by ``scaled_dot_product_attention`` is fused, with dropout and masks
    too: query, key, value, mask, output and a number a row are kept, no matrix of weights (PyTorch's
    memory-efficient and flash kernels). Under autocast norms, softmax, losses and powers compute in fp32.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What the function gives."""
        kwargs = kwargs or {}
        if func is F.dropout:
            return _dropout(func, *args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        if func in _IN_FP32 and torch.is_autocast_enabled("cpu"):
            args = [_full(value) for value in args]
            kwargs = {name: _full(value) for name, value in kwargs.items()}
        return func(*args, **kwargs)


_IN_FP32: frozenset[Callable[..., Any]] = frozenset(  # of CUDA's autocast, those of models and losses
    {
        *(F.layer_norm, F.group_norm, F.softmax, F.log_softmax, F.softplus, F.cross_entropy, F.nll_loss, F.mse_loss),
        *(F.l1_loss, F.smooth_l1_loss, F.kl_div, F.cosine_similarity, F.normalize, F.binary_cross_entropy_with_logits),
        *(torch.softmax, torch.log_softmax, torch.exp, torch.log, torch.pow, torch.rsqrt, torch.norm, torch.sum),
        *(torch.prod, torch.cumsum, Tensor.softmax, Tensor.log_softmax, Tensor.exp, Tensor.log, Tensor.pow),
        *(Tensor.rsqrt, Tensor.norm, Tensor.sum, Tensor.prod, Tensor.cumsum),
    }
)


def _full(value: Any) -> Any:
    is_half = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if is_half else value


def _dropout(func: Any, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if not training or not 0 < p < 1:
        return func(input, p, training, inplace)
    return torch.native_dropout(input, p, True)[0]


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(~attn_mask, -math.inf)
        attn_mask = attn_mask.to(query.dtype).expand(*query.shape[:3], key.shape[2])
    if enable_gqa:
        key, value = (part.repeat_interleave(query.shape[1] // part.shape[1], dim=1) for part in (key, value))
    return _aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, torch.is_grad_enabled(), dropout_p, is_causal, scale=scale
    )[0]
