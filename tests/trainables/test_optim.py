import math

import pytest
import torch
from torch import nn

from trainables.config import OptimConfig
from trainables.encoders.inputs import Input
from trainables.encoders.port import load_encoder
from trainables.optim import build_optimizer, lr_factor, part_of


def factors(total, **settings):
    return [lr_factor(step, total=total, config=OptimConfig(**settings)) for step in range(total)]


def test_warm_up_rises_by_equal_steps_to_the_full_rate():
    for schedule in ("linear", "cosine", "constant", "plateau"):
        assert factors(20, schedule=schedule, warmup_ratio=0.25)[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_without_warm_up_the_first_step_has_the_full_rate():
    for schedule in ("linear", "cosine", "constant", "plateau"):
        assert factors(7, schedule=schedule, warmup_ratio=0.0)[0] == 1


def test_schedules_in_closed_form():
    assert factors(8, schedule="linear", warmup_ratio=0.0) == pytest.approx([1 - step / 8 for step in range(8)])
    cosine = [0.5 + 0.5 * math.cos(math.pi * step / 8) for step in range(8)]
    assert factors(8, schedule="cosine", warmup_ratio=0.0) == pytest.approx(cosine)
    assert (
        factors(8, schedule="constant", warmup_ratio=0.0) == factors(8, schedule="plateau", warmup_ratio=0.0) == [1] * 8
    )


@pytest.mark.parametrize("total", [1, 2, 3, 10, 1000])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_every_step_has_a_positive_rate(total, schedule):
    for warmup in (0.0, 0.1, 0.9):
        values = factors(total, schedule=schedule, warmup_ratio=warmup)
        assert all(0 < value <= 1 for value in values) and len(values) == total


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.text = torch.nn.Linear(2, 2)
        self.text_layers = torch.nn.LayerNorm(2)
        self.image = torch.nn.Linear(2, 2)
        self.frozen = torch.nn.Linear(2, 2).requires_grad_(False)
        self.head = torch.nn.Linear(2, 2)
        self.w_g = torch.nn.Parameter(torch.tensor(1.0))


def test_groups_have_the_lr_of_their_part_and_decay_on_matrices_alone():
    model = Model()
    mults = {"text_lr_mult": 0.1, "image_lr_mult": 2.0, "head_lr_mult": 30.0}
    optimizer = build_optimizer(model, OptimConfig.model_validate({"lr": 1e-3, "weight_decay": 0.3, **mults}))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        names[id(parameter)]: (group["base_lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert found == {
        "text.weight": (1e-4, 0.3),
        "text.bias": (1e-4, 0.0),
        "text_layers.weight": (1e-4, 0.0),
        "text_layers.bias": (1e-4, 0.0),
        "image.weight": (2e-3, 0.3),
        "image.bias": (2e-3, 0.0),
        "head.weight": (3e-2, 0.3),
        "head.bias": (3e-2, 0.0),
        "w_g": (3e-2, 0.0),
    }
    assert all(group["lr"] == group["base_lr"] for group in optimizer.param_groups)


def test_a_parameter_can_have_a_multiplier_of_its_own():
    model = Model()
    model.lr_mults = {"w_g": 40.0}  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    optimizer = build_optimizer(model, OptimConfig.model_validate({"lr": 1e-3, "head_lr_mult": 2.0}))
    rates = {id(part): group["base_lr"] for group in optimizer.param_groups for part in group["params"]}
    assert rates[id(model.w_g)] == pytest.approx(8e-2) and rates[id(model.head.bias)] == pytest.approx(2e-3)


def test_a_step_is_adamw_in_closed_form():
    """With g = 1 the first bias-corrected moments are 1, so w becomes w (1 - lr decay) - lr / (1 + 1e-8)."""
    model = torch.nn.Linear(3, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = build_optimizer(model, OptimConfig.model_validate({"lr": 0.1, "weight_decay": 0.5}))
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.testing.assert_close(model.weight.detach(), before["weight"] * (1 - 0.05) - 0.1)
    torch.testing.assert_close(model.bias.detach(), before["bias"] - 0.1)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("text.encoder.backbone.x", "text"),
        ("text_layers.0.x", "text"),
        ("image.encoder.trunk.x", "image"),
        ("heads.text.0.weight", "head"),
        ("norms.image.weight", "head"),
        ("projection.weight", "head"),
    ],
)
def test_part_of(name, part):
    assert part_of(name) == part


@pytest.mark.parametrize(
    ("modality", "name", "depths"),
    [
        ("text", "tiny-bert", {"embeddings.word": 2, "layer.0.attention": 1, "layer.1.output": 0, "pooler": 0}),
        ("text", "tiny-clip", {"token_embedding": 2, "layers.0.mlp": 1, "layers.1.mlp": 0, "final_layer_norm": 0}),
        ("image", "tiny-vit", {"patch_embeddings": 2, "layers.0.": 1, "layers.1.": 0, "model.layernorm": 0}),
        ("image", "tiny-clip", {"class_embedding": 2, "pre_layrnorm": 2, "layers.0.": 1, "post_layernorm": 0}),
        ("image", "tiny-resnet", {"features.conv1": 4, "features.bn1": 4, "layer1.0": 3, "layer3.0": 1, "layer4.0": 0}),
    ],
)
def test_lower_layers_learn_more_slowly(modality, name, depths):
    """lr x decay for each layer above; everything outside the encoder has the full lr."""
    pool = "pooler" if name == "tiny-bert" else "default"
    encoder = load_encoder(modality, Input(name, is_locked=False, pool=pool))
    model = nn.ModuleDict({modality: encoder, "head": nn.Linear(2, 2), "layers": nn.ModuleList([nn.Linear(2, 2)])})
    config = OptimConfig.model_validate({"lr": 1.0, "layer_decay": 0.5, f"{modality}_lr_mult": 8.0})
    optimizer = build_optimizer(model, config)
    lr = {id(parameter): group["base_lr"] for group in optimizer.param_groups for parameter in group["params"]}
    for part, depth in depths.items():
        found = [value for key, value in model.named_parameters() if key.startswith(modality) and part in key]
        assert found and all(lr[id(value)] == 8.0 * 0.5**depth for value in found), part
    assert all(lr[id(value)] == 1.0 for key, value in model.named_parameters() if not key.startswith(modality))
