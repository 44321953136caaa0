"""Parameter counts of published architectures, without weights and on the meta device (docs/methods.md#sizes)."""

import pytest
import torch

from trainables.checkpoint import BEST, LAST
from trainables.data.open import open_data
from trainables.encoders.inputs import Input
from trainables.encoders.port import load_encoder
from trainables.encoders.weights import load_model
from trainables.families import FAMILIES
from trainables.loop import train
from trainables.model import build_model, model_size


def millions(module) -> float:
    assert all(parameter.device.type == "meta" for parameter in module.parameters())
    return round(sum(parameter.numel() for parameter in module.parameters()) / 1e6, 1)


@pytest.mark.parametrize(
    ("modality", "input", "expected"),
    [
        ("text", Input("random-bert-base", False, pool="pooler"), 109.5),
        ("text", Input("random-beto", False, pool="pooler"), 109.9),  # 31,002 words instead of 30,522: 0.37 M more
        ("text", Input("random-roberta-base", False, pool="pooler"), 124.6),
        ("image", Input("random-vit-b16", False), 85.8),
        ("image", Input("random-clip-b32", False), 87.5),
        ("image", Input("random-resnet-152", False), 58.1),
    ],
)
def test_an_encoder_has_the_published_size(modality, input, expected):
    with torch.device("meta"):
        encoder = load_encoder(modality, input)
    assert millions(encoder) == expected


def test_clip_has_the_published_size():
    with torch.device("meta"):
        model = load_model("random-clip-b32")
        tower = Input("random-clip-b32", False, "projected")
        towers = [load_encoder(modality, tower) for modality in ("text", "image")]
    assert millions(model) == 151.3
    assert millions(torch.nn.ModuleList(towers)) == 151.3  # what family clip builds; the temperature is one number


@pytest.mark.parametrize("family", FAMILIES)
def test_a_size_is_that_of_the_model_that_trains(family, toy):
    """Found without weights, data or memory."""
    config = toy(family, cache_features=False)
    parameters = list(build_model(config, open_data(config)).parameters())
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    size = model_size(config)
    assert (size.num_parameters, size.num_trainable) == (sum(parameter.numel() for parameter in parameters), trainable)


def test_checkpoints_have_the_predicted_bytes(toy, tmp_path):
    """To their headers."""
    config = toy("fusion", epochs=1)
    train(config, folder=tmp_path)
    size = model_size(config)
    for name, expected in ((BEST, size.best_bytes), (LAST, size.last_bytes)):
        assert 0 < (tmp_path / name).stat().st_size - expected < 20_000
