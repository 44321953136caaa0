from typing import Any

import pytest
import torch

from trainables.batch import Batch, Task
from trainables.encoders.port import Port, load_encoder
from trainables.families.lit_tirg import Config, build, droppable, inputs

TASK = Task(kind="multiclass", classes=("a", "b", "c"))
WIDTH = 5


def lit_tirg(*, image_width: int | None = WIDTH, **given: Any) -> Any:
    """On given image features of ``image_width``, or on the image encoder itself."""
    config = Config(**{"text_encoder": "tiny-bert", "image_encoder": "tiny-vit", "hidden": 16, **given})
    wanted = inputs(config)
    encoder = load_encoder("image", wanted["image"]) if image_width is None else None
    width = image_width if encoder is None else encoder.width
    ports = {
        "text": Port(modality="text", input=wanted["text"], width=64, encoder=None),
        "image": Port(modality="image", input=wanted["image"], width=width or 0, encoder=encoder),
    }
    torch.manual_seed(0)
    return build(config, TASK, ports).eval()


def batch() -> Batch:
    return Batch(
        input_ids=torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0]]),
        attention_mask=torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
        image_features=torch.randn(2, 1 + 4, WIDTH, generator=torch.Generator().manual_seed(1)),
        labels=torch.zeros(2),
        ids=["a", "b"],
    )


def f_under_a_mask(net: Any, hidden: slice) -> torch.Tensor:
    """f with an attention mask of 0 on some of [CLS] 4 image tokens [SEP] 3 words."""
    given = batch()
    assert given.image_features is not None
    states, mask, _ = net.joint_input(given, given.image_features[:, 1:])
    mask[:, hidden] = 0
    for layer in net.text_layers:
        states = layer(states, attention_mask=mask[:, None, None].bool())
    return net.text_pooler(states)


@torch.no_grad()
def test_without_the_image_g_is_0_and_f_sees_the_words_alone():
    net = lit_tirg(num_image_tokens=4)
    f = f_under_a_mask(net, slice(1, 5))
    joint = net.fuse(torch.zeros_like(f), f)
    residual = net.fuse.residual(torch.cat([torch.zeros_like(f), f], dim=1))
    torch.testing.assert_close(joint, net.fuse.w_r * residual)  # nothing comes through the gate
    out = net(batch().without("image"))
    torch.testing.assert_close(out.features["text"], f, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out.logits, net.head(joint), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_without_the_text_f_sees_the_image_alone():
    net = lit_tirg()
    f, given = f_under_a_mask(net, slice(6, None)), batch()
    assert given.image_features is not None
    out = net(given.without("text"))
    torch.testing.assert_close(out.features["text"], f, rtol=1e-4, atol=1e-5)
    joint = net.fuse(net.to_joint(given.image_features[:, 0]), f)
    torch.testing.assert_close(out.logits, net.head(joint), rtol=1e-4, atol=1e-5)


def test_a_mean_over_no_words_alone_would_be_constant():
    given = ({"pool_f": "mean", "fusion": "none"}, {"pool_f": "mean"}, {"fusion": "none"})
    found = [droppable(Config.model_validate(one)) for one in given]
    assert found == [("image",), ("text", "image"), ("text", "image")]
    with pytest.raises(ValueError, match="text is missing, and this model cannot do without it"):
        lit_tirg(pool_f="mean", fusion="none")(batch().without("text"))


def test_parameters_of_the_papers_model():
    """docs/methods.md#sizes, without the head: 202.3 M with CLIP's image tower; 114.8 M train when it is locked."""
    sizes = {"text_encoder": "random-bert-base", "image_encoder": "random-clip-b32", "hidden": 768}
    with torch.device("meta"):
        net = lit_tirg(image_width=None, **sizes)
    head = 768 * 768 + 768 + 768 * 3 + 3
    trained = 109_482_240 + (768 * 768 + 768) + 4_727_808 + 2  # BERT, projection, TIRG
    assert trained == pytest.approx(114.8e6, abs=0.05e6)
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == trained + head
    assert sum(p.numel() for p in net.parameters()) - head == pytest.approx(202.3e6, abs=0.05e6)
