"""What the contract suites run over: each family's test file brings the cases of its own.

``test_<family>.py`` has ``TINY``, the settings that make its encoders small, and ``VARIANTS``, settings on top of
these. Where a suite needs more than the defaults here, it has also

BY_HEART      settings under which eight rows can be learnt by heart
ON_RANKS      settings under which it trains on two ranks as on one
RECOMPUTED    settings under which transformer layers train, for gradient checkpointing; None: none ever do
REFUSED       (setting of a variant, target of the toy dataset, the error that their model is refused with)
ONLY_TRAINS   (setting of a variant, modality that its loss reads and its answers do not)
STAND_INS     small models in place of names on a hub that its search files use: name -> (kind of config, its fields)
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch

from trainables.data.open import open_data
from trainables.families import FAMILIES
from trainables.losses import supervised_loss
from trainables.model import build_model

Settings = dict[str, Any]


@cache
def of(family: str) -> Any:
    """The family's test file."""
    return import_module(f"test_{family}")


def variants(*families: str) -> list[Any]:
    """Parameters (family, settings of its model), on top of ``TINY``, of these families; of all, if there are none.

    The first of each family stands for it in a quick run; the others are slow.
    """
    return [
        pytest.param(family, model, marks=() if at == 0 else pytest.mark.slow)
        for family in families or FAMILIES
        for at, model in enumerate(of(family).VARIANTS)
    ]


def refusal(family: str, model: Settings, target: str) -> str | None:
    """What a family says when it cannot predict a target with these settings; None: it can."""
    for setting, refused, message in getattr(of(family), "REFUSED", ()):
        if refused == target and setting.items() <= model.items():
            return message
    return None


def only_trains(family: str, model: Settings, modality: str) -> bool:
    """Whether with these settings the modality is read in training alone."""
    told = getattr(of(family), "ONLY_TRAINS", ())
    return any(setting.items() <= model.items() and modality == name for setting, name in told)


def made(toy, family, model, *, target="class", cache_features=False, **given) -> tuple[Any, Any, Any]:
    """Model, data and a function from row numbers to a batch."""
    objective = {"class": "val_accuracy", "many": "val_ap_micro", "number": "val_rmse"}[target]
    given = {"target": target, "objective": objective, "cache_features": cache_features, **given}
    config = toy(family, model=model, **given)
    data = open_data(config)
    torch.manual_seed(0)
    net = build_model(config, data)
    return net, data, lambda rows: data.batch(np.array(rows), data.clean)


def total_loss(out, labels, task):
    """What the loop minimises."""
    own = sum(part_B.mean() for part_B in out.losses.values())
    own += sum(out.head_weights[name] * supervised_loss(part, labels, task) for name, part in out.heads.items())
    return out.supervised_weight * supervised_loss(out.logits, labels, task) + own
