from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from trainables.batch import Batch
from trainables.encoders.port import Port, load_encoder
from trainables.encoders.weights import load_model
from trainables.families.mmbt import Config, build, droppable, inputs
from trainables.freezing import begin_epoch
from trainables.task import Task

TINY = {"text_encoder": "tiny-bert", "image_encoder": "tiny-cnn"}
VARIANTS = [
    {},
    {"num_image_tokens": 9, "image_pool": "max", "lock_image": True},
    {"num_image_tokens": 49, "image_encoder": "tiny-vit", "dropout": 0.0},
]
ON_RANKS = {"freeze_image_epochs": 1, "freeze_text_epochs": 2}  # DDP must see what thaws after it wrapped

TASK = Task(kind="multiclass", classes=("a", "b", "c"))
WIDTH = 5  # of the image features where they are given


def mmbt(*, image_width: int | None = WIDTH, **given: Any) -> Any:
    """On given image features of ``image_width``, or on the image encoder itself."""
    config = Config(**{"text_encoder": "tiny-bert", "image_encoder": "tiny-resnet", "dropout": 0.0, **given})
    wanted = inputs(config)
    encoder = load_encoder("image", wanted["image"]) if image_width is None else None
    width = image_width if encoder is None else encoder.width
    ports = {
        "text": Port(modality="text", input=wanted["text"], width=64, encoder=None),
        "image": Port(modality="image", input=wanted["image"], width=width or 0, encoder=encoder),
    }
    torch.manual_seed(0)
    return build(config, TASK, ports).eval()


def words() -> dict[str, torch.Tensor]:
    return {
        "input_ids": torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
    }


def batch(num_tokens: int = 3, **given: Any) -> Batch:
    features = torch.randn(2, num_tokens, WIDTH, generator=torch.Generator().manual_seed(1))
    return Batch(**{**words(), "image_features": features, **given}, labels=torch.zeros(2), ids=["a", "b"])


def test_the_sequence_is_image_block_then_text_block():
    """docs/methods.md#two-blocks: positions start at 0 twice, the image block's [SEP] is the text's first special."""
    net, given = mmbt(num_image_tokens=4), batch(4)
    table = load_model("tiny-bert").embeddings
    word, position, segment = table.word_embeddings, table.position_embeddings, table.token_type_embeddings
    with torch.no_grad():
        states, mask = net.joint_input(given)
        image = torch.cat(
            [word(torch.tensor([[2], [2]])), net.projection(given.image_features), word(torch.tensor([[3], [3]]))],
            dim=1,
        )
        first = image + position(torch.arange(6)) + segment.weight[0]
        second = word(torch.tensor([[7, 8, 3], [9, 3, 0]])) + position(torch.arange(3)) + segment.weight[1]
        torch.testing.assert_close(states, table.LayerNorm(torch.cat([first, second], dim=1)))
    assert mask.tolist() == [[1] * 9, [1] * 8 + [0]]


