from typing import Any

import pytest
from pydantic import ValidationError

from trainables.config import LossConfig, OptimConfig, TrialConfig, UdaConfig
from trainables.families import FAMILIES
from trainables.families.image import Config as ImageConfig

BASE: dict[str, Any] = {"family": "text", "dataset": "openclipart"}


@pytest.mark.parametrize("family", FAMILIES)
def test_to_dict_round_trips(family):
    params = {"family": family, "dataset": "openclipart", "optim.lr": 1e-4, "uda.mode": "dynamic"}
    name, value = ("z", 7) if family == "mvae" else ("dropout", 0.25)
    params[f"model.{name}"] = value
    config = TrialConfig.from_params(params)
    again = TrialConfig(**config.to_dict())
    assert again == config and again.to_dict() == config.to_dict()
    assert type(again.model) is type(config.model) and getattr(again.model, name) == value


def test_params_nest_by_their_dots():
    config = TrialConfig.from_params({**BASE, "optim.lr": 3e-5, "uda.n": 4, "model.text_pool": "cls", "epochs": 3})
    assert (config.optim.lr, config.uda.n, config.model.text_pool, config.epochs) == (3e-5, 4, "cls", 3)
    assert config.optim.weight_decay == TrialConfig(**BASE).optim.weight_decay
    given = {"depth": 0}
    config = TrialConfig.from_params({**BASE, "model": given, "model.hidden": 9})
    assert (config.model.depth, config.model.hidden) == (0, 9) and given == {"depth": 0}


@pytest.mark.parametrize(
    ("params", "location"),
    [
        ({"learning_rate": 1e-3}, ("learning_rate",)),
        ({"optim.lrr": 1e-3}, ("optim", "lrr")),
        ({"model.widht": 3}, ("model", "widht")),
        ({"epochs": "3"}, ("epochs",)),
        ({"epochs": 2.0}, ("epochs",)),
        ({"epochs": True}, ("epochs",)),
        ({"epochs": 0}, ("epochs",)),
        ({"optim.lr": "1e-3"}, ("optim", "lr")),
        ({"optim.lr": float("nan")}, ("optim", "lr")),
        ({"uda.mode": "off"}, ("uda", "mode")),
        ({"model.hidden": 1.5}, ("model", "hidden")),
        ({"model.dropout": 1.0}, ("model", "dropout")),
        ({"optim": 3}, ("optim",)),
    ],
)
def test_unknown_keys_wrong_types_and_ranges_are_refused(params, location):
    with pytest.raises(ValidationError) as caught:
        TrialConfig.from_params({**BASE, **params})
    assert [error["loc"] for error in caught.value.errors()] == [location]


@pytest.mark.parametrize("params", [{"optim": 3, "optim.lr": 1e-3}, {"optim.lr": 1e-3, "optim": 3}])
def test_a_key_inside_anothers_value_is_refused(params):
    with pytest.raises(ValueError, match="params: 'optim"):
        TrialConfig.from_params({**BASE, **params})


def test_a_family_takes_its_own_config_alone():
    with pytest.raises(ValueError, match="'txt' is unknown. Known: .*fusion, .*image, .*text"):
        TrialConfig(**{**BASE, "family": "txt"})
    with pytest.raises(ValueError, match="a Config is no Config of family 'text'"):
        TrialConfig(**BASE, model=ImageConfig.model_validate({"hidden": 7}))


def test_a_config_is_frozen():
    config = TrialConfig(**BASE)
    with pytest.raises(ValidationError, match="frozen"):
        config.epochs = 3
    with pytest.raises(ValidationError, match="frozen"):
        config.optim.lr = 3.0


def test_plateau_must_act_before_patience_ends_training():
    params = {**BASE, "optim.schedule": "plateau", "optim.plateau_patience": 2}
    with pytest.raises(ValueError, match=r"optim.plateau_patience: 2 must be below patience \(2\)"):
        TrialConfig.from_params({**params, "patience": 2})
    assert TrialConfig.from_params({**params, "patience": 3}).patience == 3


def test_blank_names_are_none():
    config = TrialConfig(**BASE, target="", data_dir="")
    assert config.target is None and config.data_dir is None


@pytest.mark.parametrize("section", [TrialConfig, OptimConfig, UdaConfig, LossConfig])
def test_every_field_says_what_it_is(section):
    for name, field in section.model_fields.items():
        assert field.description is not None, name
        assert field.description.split("\n\n")[0].endswith("."), name
