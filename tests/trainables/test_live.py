"""Bytes that are alive, counted by hand beside: B rows, L tokens, D wide, H heads."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from trainables.live import AsOnGpu, LiveBytes, without_values

CPU = torch.device("cpu")
B, L, D, H = 4, 32, 16, 2


@contextlib.contextmanager
def counted(*, on_gpu=False, block=1):
    with FakeTensorMode(), AsOnGpu() if on_gpu else contextlib.nullcontext(), LiveBytes(block=block) as live:
        yield live


def test_an_mlp_keeps_what_its_backward_reads():
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    weights = 4 * (8 * 16 + 16 + 16 * 3 + 3)
    with counted() as live:
        without_values(net, CPU)
        assert live.now == weights
        x, labels = torch.empty(5, 8), torch.empty(5, dtype=torch.int64)
        logits = net(x)
        loss = F.cross_entropy(logits, labels)
        given, hidden, out, log_softmax, scalars = 5 * 8 * 4 + 5 * 8, 5 * 16 * 4, 5 * 3 * 4, 5 * 3 * 4, 2 * 4
        kept = given + hidden + out + log_softmax + scalars  # before the ReLU nothing: its backward reads its output
        assert live.now - weights == kept
        assert live.peak - weights == kept + hidden - log_softmax - scalars - out  # while the ReLU reads
        loss.backward()
        del loss
        assert live.now == 2 * weights + given + out  # a gradient for each weight; the graph is gone
        assert live.peak >= 2 * weights + given + out
        net.zero_grad(set_to_none=True)
        del x, labels, logits
        assert live.now == weights


def test_what_is_computed_again_keeps_its_input_alone():
    with torch.device("meta"):
        layers = [nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D)) for _ in range(3)]
    rows, found, peaks = 1024, {}, {}
    for again in (False, True):
        with counted() as live:
            for layer in layers:
                without_values(layer, CPU)
            weights, x = live.now, torch.empty(rows, D)
            for layer in layers:
                x = checkpoint(layer, x, use_reentrant=False) if again else layer(x)
            found[again] = live.now - weights
            x.sum().backward()
            del x
            assert live.now == 2 * weights
            peaks[again] = live.peak - weights
    own, width = rows * D * 4, rows * 4 * D * 4
    assert found == {False: 4 * own + 3 * 2 * width, True: 4 * own}  # before GELU and behind it
    assert peaks[False] > 4 * own + 7 * width  # of three layers, and a gradient
    assert 4 * own + 3 * width < peaks[True] < 4 * own + 5 * width  # of one layer at a time


def test_half_precision_keeps_casts_of_inputs_and_weights_and_each_weight_once():
    with torch.device("meta"):
        net = nn.Linear(D, D, bias=False)
    with counted() as live:
        without_values(net, CPU)
        weights, x = live.now, torch.empty(B, D)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = net(x)
            z = net(y)
            assert live.now - weights == B * D * 4 + 3 * B * D * 2 + D * D * 2
        assert z.dtype == torch.bfloat16


def test_tied_weights_are_there_once_and_stay_tied():
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(D, D, bias=False), nn.Linear(D, D, bias=False))
        net[1].weight = net[0].weight
    with counted() as live:
        without_values(net, CPU)
        assert live.now == D * D * 4 and net[1].weight is net[0].weight
    with torch.device("meta"):
        frozen = nn.BatchNorm1d(3).requires_grad_(False)
    with counted(block=512) as live:  # an allocator's blocks
        without_values(frozen, CPU)
        assert live.now == 5 * 512 and not frozen.weight.requires_grad


def test_without_a_gradient_nothing_stays():
    with torch.device("meta"):
        net = nn.Sequential(*(nn.Linear(D, D) for _ in range(5)))
    with counted() as live, torch.no_grad():
        without_values(net, CPU)
        weights = live.now
        y = net(torch.empty(B, D))
        assert live.now - weights == B * D * 4 and live.peak - weights <= 3 * B * D * 4
        del y


def test_a_gpus_dropout_keeps_a_byte_an_element():
    kept = {}
    for on_gpu in (False, True):
        with counted(on_gpu=on_gpu) as live:
            x = torch.empty(B, D, requires_grad=True)
            before = live.now
            y = F.dropout(x, 0.1, training=True)
            kept[on_gpu] = live.now - before
            same = F.dropout(x, 0.1, training=False)
            assert live.now - before == kept[on_gpu] and same is not y
    assert kept == {False: 2 * B * D * 4, True: B * D * 4 + B * D}


@pytest.mark.parametrize("has_mask", [False, True])
def test_a_gpus_attention_keeps_no_matrix_of_weights(has_mask):
    """Of its own it keeps the output, a number a row and head, seed and offset; and the mask as numbers."""
    kept = {}
    for on_gpu in (False, True):
        with counted(on_gpu=on_gpu) as live:
            q, k, v = (torch.empty(B, H, L, D, requires_grad=True) for _ in range(3))
            mask = torch.empty(B, 1, L, L, dtype=torch.bool) if has_mask else None
            before = live.now
            out = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=0.1)
            kept[on_gpu] = live.now - before
            out.sum().backward()
            assert q.grad is not None and q.grad.shape == q.shape
    assert kept[True] == B * H * L * D * 4 + B * H * L * 4 + 2 * 8 + (B * L * L * 4 if has_mask else 0)
    assert kept[False] > 2 * B * H * L * L * 4  # a CPU has none with dropout


def test_a_gpu_normalises_in_full_precision():
    for on_gpu, dtype in ((False, torch.bfloat16), (True, torch.float32)):
        with counted(on_gpu=on_gpu), torch.autocast("cpu", dtype=torch.bfloat16):
            x = torch.empty(B, D) @ torch.empty(D, D)
            assert F.layer_norm(x, (D,)).dtype == dtype and x.softmax(dim=1).dtype == dtype


def test_where_a_value_is_asked_for_a_mask_masks():
    with counted():
        mask = torch.empty(B, L, dtype=torch.bool)
        x = torch.empty(B, L, D, requires_grad=True)
        chosen = x[mask]
        chosen.sum().backward()
        assert chosen.shape == (B * L, D) and x.grad is not None and x.grad.shape == x.shape  # all that could be
        assert not mask.all() and torch.empty(3).sum().item() == 1.0 and int(torch.empty(2, dtype=torch.int64)[0]) == 1
