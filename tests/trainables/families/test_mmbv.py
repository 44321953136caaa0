from typing import Any

import pytest
import torch
from torch.nn import functional as F

from trainables.batch import Batch
from trainables.encoders.architectures import ARCHITECTURES
from trainables.encoders.port import Port
from trainables.encoders.weights import load_model
from trainables.families.mmbv import Config, build, droppable, inputs
from trainables.task import Task

TINY = {"text_encoder": "tiny-bert", "image_encoder": "tiny-vit"}
VARIANTS = [
    {},
    {"head": "sum", "exchange_norm": "layernorm"},
    {"head": "text"},
    {"head": "image"},
    {"head": "pooler"},
]

TASK = Task(kind="multiclass", classes=("a", "b", "c"))


@pytest.fixture(autouse=True)
def deep(monkeypatch):
    """A BERT and a ViT of four blocks: 1 appends, 2 and 3 overwrite, nothing follows 4."""
    from transformers import BertConfig, ViTConfig

    size: dict[str, Any] = {
        "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 64,
        "initializer_range": 0.5,  # large weights: what crosses must show
    }  # fmt: skip
    monkeypatch.setitem(ARCHITECTURES, "deep-bert", lambda: BertConfig(vocab_size=50, **size))
    monkeypatch.setitem(ARCHITECTURES, "deep-vit", lambda: ViTConfig(image_size=32, patch_size=8, **size))


def mmbv(**given: Any) -> Any:
    config = Config(**{"text_encoder": "deep-bert", "image_encoder": "deep-vit", **given})
    wanted = inputs(config)
    ports = {name: Port(modality=name, input=wanted[name], width=0, encoder=None) for name in wanted}
    torch.manual_seed(0)
    return build(config, TASK, ports).eval()


