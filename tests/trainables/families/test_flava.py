from typing import Any

import pytest
import torch
from small import IMAGE, NARROW, TEXT
from torch import nn
from torch.nn import functional as F

from trainables.batch import Batch
from trainables.checkpoint import model_tensors
from trainables.encoders.port import Port
from trainables.encoders.weights import load_config, load_model
from trainables.families.flava import Config, build, droppable, inputs
from trainables.optim import part_of
from trainables.task import Task

TINY = {"encoder": "tiny-flava"}
VARIANTS = [{}, {"lock_text": True, "head_hidden": 0}, {"unimodal_heads": True, "lock_image": True}]
ON_RANKS = {"unimodal_heads": True}
PARTS = {"text_config": TEXT, "image_config": IMAGE, "multimodal_config": NARROW, "image_codebook_config": {}}
STAND_INS = {"facebook/flava-full": ("Flava", {**PARTS, "hidden_size": 24, "projection_dim": 16})}

TASK = Task(kind="multiclass", classes=("a", "b", "c"))
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def flava(**given) -> Any:
    config = Config.model_validate({"encoder": "tiny-flava", **given})
    ports = {name: Port(modality=name, input=input, width=0, encoder=None) for name, input in inputs(config).items()}
    torch.manual_seed(0)
    return build(config, TASK, ports).eval()


def batch(*, size: int = 32) -> Batch:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 4000, (2, 5), generator=generator) * MASK
    images = torch.randint(0, 256, (2, 3, size, size), generator=generator, dtype=torch.uint8)
    return Batch(input_ids=ids, attention_mask=MASK, pixel_values=images, labels=torch.tensor([0, 2]), ids=["a", "b"])


def by_transformers(given: Batch) -> Any:
    """FlavaModel as published runs it, on pixels in -1 .. 1 (tiny-flava's mean and deviation are 0.5)."""
    assert given.pixel_values is not None
    with torch.no_grad():
        return load_model("tiny-flava")(
            input_ids=given.input_ids, attention_mask=given.attention_mask, pixel_values=given.pixel_values / 127.5 - 1
        )


def test_the_joint_state_is_flavas_own():
    net, given = flava(), batch()
    with torch.no_grad():
        out = net(given)
        expected = by_transformers(given).multimodal_output.last_hidden_state[:, 0]
        torch.testing.assert_close(out.features["joint"], expected, rtol=1e-4, atol=1e-5)
        first, _, _, last = net.head
        logits = last(first(expected).relu())
        torch.testing.assert_close(out.logits, logits, rtol=1e-4, atol=1e-5)
    assert out.losses == {} and out.features.keys() == {"joint"}


def test_the_joint_transformer_sees_its_own_cls_the_image_and_the_text():
    """1 + 197 + L tokens for 14 x 14 patches (docs/methods.md#flava); here 14 x 14 of 8 pixels."""
    net, lengths, masks = flava(), [], []
    layer = net.joint_model.encoder.layer[0]
    layer.register_forward_hook(lambda module, given, out: lengths.append(given[0].shape))
    net.joint_model.register_forward_pre_hook(
        lambda module, args, kwargs: masks.append(kwargs["attention_mask"]), with_kwargs=True
    )
    with torch.no_grad():
        net(batch(size=112))
    assert lengths == [(2, 1 + 197 + 5, 64)]
    assert masks[0].tolist() == [[1] * 198 + row for row in MASK.tolist()]


