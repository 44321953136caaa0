import re
from dataclasses import replace
from typing import Any

import cases
import numpy as np
import pytest
import torch
from cases import made, total_loss
from torch import nn
from torch.nn import functional as F

from trainables.checkpoint import load_checkpoint, load_model, model_tensors, save_checkpoint
from trainables.config import Only, OptimConfig, TrialConfig
from trainables.families import FAMILIES, family_config, family_inputs, family_module
from trainables.footprint import footprint
from trainables.losses import supervised_loss
from trainables.messages import show
from trainables.model import model_size
from trainables.optim import build_optimizer, part_of

ALL = cases.variants()
READ_TEXT = [family for family in FAMILIES if "text" in family_module(family).MODALITIES]
TARGETS = {"class": 3, "many": 3, "number": 1}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_variant_of_a_family_is_its_tiny_configuration(family):
    assert cases.of(family).VARIANTS[0] == {}
    assert cases.of(family).TINY.keys() <= family_config(family).model_fields.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_exports_the_same_names(family):
    module = family_module(family)
    public = {name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    assert {name for name in public if not name.startswith("_")} == {"Config", "inputs", "droppable", "build"}
    config = module.Config()
    assert tuple(module.inputs(config)) == module.MODALITIES and isinstance(module.LOSS_TERMS, tuple)
    assert family_config(family) is module.Config
    assert TrialConfig.from_params({"family": family, "dataset": "openclipart"}).model == config


@pytest.mark.parametrize("family", FAMILIES)
def test_every_field_says_what_it_is(family):
    for name, field in family_config(family).model_fields.items():
        assert field.description is not None and field.description.endswith("."), name


MARKED = [
    pytest.param(family, name, mark.settings, id=f"{family}.{name}")
    for family in FAMILIES
    for name, field in family_config(family).model_fields.items()
    for mark in field.metadata
    if isinstance(mark, Only)
]


@pytest.mark.parametrize(("family", "name", "settings"), MARKED)
def test_a_setting_that_would_be_ignored_is_refused(family, name, settings):
    """Its default is not, whoever wrote it: a config that was read back has every field."""
    config = family_config(family)
    fields = config.model_json_schema()["properties"]
    default = config.model_fields[name].default
    kinds = [fields[name], *fields[name].get("anyOf", [])]
    other = next((v for kind in kinds for v in kind.get("enum", []) if v != default), None)
    if other is None and any(kind.get("type") == "string" for kind in kinds):
        other = "{} there"
    elif other is None:
        has_quarter = isinstance(default, float) and fields[name].get("minimum", 0) <= 0.25
        other = not default if isinstance(default, bool) else 0.25 if has_quarter else 2 * (default or 1)
    for key, allowed in settings.items():
        choices = fields[key].get("enum", [False, True])
        refusing = next(choice for choice in choices if choice not in allowed)
        message = f"{name}: belongs to {key}: {' or '.join(map(show, allowed))}, and {key} is {show(refusing)} here"
        with pytest.raises(ValueError, match=re.escape(message)):
            config(**{key: refusing, name: other})
        assert getattr(config(**{key: refusing, name: default}), name) == default
        for choice in allowed:
            assert getattr(config(**{key: choice, name: other}), name) == other


@pytest.mark.slow
@pytest.mark.parametrize(("family", "model"), ALL)
def test_logits_have_a_column_for_each_output(family, model, toy):
    for target in TARGETS:
        check_logits(family, model, target, toy)


def check_logits(family, model, target, toy):
    refused = cases.refusal(family, model, target)
    if refused is not None:
        with pytest.raises(ValueError, match=refused):
            made(toy, family, model, target=target)
        return
    net, data, batch = made(toy, family, model, target=target, cache_features=True)
    for rows in ([4], [0, 7, 2]):  # row 4 has no text
        for mode in (True, False):
            out = net.train(mode)(batch(rows))
            assert out.logits.shape == (len(rows), TARGETS[target]) and out.logits.isfinite().all()
            assert all(feature.shape[0] == len(rows) and feature.ndim == 2 for feature in out.features.values())
            assert out.losses.keys() <= set(family_module(family).LOSS_TERMS)
            assert all(loss.shape == (len(rows),) and loss.isfinite().all() for loss in out.losses.values())


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_random_encoders_are_drawn_from_the_trials_seed(family, toy):
    """The rest is drawn from the generator, which `made` sets to the same."""
    nets = [made(toy, family, {}, seed=seed)[0] for seed in (4, 4, 5)]
    one, again, other = (dict(net.named_parameters()) for net in nets)
    assert all(one[name].equal(again[name]) for name in one)
    matrices = {name for name, value in one.items() if value.ndim > 1 and value.any()}  # a [CLS] begins at 0
    changed = {name for name in matrices if not one[name].equal(other[name])}
    encoders = {name for name in matrices if part_of(name) != "head"}
    assert encoders and encoders <= changed


@pytest.mark.parametrize(("family", "model"), cases.variants(*READ_TEXT))
def test_padding_changes_nothing(family, model, toy):
    for cache_features in (True, False):
        check_padding(family, model, cache_features, toy)


def check_padding(family, model, cache_features, toy):
    net, _, batch = made(toy, family, model, cache_features=cache_features)
    rows = batch([0, 4, 9, 12])
    wider: dict[str, Any] = {"input_ids": None, "attention_mask": None, "text_features": rows.text_features}
    if rows.input_ids is not None:
        wider["input_ids"] = F.pad(rows.input_ids, (0, 5), value=77)
    if rows.attention_mask is not None:
        wider["attention_mask"] = F.pad(rows.attention_mask, (0, 5))
    if rows.text_features is not None and rows.text_features.ndim == 3:
        wider["text_features"] = F.pad(rows.text_features, (0, 0, 0, 5), value=3.0)
    with torch.no_grad():
        net.eval()
        torch.testing.assert_close(net(replace(rows, **wider)).logits, net(rows).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("family", "model"), ALL)
def test_rows_do_not_mix_in_evaluation(family, model, toy):
    net, _, batch = made(toy, family, model)
    order = [3, 0, 4, 2, 1]
    with torch.no_grad():
        net.eval()
        logits = net(batch(range(5))).logits
        torch.testing.assert_close(net(batch(order)).logits, logits[order], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(net(batch([4])).logits, logits[4:], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "model"), ALL)
def test_a_checkpoint_is_the_model(family, model, toy, tmp_path):
    net, _, batch = made(toy, family, model)
    with torch.no_grad():
        for value in model_tensors(net).values():
            value.add_(1)
        save_checkpoint(tmp_path / "x", model_tensors(net), {})
        other, _, _ = made(toy, family, model)
        load_model(other, load_checkpoint(tmp_path / "x")[0])
        assert other.eval()(batch([0, 1, 2])).logits.equal(net.eval()(batch([0, 1, 2])).logits)
    assert all(value.equal(net.state_dict()[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize(
    "target", ["class", pytest.param("many", marks=pytest.mark.slow), pytest.param("number", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_eight_rows_are_learnt_by_heart(family, target, toy):
    model = dict(getattr(cases.of(family), "BY_HEART", {}))
    model |= {"dropout": 0.0} if "dropout" in family_config(family).model_fields else {}
    net, data, batch = made(toy, family, model, target=target, cache_features=True)
    rows = np.array([0, 1, 2, 3, 5, 6, 7, 8])
    labels, given = torch.from_numpy(data.labels[rows]), batch(rows)
    optimizer = build_optimizer(net.train(), OptimConfig.model_validate({"lr": 3e-3, "weight_decay": 0.0}))
    for _ in range(150):
        optimizer.zero_grad()
        out = net(given)
        loss = supervised_loss(out.logits, labels, data.task)
        total_loss(out, labels, data.task).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        if loss.item() < 0.02:
            break
    assert loss.item() < 0.05


@pytest.mark.parametrize(("family", "model"), ALL)
def test_a_modality_that_may_be_missing_may_be_missing(family, model, toy):
    net, _, batch = made(toy, family, model)
    config = toy(family, model=model)
    given, droppable = family_inputs(config), family_module(family).droppable(config.model)
    whole, net = batch([0, 1, 2]), net.eval()
    with torch.no_grad():
        logits = net(whole).logits
        for modality in ("text", "image", "numeric", "categorical", "graph"):
            if modality in droppable or (modality not in given and len(given) > 0):
                part = net(whole.without(modality)).logits
                assert part.shape == logits.shape and part.isfinite().all()
                counts = modality in given and not cases.only_trains(family, model, modality)
                assert part.equal(logits) is not counts
                torch.testing.assert_close(net(batch([1]).without(modality)).logits, part[1:2], rtol=1e-4, atol=1e-5)
            else:
                with pytest.raises(ValueError, match=f"{modality} is missing, and this model cannot do without it"):
                    net(whole.without(modality))


@pytest.mark.parametrize(("family", "model"), ALL)
def test_bf16_stays_finite(family, model, toy):
    net, data, batch = made(toy, family, model)
    rows = [0, 4, 7]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = net.train()(batch(rows))
    loss = total_loss(out, torch.from_numpy(data.labels[rows]), data.task)
    loss.backward()
    gradients = [value.grad for value in net.parameters() if value.grad is not None]
    assert loss.isfinite() and out.logits.isfinite().all() and all(value.isfinite().all() for value in gradients)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "model"),
    [*((family, {}) for family in FAMILIES), ("hybrid_vae", {"posterior": "moe", "total_correlation": 4.0})],
)
def test_its_memory_can_be_worked_out(family, model, toy):
    """On a CPU and on a GPU: at least weights, gradients and two moments of what trains."""
    config = toy(family, model=model, cache_features=False)
    for on_gpu in (False, True):
        found = footprint(config, on_gpu=on_gpu)
        assert found.peak > model_size(config).state_bytes and found.saved > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointed_layers_give_the_same_gradients(family, toy):
    """Where a family has transformer layers that train."""
    model = getattr(cases.of(family), "RECOMPUTED", {})
    if model is None:
        with pytest.raises(ValueError, match="gradient_checkpointing: nothing that trains in this"):
            made(toy, family, {}, gradient_checkpointing=True)
        return
    gradients = []
    for on in (False, True):
        net, data, batch = made(toy, family, model, gradient_checkpointing=on)
        torch.manual_seed(1)
        total_loss(net.train()(batch([0, 1, 2, 3])), torch.from_numpy(data.labels[:4]), data.task).backward()
        gradients.append({name: value.grad for name, value in net.named_parameters() if value.requires_grad})
    for name, value in gradients[0].items():
        assert value is None is gradients[1][name] or value.equal(gradients[1][name]), name
