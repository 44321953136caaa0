"""Every family with something locked: no gradient, eval mode, left out of checkpoints, the same after a resume."""

import cases
import pytest
import torch
from cases import made, total_loss

from trainables.checkpoint import load_checkpoint, model_tensors
from trainables.config import OptimConfig
from trainables.encoders.port import Port
from trainables.families import FAMILIES, family_inputs
from trainables.freezing import is_locked, locked_names
from trainables.loop import train
from trainables.optim import build_optimizer

ALL = cases.variants()


@pytest.mark.parametrize(("family", "model"), ALL)
def test_what_trains_gets_a_gradient_and_what_is_locked_stays(family, model, toy):
    """DDP waits for ever for a parameter without a gradient. A locked BatchNorm keeps its statistics, too."""
    net, data, batch = made(toy, family, model)
    locked = {name: net.state_dict()[name].clone() for name in locked_names(net)}
    net.train()
    optimizer = build_optimizer(net, OptimConfig.model_validate({"lr": 0.1}))
    for rows in ([0, 1, 2, 3], [5, 6, 7]):
        optimizer.zero_grad()
        total_loss(net(batch(rows)), torch.from_numpy(data.labels[rows]), data.task).backward()
        for name, parameter in net.named_parameters():
            assert (parameter.grad is not None) is parameter.requires_grad is (name not in locked), name
        optimizer.step()
    for name, value in locked.items():
        assert value.equal(net.state_dict()[name]), name
    ports = {name: module for name, module in net.named_modules() if isinstance(module, Port)}
    held = {name for name, port in ports.items() if port.encoder is not None and is_locked(port.encoder)}
    inputs = family_inputs(toy(family, model=model))
    assert held == {modality for modality, input in inputs.items() if input.is_locked and not input.is_regions}


@pytest.mark.parametrize(("family", "model"), ALL)
def test_what_does_not_train_has_no_dropout_and_is_in_no_checkpoint(family, model, toy):
    net, _, _ = made(toy, family, model)
    optimizer = build_optimizer(net.eval().train(), OptimConfig())  # pyright: ignore[reportCallIssue]
    optimised = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    saved = model_tensors(net)
    for name, parameter in net.named_parameters():
        assert (name in saved) is parameter.requires_grad is (id(parameter) in optimised), name
    for name, module in net.named_modules():
        if is_locked(module):
            assert not any(part.training for part in module.modules()), name
            assert not any(key.startswith(f"{name}.") for key in saved), name  # buffers, too
        states = {parameter.requires_grad for parameter in module.parameters(recurse=False)}
        assert states in (set(), {module.training}), name


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_resumed_trial_has_the_same_locked_parts(family, toy, unmeasured, tmp_path):
    """They come from the config, not from the checkpoint: same reports and same tensors as without a break."""
    for model in cases.of(family).VARIANTS:
        net, _, _ = made(toy, family, model)
        locked = locked_names(net)
        if locked:
            break
    else:
        return  # a family that locks nothing
    config = toy(family, model=model, cache_features=False)
    straight = train(config, folder=tmp_path / "straight")
    assert train(config, folder=tmp_path / "broken", report=lambda row: True).reason == "stopped"
    again = train(config, folder=tmp_path / "broken", known_epoch=1)
    assert unmeasured(again.reports) == unmeasured(straight.reports) and len(again.reports) == 2
    for file in ("best.safetensors", "last.safetensors"):
        wanted, found = (load_checkpoint(tmp_path / run / file)[0] for run in ("straight", "broken"))
        assert wanted.keys() == found.keys() and all(value.equal(found[name]) for name, value in wanted.items())
        assert not {name.removeprefix("model/").removeprefix("optimizer/") for name in found} & locked
