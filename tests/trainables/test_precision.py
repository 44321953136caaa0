import math

import pytest
import torch

from trainables import loop
from trainables.checkpoint import LAST, load_checkpoint
from trainables.errors import NonFiniteError
from trainables.loop import setup
from trainables.precision import Precision, choose_precision
from trainables.ranks import Ranks


@pytest.mark.slow
def test_fp16_scaler_is_resumed_too(toy, tmp_path, monkeypatch, unmeasured):
    def precision(name, device):
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=5)
        return Precision(scaler=scaler)

    monkeypatch.setattr(loop, "choose_precision", precision)
    config = toy("text", epochs=3)
    straight = loop.train(config, folder=tmp_path / "straight", ranks=Ranks())
    loop.train(config, folder=tmp_path / "twice", ranks=Ranks(), report=lambda row: row["epoch"] == 1)
    scaler = load_checkpoint(tmp_path / "twice" / LAST)[1]["scaler"]
    assert scaler["scale"] == 128.0 and scaler["_growth_tracker"] == 1  # six steps
    twice = loop.train(config, folder=tmp_path / "twice", ranks=Ranks())
    assert unmeasured(twice.reports) == unmeasured(straight.reports)
    assert load_checkpoint(tmp_path / "twice" / LAST)[1]["scaler"]["scale"] == 64.0 * 2**3


def test_fp16_skips_an_overflow_but_not_for_ever(toy, tmp_path, monkeypatch):
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    monkeypatch.setattr(loop, "choose_precision", lambda name, device: Precision(scaler=scaler))
    state = setup(toy("image", batch_size=4), folder=tmp_path, ranks=Ranks())
    weight = next(parameter for parameter in state.model.parameters() if parameter.requires_grad)
    handle = weight.register_hook(lambda grad: grad * math.inf)
    before = weight.detach().clone()
    with pytest.raises(NonFiniteError, match="however small fp16 scales the loss, epoch 1, step 5"):
        loop.fit_epoch(state)  # 16, 8, 4, 2, 1: the fifth overflow takes the scale below 1
    assert weight.equal(before) and not (tmp_path / LAST).exists()
    handle.remove()
    scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0**10})
    once = weight.register_hook(lambda grad: grad * math.inf if scaler.get_scale() == 2.0**10 else grad)
    loop.fit_epoch(state)  # one overflow, then it trains
    once.remove()
    assert scaler.get_scale() == 2.0**9 and not weight.equal(before)


def test_a_cpu_computes_in_what_it_is_told_and_by_default_in_float32():
    cpu, x = torch.device("cpu"), torch.ones(2, 2)
    for name, dtype in (("auto", torch.float32), ("fp32", torch.float32), ("bf16", torch.bfloat16)):
        precision = choose_precision(name, cpu)
        with precision.autocast():
            assert (x @ x).dtype == dtype
        assert precision.scaler is None
