from typing import Any

import numpy as np
import pytest
import torch
from small import IMAGE, TEXT
from torch import nn

from trainables.batch import Batch
from trainables.encoders.port import Port
from trainables.encoders.weights import load_model
from trainables.families.vilt import Config, build, droppable, inputs
from trainables.task import Task

TINY = {"encoder": "tiny-vilt", "text_positions": 128}
VARIANTS = [{}, {"hidden": 32, "dropout": 0.2}]
STAND_INS = {"dandelin/vilt-b32-mlm": ("Vilt", {**IMAGE, **TEXT, "max_position_embeddings": 40})}

TASK = Task(kind="multiclass", classes=("a", "b", "c"))


def vilt(**given) -> Any:
    config = Config.model_validate({"encoder": "tiny-vilt", **given})
    ports = {name: Port(modality=name, input=input, width=0, encoder=None) for name, input in inputs(config).items()}
    torch.manual_seed(0)
    return build(config, TASK, ports).eval()


def batch(*, size: int = 32, length: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(2, length, dtype=torch.long)
    mask[1, 3:] = 0
    ids = torch.randint(5, 4000, (2, length), generator=generator) * mask
    images = torch.randint(0, 256, (2, 3, size, size), generator=generator, dtype=torch.uint8)
    return Batch(input_ids=ids, attention_mask=mask, pixel_values=images, labels=torch.zeros(2), ids=["a", "b"])


def trained(net: Any) -> Any:
    """With positions of images, which start at zero, and the modality types, far from each other."""
    embeddings = net.text_vilt.embeddings if hasattr(net, "text_vilt") else net.embeddings
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in (embeddings.position_embeddings, embeddings.cls_token, embeddings.token_type_embeddings.weight):
            tensor.add_(torch.randn(tensor.shape, generator=generator))
    return net


def by_transformers(given: Batch) -> Any:
    assert given.pixel_values is not None
    pixels = given.pixel_values / 127.5 - 1
    full = torch.ones(2, *pixels.shape[2:])
    with torch.no_grad():
        return trained(load_model("tiny-vilt"))(
            input_ids=given.input_ids, attention_mask=given.attention_mask, pixel_values=pixels, pixel_mask=full
        )


@pytest.mark.parametrize("size", [32, 16, 64])
def test_the_states_are_transformers_own_once_it_does_not_shuffle(size, monkeypatch):
    """Patches in reading order: what transformers gives when its draw of patches is the identity."""
    monkeypatch.setattr(torch, "multinomial", lambda weights, count: torch.arange(int(count)))
    net, given = trained(vilt()), batch(size=size)
    expected = by_transformers(given)
    with torch.no_grad():
        out = net.encode(given)
    assert out.last_hidden_state.shape == (2, 5 + 1 + (size // 8) ** 2, 64)
    torch.testing.assert_close(out.last_hidden_state, expected.last_hidden_state, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out.pooler_output, expected.pooler_output, rtol=1e-4, atol=1e-5)


def test_states_are_the_same_from_call_to_call():
    net, given = trained(vilt()), batch()
    with torch.no_grad():
        first, second = net.encode(given).last_hidden_state, net.encode(given).last_hidden_state
        assert first.equal(second) and net.train().encode(given).last_hidden_state.equal(first)  # it has no dropout
        assert not by_transformers(given).last_hidden_state.equal(by_transformers(given).last_hidden_state)
        pooled = by_transformers(given).pooler_output
    torch.testing.assert_close(net.eval()(given).features["joint"].detach(), pooled, rtol=1e-4, atol=1e-5)


def test_no_generator_is_touched():
    net, given = vilt().train(), batch()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    net(given)
    assert torch.get_rng_state().equal(before)


def test_the_head_is_linear_norm_gelu_linear():
    net, given = vilt(dropout=0.1), batch()
    linear, norm, last = (net.head[place] for place in (0, 1, 4))
    assert (linear.in_features, linear.out_features, last.out_features) == (64, 128, 3)
    with torch.no_grad():
        out = net(given)
        expected = last(nn.functional.gelu(norm(linear(net.encode(given).pooler_output))))
    torch.testing.assert_close(out.logits, expected)
    assert vilt(hidden=10).head[0].out_features == 10


def test_stretched_text_positions():
    net, plain = vilt(text_positions=100), vilt()
    old = plain.text_vilt.embeddings.text_embeddings.position_embeddings.weight.detach().numpy()
    new = net.text_vilt.embeddings.text_embeddings.position_embeddings.weight.detach().numpy()
    places = np.linspace(0, 39, 100)
    expected = np.stack([np.interp(places, np.arange(40), column) for column in old.T], axis=1)
    np.testing.assert_allclose(new, expected, rtol=1e-4, atol=1e-6)
    assert net(batch(length=100)).logits.isfinite().all()
    config = Config.model_validate({"encoder": "tiny-vilt", "text_positions": 100})
    assert inputs(config)["text"].max_tokens == 100


def test_as_many_positions_as_there_are_changes_nothing():
    given = batch()
    with torch.no_grad():
        torch.testing.assert_close(vilt(text_positions=40)(given).logits, vilt()(given).logits)
    with pytest.raises(ValueError, match="model.text_positions: 39 is less than the 40 of tiny-vilt"):
        vilt(text_positions=39)


def test_a_missing_image_is_one_that_nobody_attends_to():
    net, given = trained(vilt()), batch()
    assert droppable(Config.model_validate({})) == ("text", "image") and given.attention_mask is not None
    with torch.no_grad():
        states = net.text_vilt(
            input_ids=given.input_ids,
            attention_mask=given.attention_mask,
            image_embeds=torch.randn(2, 17, 64),
            pixel_mask=torch.zeros(2, 17, dtype=torch.long),
        )
        out = net(given.without("image"))
    torch.testing.assert_close(out.features["joint"], states.pooler_output, rtol=1e-4, atol=1e-5)


def test_a_missing_text_is_an_empty_one():
    net, given = trained(vilt()), batch()
    empty = Batch(
        input_ids=torch.tensor([[2, 3], [2, 3]]),
        attention_mask=torch.ones(2, 2, dtype=torch.long),
        pixel_values=given.pixel_values,
        labels=given.labels,
        ids=given.ids,
    )
    with torch.no_grad():
        torch.testing.assert_close(net(given.without("text")).logits, net(empty).logits)


def test_number_of_parameters_at_the_published_size():
    """111.6 M (docs/methods.md#sizes), all of them used, and the head."""
    d = 768
    with torch.device("meta"):
        whole = sum(p.numel() for p in load_model("random-vilt-b32").parameters())
        net, longer = vilt(encoder="random-vilt-b32"), vilt(encoder="random-vilt-b32", text_positions=128)
    assert round(whole / 1e6, 1) == 111.6
    head = (d * 2 * d + 2 * d) + 2 * (2 * d) + (2 * d * 3 + 3)
    assert sum(p.numel() for p in net.parameters()) == whole + head
    assert sum(p.numel() for p in longer.parameters()) == whole + head + (128 - 40) * d


def test_what_it_cannot_do_is_said():
    with pytest.raises(ValueError, match="model.encoder: tiny-vit is a vit, here a vilt is needed"):
        vilt(encoder="tiny-vit")
    with pytest.raises(ValueError, match=r"image_size: 7 is smaller than one patch \(8\) of the model"):
        vilt()(batch(size=7))