def batch(**given: Any) -> Batch:
    generator = torch.Generator().manual_seed(1)
    fixed = {
        "input_ids": torch.tensor([[2, 7, 8, 9, 3], [2, 9, 3, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
        "pixel_values": torch.randint(0, 256, (2, 3, 32, 32), generator=generator, dtype=torch.uint8),
    }
    return Batch(**{**fixed, **given}, labels=torch.zeros(2), ids=["a", "b"])


def by_hand(*, row: int, exchange_from: int = 1, is_normed: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Both streams of one row without its padding, so without any mask, through transformers' own blocks."""
    bert, vit, given = load_model("deep-bert"), load_model("deep-vit"), batch()
    assert given.input_ids is not None and given.attention_mask is not None and given.pixel_values is not None
    length = int(given.attention_mask[row].sum())
    pixels = given.pixel_values[row : row + 1].float() / 255 * 2 - 1
    text, image = bert.embeddings(given.input_ids[row : row + 1, :length]), vit.embeddings(pixels)
    for number in range(1, 5):
        text, image = bert.encoder.layer[number - 1](text), vit.layers[number - 1](image)
        if number == 4 or number < exchange_from:
            continue
        to_text, to_image = image[:, :1].clone(), text[:, :1].clone()
        if is_normed:
            to_text, to_image = F.layer_norm(to_text, (32,)), F.layer_norm(to_image, (32,))
        if number == exchange_from:
            text, image = torch.cat([text, to_text], dim=1), torch.cat([image, to_image], dim=1)
            assert text.shape[1] == length + 1 and image.shape[1] == 1 + 16 + 1
        else:
            text[:, -1:], image[:, -1:] = to_text, to_image
    return text, image


@pytest.mark.parametrize("given", [{}, {"exchange_from": 2}, {"exchange_from": 3, "exchange_norm": "layernorm"}])
@torch.no_grad()
def test_cls_states_cross_after_each_block(given):
    """Row 1 is padded: the token that arrives stands behind the padding and is seen all the same."""
    net, vit = mmbv(**given), load_model("deep-vit")
    out = net(batch())
    for row in (0, 1):
        text, image = by_hand(row=row, exchange_from=given.get("exchange_from", 1), is_normed="exchange_norm" in given)
        joint = torch.cat([text[0, 0], vit.layernorm(image[0, 0])])
        torch.testing.assert_close(out.features["joint"][row], joint, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(out.logits[row], net.head[1](joint), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_each_stream_gets_one_token_and_keeps_it():
    text, image = mmbv().run_streams(batch())
    assert text is not None and image is not None
    assert text.shape == (2, 5 + 1, 32) and image.shape == (2, 1 + 16 + 1, 32)


@pytest.mark.parametrize("exchange_from", [1, 3])
@torch.no_grad()
def test_what_one_stream_sees_reaches_the_other(exchange_from):
    other = batch(pixel_values=torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    reads_text = mmbv(head="text", exchange_from=exchange_from)
    assert (reads_text(other).logits - reads_text(batch()).logits).abs().max() > 1e-3
    other = batch(input_ids=torch.tensor([[2, 17, 18, 19, 3], [2, 19, 3, 0, 0]]))
    reads_image = mmbv(head="image", exchange_from=exchange_from)
    assert (reads_image(other).logits - reads_image(batch()).logits).abs().max() > 1e-3


@torch.no_grad()
def test_a_dropped_modality_leaves_the_other_stream_alone():
    bert, vit, given = load_model("deep-bert"), load_model("deep-vit"), batch()
    assert given.pixel_values is not None
    cls_text = bert(input_ids=given.input_ids, attention_mask=given.attention_mask).last_hidden_state[:, 0]
    cls_image = vit(pixel_values=given.pixel_values.float() / 255 * 2 - 1).last_hidden_state[:, 0]
    pooled = torch.tanh(bert.pooler.dense(cls_text))
    zero = torch.zeros(2, 32)
    joints = {
        "concat": (torch.cat([cls_text, zero], dim=1), torch.cat([zero, cls_image], dim=1)),
        "pooler": (torch.cat([pooled, zero], dim=1), torch.cat([zero, cls_image], dim=1)),
        "sum": (cls_text, cls_image),
        "text": (cls_text, None),
        "image": (None, cls_image),
    }
    for head, (without_image, without_text) in joints.items():
        net = mmbv(head=head)
        for missing, joint in (("image", without_image), ("text", without_text)):
            assert (missing in droppable(net.config)) is (joint is not None)
            if joint is None:
                with pytest.raises(ValueError, match=f"{missing} is missing, and this model cannot do without it"):
                    net(given.without(missing))
            else:
                out = net(given.without(missing))
                torch.testing.assert_close(out.features["joint"], joint, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_heads_read_what_they_say():
    given = batch()
    outs = {head: mmbv(head=head)(given).features for head in ("concat", "sum", "text", "image")}
    text, image = outs["concat"]["text"], outs["concat"]["image"]
    torch.testing.assert_close(outs["concat"]["joint"], torch.cat([text, image], dim=1))
    torch.testing.assert_close(outs["sum"]["joint"], text + image)
    torch.testing.assert_close(outs["text"]["joint"], text)
    torch.testing.assert_close(outs["image"]["joint"], image)


@pytest.mark.parametrize("head", ["concat", "sum", "text", "image", "pooler"])
def test_nothing_is_built_that_nobody_reads(head):
    net = mmbv(head=head)
    net.train()(batch()).logits.square().sum().backward()
    for name, parameter in net.named_parameters():
        has_effect = not name.endswith(("key.bias", "k_proj.bias"))  # softmax does not see what all keys share
        assert parameter.grad is not None and (parameter.grad.any() or not has_effect), name


def test_parameters_of_the_papers_model():
    """docs/methods.md#sizes: 195.3 M with BERT's pooler of 590,592 (head: pooler), without it 194.7 M."""
    bert, vit, pooler = 109_482_240, 85_798_656, 768 * 768 + 768
    assert bert + vit == pytest.approx(195.3e6, abs=0.05e6)
    counts = {}
    for head in ("pooler", "concat"):
        with torch.device("meta"):
            net = mmbv(text_encoder="random-bert-base", image_encoder="random-vit-b16", head=head)
        counts[head] = sum(p.numel() for p in net.parameters())
    assert counts == {"pooler": bert + vit + 1536 * 3 + 3, "concat": bert + vit - pooler + 1536 * 3 + 3}


def test_streams_that_do_not_fit_are_refused():
    with pytest.raises(
        ValueError,
        match="model.image_encoder: mmbv needs streams alike, but deep-bert is 32 wide and 4 blocks deep "
        "and tiny-vit is 64 wide and 2 blocks deep",
    ):
        mmbv(image_encoder="tiny-vit")
    with pytest.raises(ValueError, match="model.text_encoder: .* tiny-roberta is no bert but a roberta"):
        mmbv(text_encoder="tiny-roberta")
    with pytest.raises(ValueError, match="model.image_encoder: .* tiny-clip is no vit but a clip"):
        mmbv(image_encoder="tiny-clip")
    with pytest.raises(ValueError, match="model.exchange_from: 4 must be below the 4 blocks of deep-bert"):
        mmbv(exchange_from=4)
    with pytest.raises(ValueError, match="image_size: 4 is smaller than one patch \\(8\\)"):
        mmbv()(batch(pixel_values=torch.zeros(2, 3, 4, 4, dtype=torch.uint8)))