def test_all_layers_run_and_the_pooler_reads_the_first_token():
    net, given, bert = mmbt(), batch(), load_model("tiny-bert")
    with torch.no_grad():
        states, mask = net.joint_input(given)
        hidden = bert.encoder(states, attention_mask=mask[:, None, None].bool()).last_hidden_state
        pooled = torch.tanh(hidden[:, 0] @ bert.pooler.dense.weight.T + bert.pooler.dense.bias)
        out = net(given)
    torch.testing.assert_close(out.features["joint"], pooled, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out.logits, net.head[1](pooled), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("missing", ["image", "text"])
def test_dropping_a_modality_is_a_mask_of_0_on_its_tokens(missing):
    """[CLS] and [SEP] of the image block stay, the [SEP] at its own position."""
    net, given = mmbt(), batch()
    with torch.no_grad():
        states, mask = net.joint_input(given)
        mask[:, slice(1, 4) if missing == "image" else slice(5, None)] = 0
        hidden = states
        for layer in net.text_layers:
            hidden = layer(hidden, attention_mask=mask[:, None, None].bool())
        expected = net.head(net.text_pooler(hidden))
        torch.testing.assert_close(net(given.without(missing)).logits, expected, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(expected, net(given).logits, rtol=1e-3)
    assert missing in droppable(net.config)


@pytest.mark.slow
@pytest.mark.parametrize("num_tokens", [1, 3, 6, 9, 49])
def test_the_grid_is_pooled_to_so_many_tokens(num_tokens):
    net = mmbt(image_width=None, num_image_tokens=num_tokens)
    pixels = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    given = batch(image_features=None, pixel_values=pixels)
    with torch.no_grad():
        states, _ = net.joint_input(given)
        tokens, _ = net.image.encoder(pixels)
        assert tokens.shape[1] == 49 and states.shape[1] == num_tokens + 2 + 3
        if num_tokens == 49:  # nothing to pool
            torch.testing.assert_close(net.image(given), tokens)
        if num_tokens == 1:
            torch.testing.assert_close(net.image(given)[:, 0], tokens.mean(dim=1))
            most = mmbt(image_width=None, num_image_tokens=1, image_pool="max")
            torch.testing.assert_close(most.image(given)[:, 0], tokens.amax(dim=1))


# --- freezing ---------------------------------------------------------------------------------------
def frozen_names(net: nn.Module, epoch: int) -> set[str]:
    begin_epoch(net, epoch)
    return {name for name, parameter in net.named_parameters() if not parameter.requires_grad}


def test_each_part_is_frozen_for_its_own_epochs():
    net = mmbt(image_width=None, freeze_image_epochs=2, freeze_text_epochs=3)
    names = {name for name, _ in net.named_parameters()}
    image = {name for name in names if name.startswith("image.encoder.")}
    layers = {name for name in names if name.startswith("text_layers.")}
    frozen = [frozen_names(net, epoch) for epoch in (1, 2, 3, 4)]
    assert frozen == [image | layers, image | layers, layers, set()]
    kept = {"text_embeddings", "text_pooler", "projection", "head"}
    assert {name.split(".")[0] for name in names - image - layers} == kept
    assert frozen_names(mmbt(image_width=None), 1) == set()


def test_a_frozen_resnet_keeps_its_batch_norm_statistics():
    net = mmbt(image_width=None, freeze_image_epochs=1, freeze_text_epochs=1)
    given = batch(image_features=None, pixel_values=torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    for epoch in (1, 2):
        before = {name: value.clone() for name, value in net.state_dict().items()}
        begin_epoch(net, epoch)
        net.train()
        optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
        net(given).logits.square().sum().backward()
        assert all((p.grad is not None) is p.requires_grad for p in net.parameters())
        optimizer.step()
        changed = {name for name, value in net.state_dict().items() if not value.equal(before[name])}
        is_image = {name for name in changed if name.startswith("image.")}
        assert bool(is_image) is (epoch == 2) and {"projection.weight", "text_pooler.dense.weight"} <= changed
        assert any("running_mean" in name for name in is_image) is (epoch == 2)
        assert any(name.startswith("text_layers.") for name in changed) is (epoch == 2)
        net.zero_grad(set_to_none=True)


# --- sizes and errors -------------------------------------------------------------------------------
def test_parameters_of_the_papers_model():
    """docs/methods.md#sizes: 169.2 M = BERT-base 109,482,240 + ResNet-152 58,143,808 + the projection, and the head."""
    with torch.device("meta"):
        net = mmbt(image_width=None, text_encoder="random-bert-base", image_encoder="random-resnet-152")
    projection = 2048 * 768 + 768
    assert sum(p.numel() for p in net.parameters()) == 109_482_240 + 58_143_808 + projection + 768 * 3 + 3
    assert 109_482_240 + 58_143_808 + projection == pytest.approx(169.2e6, abs=0.05e6)


def test_what_cannot_be_is_said(tmp_path):
    with pytest.raises(ValidationError, match="10 is neither 1 to 9 nor 49"):
        mmbt(num_image_tokens=10)
    with pytest.raises(ValidationError, match="model.freeze_image_epochs: a locked image encoder never trains"):
        mmbt(lock_image=True, freeze_image_epochs=1)
    with pytest.raises(
        ValueError, match="model.text_encoder: mmbt needs a BERT with two segments, tiny-roberta is none"
    ):
        mmbt(text_encoder="tiny-roberta")
