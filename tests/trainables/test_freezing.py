import copy
from typing import Any

import pytest
import torch
from torch import nn

from trainables.freezing import begin_epoch, freeze, is_locked, lock, locked_names


def block() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))


def model() -> Any:
    torch.manual_seed(0)
    return nn.ModuleDict({"a": block(), "b": block()})


def trains(net: nn.Module) -> set[str]:
    """Of the parts those that train: they have gradients and dropout; a part has both or neither."""
    out = set()
    for name, part in net.named_children():
        states = {parameter.requires_grad for parameter in part.parameters()}
        assert states == {module.training for module in part.modules()} and len(states) == 1
        out |= {name} if states == {True} else set()
    return out


def test_a_locked_module_has_no_gradient_and_stays_in_eval_mode():
    net = model()
    lock(net["a"])
    before = copy.deepcopy(net.state_dict())
    for _ in range(2):
        assert trains(net.eval().train()) == {"b"}
        net["a"](torch.randn(4, 2))
        assert net["a"].train() is net["a"] and not net["a"].training
        begin_epoch(net, 1)
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())
    assert is_locked(net["a"]) and not is_locked(net["b"]) and not is_locked(net)


def test_a_frozen_module_waits_for_so_many_epochs():
    net = model()
    freeze(net["a"], epochs=2)
    freeze(net["b"], epochs=0)
    assert trains(net.train()) == {"a", "b"}  # nobody said yet which epoch it is
    seen = [(begin_epoch(net, epoch), trains(net.train())) for epoch in (1, 2, 3, 4, 1)]
    assert seen == [(True, {"b"}), (False, {"b"}), (True, {"a", "b"}), (False, {"a", "b"}), (True, {"b"})]
    assert not net.eval()["b"].training and not is_locked(net["a"])
    assert locked_names(net) == set()


def test_what_is_locked_or_did_not_train_before_stays_so_inside_a_frozen_module():
    net = model()
    lock(net["a"][1])
    net["a"][0].bias.requires_grad_(False)
    freeze(net, epochs=1)
    begin_epoch(net, 1)
    assert not any(parameter.requires_grad for parameter in net.parameters())
    begin_epoch(net, 2)
    names = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert names == {"a.0.weight", "b.0.weight", "b.0.bias", "b.1.weight", "b.1.bias"}
    assert [module.training for module in net.train()["a"]] == [True, False, True]


def test_a_parameter_of_two_frozen_modules_waits_for_both():
    net = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    net["b"].weight = net["a"].weight
    freeze(net["a"], epochs=1)
    freeze(net["b"], epochs=2)
    counts = []
    for epoch in (1, 2, 3):
        begin_epoch(net, epoch)
        counts.append([part.requires_grad for part in (net["a"].weight, net["a"].bias, net["b"].bias)])
    assert counts == [[False, False, False], [False, True, False], [True, True, True]]


def test_names_of_what_is_locked_are_those_of_the_state_dict():
    net = nn.Sequential(*[nn.BatchNorm1d(2) for _ in range(11)])
    lock(net[1])
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert locked_names(net) == {f"1.{part}" for part in parts}  # and not 10.
    net.add_module("again", net[1])
    assert locked_names(net) == {f"{name}.{part}" for name in ("1", "again") for part in parts}
    assert locked_names(net[1]) == set(parts)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda net: net.to(torch.float64)])
def test_a_copy_is_held_by_itself(again):
    net = model()
    lock(net["a"])
    freeze(net["b"], epochs=1)
    other = again(net)
    begin_epoch(other, 1)
    assert trains(other.train()) == set() and locked_names(other) == locked_names(net)
    if other is not net:
        assert trains(net.train()) == {"b"}


def test_what_is_locked_cannot_be_frozen():
    net = model()
    lock(net)
    with pytest.raises(AssertionError, match="never trains"):
        freeze(net, epochs=1)
