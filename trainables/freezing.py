"""What does not train: modules *locked* for good (LiT, Zhai et al. 2022), or *frozen* for the first epochs.

Either is held while it does not train: no gradient, and eval mode whatever ``train()`` of a model around it says,
so that dropout is off and BatchNorm statistics stay. A locked module never changes: it is left out of the
optimiser and of checkpoints. A frozen one is in both from the start, since it trains in the end.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


def lock(module: nn.Module) -> None:
    """Holds ``module`` for good."""
    module.requires_grad_(False)
    module.eval()
    vars(module)["train"] = _Hold(module, [], epochs=None, is_on=True)


def freeze(module: nn.Module, *, epochs: int) -> None:
    """Holds ``module`` in epochs 1 to ``epochs``, as soon as :func:`begin_epoch` says which it is; 0 holds nothing."""
    assert not is_locked(module), "a locked module never trains"
    if epochs > 0:
        trains = [parameter for parameter in module.parameters() if parameter.requires_grad]
        vars(module)["train"] = _Hold(module, trains, epochs=epochs, is_on=False)


def begin_epoch(model: nn.Module, epoch: int) -> bool:
    """Holds what is frozen in ``epoch``, which counts from 1, and lets go of the rest; modes follow with ``train()``.

    Returns:
        Whether other parameters train than before: DDP, which never synchronises what did not train when it
        wrapped the model, has to wrap it anew.
    """
    holds = [hold for module in model.modules() if (hold := _hold_of(module)) is not None]
    for hold in holds:
        hold.is_on = hold.epochs is None or epoch <= hold.epochs
    held = {id(parameter) for hold in holds if hold.is_on for parameter in hold.module.parameters()}
    changed = [part for hold in holds for part in hold.trains if part.requires_grad is (id(part) in held)]
    for parameter in changed:
        parameter.requires_grad_(id(parameter) not in held)
    return bool(changed)


def is_locked(module: nn.Module) -> bool:
    """Whether :func:`lock` holds the module itself."""
    hold = _hold_of(module)
    return hold is not None and hold.epochs is None


def locked_names(model: nn.Module) -> set[str]:
    """The names in ``model.state_dict()`` of what lies in locked modules, parameters and buffers."""
    modules = model.named_modules(remove_duplicate=False)
    prefixes = tuple(f"{name}." if name else "" for name, module in modules if is_locked(module))
    return {name for name in model.state_dict() if name.startswith(prefixes)}


@dataclass(eq=False)
class _Hold:
    """What stands in for ``module.train``.

    Attributes:
        module: what is held.
        trains: its parameters that train when it is not.
        epochs: the last one in which it is held; None is for good.
        is_on: whether it is held now.
    """

    module: nn.Module
    trains: list[nn.Parameter]
    epochs: int | None
    is_on: bool

    def __call__(self, mode: bool = True) -> nn.Module:
        return type(self.module).train(self.module, mode and not self.is_on)


def _hold_of(module: nn.Module) -> _Hold | None:
    hold = vars(module).get("train")
    return hold if isinstance(hold, _Hold) else None
