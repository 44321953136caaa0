"""Which part of a picture a class hangs on: Grad-CAM (Selvaraju et al. 2017) and its kin, by the grad-cam package.

Of a CNN the maps are of its last feature map, of a ViT of the patches behind the first LayerNorm of its last block: the
later states of patches do not reach a head that reads the CLS token. h x w cells, S pixels a side, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.inspect.asking import Asked, ask, repeated, unlocked
from analysis.inspect.faithful import faithfulness, told_areas
from analysis.inspect.subject import NotApplicable, Subject, draw_row, grid

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainables.trained import Trained

PACKAGES = ("pytorch_grad_cam",)
METHODS = {"grad-cam": "GradCAM", "grad-cam++": "GradCAMPlusPlus", "hires-cam": "HiResCAM", "layer-cam": "LayerCAM"}


@dataclass(frozen=True)
class Seen:
    """Where a model sees a picture.

    Attributes:
        module: gives a feature map (B, D, h, w), or states (B, T, D) with the patches among them.
        shape: h, w of patches; None of a feature map.
        first: where the patches begin among the states; below 0 counts from the end.
    """

    module: nn.Module
    shape: tuple[int, int] | None = None
    first: int = 0

    def map(self, values: Tensor) -> Tensor:
        """What the module gives, or its gradient, as (B, D, h, w)."""
        if self.shape is None:
            return values
        num = self.shape[0] * self.shape[1]
        start = self.first if self.first >= 0 else values.shape[1] + self.first
        return values[:, start : start + num].transpose(1, 2).unflatten(2, self.shape)


def inspect(subject: Subject) -> list[str]:
    """Writes cam.csv, with areas under deletion and insertion curves, these curves as cam_curves.csv, and cam.png.

    Raises:
        NotApplicable: the model sees no picture.
    """
    seen = where_pictures_are_seen(subject.trained)
    rows, points = [], []
    title = "How much the class that the model says hangs on each place (bright: much)"
    figure, panels = grid(len(subject.shown), 1 + len(METHODS), title=title)
    for axes, at in zip(panels, subject.shown, strict=True):
        asked = ask(subject, int(at))
        image, said = subject.picture(int(at)), f"{subject.label(at)}; said {asked.name} {asked.score:.2f}"
        draw_row(axes[0], subject, int(at), title=said, modality="image")
        maps = {name: cam(asked, seen, kind) for name, kind in METHODS.items()}
        shape = next(iter(maps.values()))[1]
        cells = {name: by_cell(map_SS, shape) for name, (map_SS, _) in maps.items()}
        own: list[dict[str, Any]] = []
        found = faithfulness(
            lambda there, a=asked, s=shape: a.without_cells(there, s), cells, seed=subject.seed, points=own
        )
        points += [{"id": subject.ids[at], **row} for row in own]
        for panel, (name, areas) in zip(axes[1:], found.items(), strict=True):
            rows.append({"id": subject.ids[at], "label": subject.label(at), "explained": asked.name, "method": name,
                         "score": asked.score, **areas})  # fmt: skip
            overlay(panel, image, cells[name].reshape(shape))
            panel.set_title(f"{name}\ndel {areas['deletion']:.2f}, ins {areas['insertion']:.2f}", fontsize=7)
    subject.write_figure("cam", figure)
    table = pd.DataFrame(rows)
    subject.write_table("cam", table)
    subject.write_table("cam_curves", pd.DataFrame(points))
    return told_areas(table, "method")


def cam(asked: Asked, seen: Seen, kind: str) -> tuple[np.ndarray, tuple[int, int]]:
    """A map (S, S) from 0 to 1, and the shape h, w of its cells.

    Args:
        asked: the sample and the output.
        seen: where.
        kind: a class of the grad-cam package.
    """
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    shapes = []

    def reshaped(values: Tensor) -> Tensor:
        found = seen.map(values)
        shapes.append(tuple(found.shape[2:]))
        return found

    pixels = asked.batch.pixel_values
    assert pixels is not None
    method = getattr(pytorch_grad_cam, kind)
    with unlocked(asked.trained):
        given = pixels.float().requires_grad_()
        with method(model=_of_pixels(asked), target_layers=[seen.module], reshape_transform=reshaped) as made:
            maps = made(input_tensor=given, targets=[ClassifierOutputTarget(asked.target)])
    return maps[0], shapes[0]


def _of_pixels(asked: Asked) -> nn.Module:
    from torch import nn

    class OfPixels(nn.Module):
        """Pixels (K, 3, S, S) to logits, all else as in the sample."""

        def __init__(self) -> None:
            super().__init__()
            self.model = asked.trained.model

        def forward(self, pixels_K3SS: Tensor) -> Tensor:
            return asked.logits(replace(repeated(asked.batch, len(pixels_K3SS)), pixel_values=pixels_K3SS))

    return OfPixels()


def where_pictures_are_seen(trained: Trained) -> Seen:
    """The last layer that has a place for each part of a picture.

    Raises:
        NotApplicable: the model reads no picture.
    """
    if "image" not in trained.modalities:
        raise NotApplicable(f"the model reads {', '.join(trained.modalities)}, no picture")
    if trained.regions is not None:
        raise NotApplicable("the model reads regions of an object detector, no picture")
    model: Any = trained.model
    family, side = trained.config.family, trained.config.image_size
    if family == "flava":
        return Seen(model.image_model.encoder.layer[-1].layernorm_before, _patches(side, model.patch_size), 1)
    if family == "mmbv":
        return Seen(
            model.image_model.layers[-1].layernorm_before, _patches(side, model.image_model.config.patch_size), 1
        )
    if family == "vilt":
        shape = _patches(side, model.text_vilt.config.patch_size)
        return Seen(model.text_vilt.encoder.layer[-1].layernorm_before, shape, -shape[0] * shape[1])
    port = model.ports["image"] if hasattr(model, "ports") else model.image
    trunk = port.encoder.trunk
    if hasattr(trunk, "features"):
        return Seen(trunk.features)
    vit = trunk.model
    block = vit.encoder.layers[-1].layer_norm1 if trunk.is_clip else vit.layers[-1].layernorm_before
    return Seen(block, _patches(side, vit.config.patch_size), 1)


def _patches(side: int, patch: int) -> tuple[int, int]:
    return side // patch, side // patch


def by_cell(map_SS: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(h w,) the mean of a map in each cell, in reading order."""
    rows, columns = (np.arange(size) * cells // size for size, cells in zip(map_SS.shape, shape, strict=True))
    at = rows[:, None] * shape[1] + columns
    return np.bincount(at.reshape(-1), weights=map_SS.reshape(-1)) / np.bincount(at.reshape(-1))


def overlay(axes: Any, image: np.ndarray | None, cells: np.ndarray) -> None:
    """A picture in a panel, under a map (h, w) of how much each cell matters."""
    if image is None:
        return
    side = len(image)
    axes.imshow(image, interpolation="nearest", extent=(0, side, side, 0))
    spread = cells.max() - cells.min()
    shown = (cells - cells.min()) / (spread if spread > 0 else 1)
    axes.imshow(shown, cmap="inferno", alpha=0.55, interpolation="nearest", extent=(0, side, side, 0), vmin=0, vmax=1)
