"""Rollout by matrix product; attention weights by hand, and against what a forward without them says."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, ViTConfig, ViTModel

from analysis.inspect.looking import recording, rollout
from trainables.layers.co_attention import CoAttention

SMALL: dict[str, Any] = {
    "attn_implementation": "sdpa",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


def rows(rng, *shape):
    values = rng.random(shape)
    return values / values.sum(axis=-1, keepdims=True)


def test_rollout_is_the_product_of_layers_mixed_with_themselves():
    rng = np.random.default_rng(0)
    layers = [rows(rng, 3, 5, 5) for _ in range(3)]
    first, second, third = (0.5 * layer.mean(axis=0) + 0.5 * np.eye(5) for layer in layers)
    np.testing.assert_allclose(rollout(layers), third @ second @ first, atol=1e-12)
    np.testing.assert_allclose(rollout(layers).sum(axis=1), 1)


def test_a_token_that_joins_later_is_itself_before():
    rng = np.random.default_rng(1)
    below, above = rows(rng, 2, 3, 3), rows(rng, 2, 4, 4)
    first = np.eye(4)
    first[:3, :3] = 0.5 * below.mean(axis=0) + 0.5 * np.eye(3)
    np.testing.assert_allclose(rollout([below, above]), (0.5 * above.mean(axis=0) + 0.5 * np.eye(4)) @ first)


def by_hand(query, key):
    """softmax(Q K^T / sqrt(d)) of two heads."""
    parts = [part.unflatten(-1, (2, -1)).transpose(0, 1) for part in (query, key)]
    return (parts[0] @ parts[1].transpose(1, 2) / parts[0].shape[-1] ** 0.5).softmax(dim=-1)


def test_weights_of_bert_by_hand_and_its_output_as_before():
    torch.manual_seed(0)
    model: Any = BertModel(BertConfig(**SMALL, vocab_size=20)).eval()
    ids = torch.tensor([[1, 5, 7, 2]])
    with torch.inference_mode():
        before = model(ids).last_hidden_state
        with recording(model) as found:
            after = model(ids).last_hidden_state
        states = model.embeddings(input_ids=ids)[0]
        own = model.encoder.layer[0].attention.self
        wanted = by_hand(own.query(states), own.key(states))
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
    first = next(one for one in found if one.path.startswith("encoder.layer.0."))
    np.testing.assert_allclose(first.maps_HNM, wanted.numpy(), atol=1e-6)
    assert {one.path.split(".")[2] for one in found} == {"0", "1"}
    assert model.config._attn_implementation == "sdpa" and not own._forward_hooks


def test_weights_of_a_vit_sum_to_one():
    model = ViTModel(ViTConfig(**SMALL, image_size=16, patch_size=8)).eval()
    with torch.inference_mode(), recording(model) as found:
        model(torch.zeros(1, 3, 16, 16))
    assert len(found) == 2 and all(one.maps_HNM.shape == (2, 5, 5) for one in found)
    for one in found:
        np.testing.assert_allclose(one.maps_HNM.sum(axis=-1), 1, rtol=1e-5)


def test_weights_of_torchs_own_layers():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True).eval()
    model = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval()
    states = torch.randn(1, 4, 8)
    with torch.inference_mode():
        before = model(states)
        with recording(model) as found:
            after = model(states)
        own: Any = model.layers[0]
        query, key, _ = nn.functional.linear(own.norm1(states[0]), own.self_attn.in_proj_weight).chunk(3, dim=-1)
        wanted = by_hand(query, key)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(found[0].maps_HNM, wanted.numpy(), atol=1e-6)


def test_weights_of_co_attention_are_its_maps():
    torch.manual_seed(0)
    model = CoAttention(text_dim=8, image_dim=6, dim=4, num_heads=2, text_hidden=8, image_hidden=6).eval()
    text, image, mask = torch.randn(1, 3, 8), torch.randn(1, 5, 6), torch.tensor([[1, 1, 0]])
    with torch.inference_mode(), recording(model) as found:
        model(text, image, text_mask_BL=mask)
    wanted = model.maps(text, image, text_mask_BL=mask)
    for one, maps in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.maps_HNM, maps[0].detach().numpy(), atol=1e-6)
    assert found[1].maps_HNM[..., 2] == pytest.approx(0)