def test_unimodal_heads_read_each_towers_own_cls():
    net, given = flava(unimodal_heads=True), batch()
    with torch.no_grad():
        out, reference = net(given), by_transformers(given)
        torch.testing.assert_close(out.features["text"], reference.text_embeddings[:, 0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(out.features["image"], reference.image_embeddings[:, 0], rtol=1e-4, atol=1e-5)
        alone = {"text": net(given.without("image")), "image": net(given.without("text"))}
        for name, one in alone.items():
            assert one.features.keys() == {name} and one.losses == {}
            torch.testing.assert_close(one.logits, net.unimodal_heads[name](out.features[name]))
    torch.testing.assert_close(alone["text"].features["text"], out.features["text"])
    assert set(droppable(Config.model_validate({"unimodal_heads": True}))) == {"text", "image"}


def test_the_unimodal_loss_is_the_weighted_mean_of_two_cross_entropies():
    net, given = flava(unimodal_heads=True, unimodal_weight=0.3), batch()
    with torch.no_grad():
        out = net(given)
        text, image = net(given.without("image")).logits, net(given.without("text")).logits
    each = [F.cross_entropy(one, given.labels, reduction="none") for one in (text, image)]
    assert out.losses.keys() == {"unimodal"}
    torch.testing.assert_close(out.losses["unimodal"], 0.3 * (each[0] + each[1]) / 2)


@pytest.mark.parametrize("missing", ["text", "image"])
def test_without_unimodal_heads_nothing_may_be_missing(missing):
    assert droppable(Config.model_validate({})) == ()
    with pytest.raises(ValueError, match=f"{missing} is missing, and this model cannot do without it"):
        flava()(batch().without(missing))


@pytest.mark.parametrize("tower", ["text", "image"])
def test_a_locked_tower_is_frozen_and_stays_in_eval_mode(tower):
    net = flava(unimodal_heads=True, **{f"lock_{tower}": True}).train()
    locked = {f"{tower}_model", f"{tower}_norm"}
    for name, parameter in net.named_parameters():
        assert parameter.requires_grad is (name.split(".")[0] not in locked), name
    for name, module in net.named_children():
        assert all(part.training is (name not in locked) for part in module.modules()), name
    assert not any(name.split(".")[0] in locked for name in model_tensors(net))
    out = net(batch())
    (out.logits.sum() + out.losses["unimodal"].mean()).backward()
    assert all((parameter.grad is not None) is parameter.requires_grad for parameter in net.parameters())


def test_a_head_without_a_hidden_layer_is_linear():
    (only,) = (module for module in flava(head_hidden=0).head if isinstance(module, nn.Linear))
    assert (only.in_features, only.out_features) == (64, 3)


def test_images_of_another_size_interpolate_the_positions():
    given = batch(size=16)
    assert flava()(given).logits.isfinite().all()
    with pytest.raises(ValueError, match=r"image_size: 7 is smaller than one patch \(8\) of the model"):
        flava()(batch(size=7))


def test_the_towers_learn_as_encoders_and_the_fusion_as_a_head():
    parts = {name.split(".")[0]: part_of(name) for name, _ in flava(unimodal_heads=True).named_parameters()}
    assert parts == {
        "text_model": "text", "text_norm": "text", "text_to_joint": "text",
        "image_model": "image", "image_norm": "image", "image_to_joint": "image",
        "joint_model": "head", "head": "head", "unimodal_heads": "head",
    }  # fmt: skip


def test_number_of_parameters_at_the_published_size():
    """The paper counts the whole FlavaModel, 241.4 M: three poolers, two contrastive projections with their
    temperature, the mask token and the towers' own final norms included, none of which reaches the logits."""
    d = 768
    with torch.device("meta"):
        whole = sum(p.numel() for p in load_model("random-flava").parameters())
        net = flava(encoder="random-flava")
    assert round(whole / 1e6, 1) == 241.4
    unused = (3 + 2) * (d * d + d) + 1 + d + 2 * (2 * d)
    head = (d * d + d) + (d * 3 + 3)
    assert sum(p.numel() for p in net.parameters()) == whole - unused + head
    assert round((whole - unused) / 1e6, 1) == 238.4


def test_an_encoder_that_is_no_flava_is_refused():
    with pytest.raises(ValueError, match="model.encoder: tiny-bert is a bert, here a flava is needed"):
        flava(encoder="tiny-bert")
    assert load_config("tiny-flava").text_config.hidden_size == 64
