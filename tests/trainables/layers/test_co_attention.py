import math

import numpy as np
import pytest
import torch

from trainables.layers.co_attention import CoAttention, two_stream_schedule

B, L, R, D, V = 2, 4, 3, 6, 10
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


def streams(*, text_dim: int = D, image_dim: int = V) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(B, L, text_dim, generator=generator), torch.randn(B, R, image_dim, generator=generator)


def connection() -> CoAttention:
    """Every tensor differs from its initial value, so that none is forgotten or swapped unseen."""
    model = CoAttention(text_dim=D, image_dim=V, dim=8, num_heads=2, text_hidden=7, image_hidden=5)
    generator = torch.Generator().manual_seed(2)
    for tensor in model.state_dict().values():
        tensor.add_(torch.rand(tensor.shape, generator=generator) - 0.3)
    return model.eval()


def layer_norm(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return scale * (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12) + shift


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def read(state: dict, side: str, own: np.ndarray, other: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """docs/methods.md#co-attention in numpy, row by row and head by head: the stream, and the weights (B, H, N, M)."""

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return x @ state[f"{side}.{name}.weight"].T + state[f"{side}.{name}.bias"]

    query, key, value = linear("query", own), linear("key", other), linear("value", other)
    weights = np.zeros((B, 2, own.shape[1], other.shape[1]))
    context = np.zeros(query.shape)
    for row in range(B):
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            scores = np.exp(query[row, :, part] @ key[row, :, part].T / math.sqrt(4)) * mask[row]
            weights[row, head] = scores / scores.sum(-1, keepdims=True)
            context[row, :, part] = weights[row, head] @ value[row, :, part]
    norm = f"{side}.out_norm"
    states = layer_norm(own + linear("out", context), state[f"{norm}.weight"], state[f"{norm}.bias"])
    inner = linear("feed_forward.2", gelu(linear("feed_forward.0", states)))
    norm = f"{side}.feed_forward_norm"
    return layer_norm(states + inner, state[f"{norm}.weight"], state[f"{norm}.bias"]), weights


def test_against_numpy():
    model, (text, image) = connection(), streams()
    state = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    everything = np.ones((B, R))
    text_out, to_image = read(state, "text_reads", text.double().numpy(), image.double().numpy(), everything)
    image_out, to_text = read(state, "image_reads", image.double().numpy(), text.double().numpy(), MASK.numpy())
    with torch.no_grad():
        out = model(text, image, text_mask_BL=MASK)
        maps = model.maps(text, image, text_mask_BL=MASK)
    for mine, expected in ((out[0], text_out), (out[1], image_out), (maps[0], to_image), (maps[1], to_text)):
        np.testing.assert_allclose(mine.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_attention_weights_of_small_numbers():
    """q = (sqrt(2) ln 3, 0) on keys (1, 0) and (0, 0): softmax(ln 3, 0) = (3/4, 1/4); a masked key leaves 1."""
    model = CoAttention(text_dim=2, image_dim=2, dim=2, num_heads=1, text_hidden=1, image_hidden=1).eval()
    with torch.no_grad():
        for reader in (model.text_reads, model.image_reads):
            for part in (reader.query, reader.key):
                part.weight.copy_(torch.eye(2))
                part.bias.zero_()
        states = torch.tensor([[[math.sqrt(2) * math.log(3), 0.0]]])
        keys = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
        to_image, _ = model.maps(states, keys, text_mask_BL=torch.ones(1, 1))
        _, to_text = model.maps(keys, states, text_mask_BL=torch.ones(1, 2))
        _, masked = model.maps(keys, states, text_mask_BL=torch.tensor([[0, 1]]))
    assert to_image.flatten().tolist() == pytest.approx([0.75, 0.25])
    assert to_text.flatten().tolist() == pytest.approx([0.75, 0.25])
    assert masked.flatten().tolist() == [0.0, 1.0]


def test_a_masked_word_is_read_by_no_region():
    model, (text, image) = connection(), streams()
    _, to_text = model.maps(text, image, text_mask_BL=MASK)
    assert (to_text[1, :, :, 2:] == 0).all() and (to_text[1, :, :, :2] > 0).all() and (to_text[0] > 0).all()
    torch.testing.assert_close(to_text.sum(dim=-1), torch.ones(B, 2, R))
    other = text.clone()
    other[1, 2:] = 100.0
    torch.testing.assert_close(
        model(other, image, text_mask_BL=MASK)[1], model(text, image, text_mask_BL=MASK)[1], rtol=0, atol=0
    )


def test_number_of_parameters_at_the_published_sizes():
    d, v, e = 768, 1024, 1024
    queries_keys_values = (d * e + e) + 2 * (v * e + e) + (v * e + e) + 2 * (d * e + e)
    outs = (e * d + d) + (e * v + v)
    feed_forward = (d * 3072 + 3072 + 3072 * d + d) + 2 * (v * 1024 + 1024)
    norms = 2 * 2 * d + 2 * 2 * v
    with torch.device("meta"):
        model = CoAttention(text_dim=d, image_dim=v, dim=e, num_heads=8, text_hidden=3072, image_hidden=1024)
    assert sum(p.numel() for p in model.parameters()) == queries_keys_values + outs + feed_forward + norms


def test_dropout_acts_in_training_alone():
    model, (text, image) = connection(), streams()
    before = model(text, image, text_mask_BL=MASK)[0]
    assert not model.train()(text, image, text_mask_BL=MASK)[0].equal(before)
    assert model.eval()(text, image, text_mask_BL=MASK)[0].equal(before)


def test_the_published_schedule():
    """docs/methods.md#two-stream-order: six text layers, connection 0, then image layer, text layer, connection."""
    expected = [("text", 0), ("text", 1), ("text", 2), ("text", 3), ("text", 4), ("text", 5), ("connection", 0)]
    for number in range(5):
        expected += [("image", number), ("text", 6 + number), ("connection", number + 1)]
    expected += [("image", 5), ("text", 11)]
    assert two_stream_schedule(text_layers=12, image_layers=6, connections=6) == expected


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 1, 1), (6, 3, 3), (4, 5, 2), (3, 3, 1)])
def test_every_layer_runs_once_and_in_order(sizes):
    text_layers, image_layers, connections = sizes
    steps = two_stream_schedule(text_layers=text_layers, image_layers=image_layers, connections=connections)
    for kind, count in (("text", text_layers), ("image", image_layers), ("connection", connections)):
        assert [number for name, number in steps if name == kind] == list(range(count))
    last = steps.index(("connection", connections - 1))
    assert {name for name, _ in steps[last + 1 :]} == {"text", "image"}  # what was read last is still worked on
