"""ViLBERT and LXMERT on regions that an object detector found: places, and pictures with fewer of them."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from test_vilbert import LXMERT, TASK, batch

from trainables.encoders.port import Port
from trainables.encoders.weights import load_model
from trainables.families.vilbert import Config, build, inputs
from trainables.layers.regions import grid_boxes, packed_regions

DETECTOR = {"regions": "detector", "region_file": "x.h5", "num_regions": 4, "region_width": 48}


def detector(**given) -> Any:
    config = Config.model_validate({"text_encoder": "tiny-bert", **DETECTOR, **given})
    ports = {
        name: Port(modality=name, input=input, width=64 if name == "text" else input.width, encoder=None)
        for name, input in inputs(config).items()
    }
    torch.manual_seed(0)
    return build(config, TASK, ports).eval()


def regions(*, num: int = 4, batch_size: int = 2) -> torch.Tensor:
    """(B, num, 48 + 5)."""
    rng = np.random.default_rng(2)
    corners = rng.random((batch_size, num, 2, 2))
    boxes = np.concatenate([corners.min(axis=2), corners.max(axis=2)], axis=2)
    features = rng.standard_normal((batch_size, num, 48))
    return torch.from_numpy(np.stack([packed_regions(*one) for one in zip(features, boxes, strict=True)])).float()


def padded(values: torch.Tensor, num: int) -> torch.Tensor:
    return torch.nn.functional.pad(values, (0, 0, 0, num))


@pytest.mark.parametrize("model", [{}, {"image_layers": 2, "connections": 2}, LXMERT])
def test_padding_regions_change_nothing_and_a_masked_one_is_as_if_it_were_not_there(model):
    net, found = detector(**model), regions()
    masked = found.clone()
    masked[0, 3, -1] = 0  # its feature and place are still there
    with torch.no_grad():
        whole, fewer = (net(batch(image_features=values)).logits for values in (found, found[:, :3]))
        torch.testing.assert_close(net(batch(image_features=padded(found, 5))).logits, whole, rtol=1e-5, atol=1e-6)
        out = net(batch(image_features=masked)).logits
    torch.testing.assert_close(out[0], fewer[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(out[1], whole[1], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(whole[0], fewer[0], atol=1e-4)


@pytest.mark.parametrize("model", [{}, LXMERT])
def test_cells_of_a_grid_given_as_regions_are_the_grid(model):
    from test_vilbert import vilbert

    cells = torch.randn(2, 9, 48, generator=torch.Generator().manual_seed(3)).half().float()
    found = torch.cat([cells, grid_boxes(9).expand(2, -1, -1), torch.ones(2, 9, 1)], dim=2)
    with torch.no_grad():
        grid = vilbert(features=48, **model)(batch(image_features=cells)).logits
        given = detector(num_regions=9, **model)(batch(image_features=found)).logits
    torch.testing.assert_close(given, grid, rtol=1e-5, atol=1e-6)


def test_a_region_is_its_feature_and_its_five_places():
    net, found = detector(), regions(num=2)
    with torch.no_grad():
        out, mask = net.embed_regions(padded(found, 1))
        x1, y1, x2, y2 = found[..., 48:52].unbind(dim=2)
        places = torch.stack([x1, y1, x2, y2, (x2 - x1) * (y2 - y1)], dim=2)
        first = net.regions(found[..., :48].mean(dim=1)) + net.places(torch.tensor([0, 0, 1, 1, 1.0]))
        others = net.regions(found[..., :48]) + net.places(places)
        torch.testing.assert_close(out[:, 0], net.region_norm(first))
        torch.testing.assert_close(out[:, 1:3], net.region_norm(others))
    assert mask.tolist() == [[1, 1, 1, 0]] * 2


def test_lxmert_reads_features_and_boxes_as_transformers_own():
    net, found = detector(**LXMERT), padded(regions(num=3), 2)
    found[0, 2] = 0
    given = batch(image_features=found)
    with torch.no_grad():
        expected = load_model("tiny-lxmert")(
            input_ids=given.input_ids, attention_mask=given.attention_mask, visual_feats=found[..., :48],
            visual_pos=found[..., 48:52], visual_attention_mask=found[..., 52],
        )  # fmt: skip
        torch.testing.assert_close(net.text_stream(given), expected.language_output, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", [{}, LXMERT])
def test_a_picture_without_any_region_has_finite_logits(model):
    assert torch.isfinite(detector(**model)(batch(image_features=torch.zeros(2, 4, 53))).logits).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"region_file": "x.h5"}, "region_file: belongs to regions: 'detector', and regions is 'grid' here"),
        ({"num_regions": 10}, "num_regions: belongs to regions: 'detector'"),
        ({**DETECTOR, "lock_image": False}, "lock_image: belongs to regions: 'grid', and regions is 'detector' here"),
        ({**DETECTOR, "image_encoder": "tiny-vit"}, "image_encoder: belongs to regions: 'grid'"),
    ],
)
def test_what_the_other_kind_of_regions_has_is_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(given)


def test_a_detector_without_its_file_is_refused():
    with pytest.raises(ValueError, match=r"model\.regions: detector needs model\.region_file"):
        inputs(Config.model_validate({"text_encoder": "tiny-bert", "regions": "detector"}))
