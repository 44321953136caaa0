from typing import Any

import pytest
import torch

from trainables.batch import Batch
from trainables.config import OptimConfig
from trainables.encoders.inputs import Input
from trainables.encoders.port import Port, load_encoder
from trainables.encoders.weights import load_model
from trainables.families.lit_tirg import Config, build, droppable, inputs
from trainables.optim import build_optimizer, part_of
from trainables.task import Task

TINY = {"text_encoder": "tiny-bert", "image_encoder": "tiny-vit"}
VARIANTS = [
    {},
    {"joint_layers": 1, "tirg_norm": "layer"},
    {"joint_layers": 1, "lock_image": False, "pool_f": "mean", "tirg_norm": "none"},
    {"fusion": "none", "lock_image": False, "pool_f": "cls"},
    {"fusion": "none", "num_image_tokens": 1},
    {"fusion": "concat", "image_encoder": "tiny-cnn", "depth": 2},
    {"fusion": "gmu", "lock_image": False},
    {"modal_type": "own", "tirg_gate_layers": 2, "tirg_lr_mult": 30.0},
]
BY_HEART = {"tirg_norm": "layer"}
ON_RANKS = {"lock_image": False}

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


def batch(**given: Any) -> Batch:
    fixed = {
        "input_ids": torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
        "image_features": torch.randn(2, 1 + 4, WIDTH, generator=torch.Generator().manual_seed(1)),
    }
    return Batch(**{**fixed, **given}, labels=torch.zeros(2), ids=["a", "b"])


def test_the_joint_input_is_mmbts_layout():
    """[CLS], image, [SEP] in segment 0 from position 0; the text without its first special in segment 1, from 0."""
    net = lit_tirg()
    table = net.text_embeddings
    tokens = torch.randn(2, 49, 5)
    ids = torch.randint(5, 100, (2, 257))  # 256 tokens behind its own first special
    ids[:, 0], ids[:, -1] = 2, 3
    mask = torch.ones(2, 257, dtype=torch.long)
    mask[1, 200:] = 0
    with torch.no_grad():
        states, joint_mask, num_image = net.joint_input(
            Batch(input_ids=ids, attention_mask=mask, labels=torch.zeros(2), ids=["a", "b"]), tokens
        )
        assert num_image == 51 and states.shape == (2, 307, 64)  # docs/methods.md#lit_tirg
        word, position, segment = table.word_embeddings, table.position_embeddings, table.token_type_embeddings
        inside = [word(torch.tensor([[2], [2]])), net.projection(tokens), word(torch.tensor([[3], [3]]))]
        image = torch.cat(inside, dim=1) + position.weight[:51] + segment.weight[0]
        text = word(ids[:, 1:]) + position.weight[:256] + segment.weight[1]
        torch.testing.assert_close(states, table.LayerNorm(torch.cat([image, text], dim=1)))
    assert joint_mask.tolist() == [[1] * 307, [1] * 51 + mask[1, 1:].tolist()]


def test_own_modal_types_stand_in_for_berts_segments():
    net, ids = lit_tirg(modal_type="own"), torch.tensor([[2, 7, 8, 3]])
    pretrained, table = load_model("tiny-bert").embeddings, net.text_embeddings
    modal = table.token_type_embeddings.weight
    assert modal.shape == (2, 64) and not torch.isin(modal, pretrained.token_type_embeddings.weight).any()
    assert 0.01 < modal.std().item() < 0.03  # as BERT draws
    with torch.no_grad():
        given = Batch(input_ids=ids, attention_mask=torch.ones_like(ids), labels=torch.zeros(1), ids=["a"])
        states, _, num_image = net.joint_input(given, torch.randn(1, 4, 5))
        position, word = table.position_embeddings.weight, table.word_embeddings.weight
        torch.testing.assert_close(states[0, 0], table.LayerNorm(word[2] + position[0] + modal[0]))
        torch.testing.assert_close(states[0, num_image:], table.LayerNorm(word[ids[0, 1:]] + position[:3] + modal[1]))
    assert part_of("text_embeddings.token_type_embeddings.weight") == "text"


def test_the_gate_has_so_many_layers_and_its_weights_a_rate_of_their_own():
    for layers in (1, 2):
        net = lit_tirg(tirg_gate_layers=layers, tirg_lr_mult=50.0)
        assert sum(isinstance(module, torch.nn.Linear) for module in net.fuse.gate) == layers
    optimizer = build_optimizer(net, OptimConfig.model_validate({"lr": 1e-3, "head_lr_mult": 3.0}))
    rates = {id(part): group["base_lr"] for group in optimizer.param_groups for part in group["params"]}
    found = {name: rates[id(part)] for name, part in net.named_parameters() if name.startswith("fuse.")}
    assert {name for name, rate in found.items() if rate == pytest.approx(0.15)} == {"fuse.w_g", "fuse.w_r"}
    assert {name for name, rate in found.items() if rate == pytest.approx(0.003)} == {*found} - {"fuse.w_g", "fuse.w_r"}
    before = net.fuse.w_r.item()
    net.train()(batch()).logits.square().sum().backward()
    optimizer.step()
    assert abs(net.fuse.w_r.item() - before) == pytest.approx(0.15, rel=1e-3)  # AdamW's first step is the rate


def test_all_layers_run_over_both_blocks_by_default():
    net = lit_tirg()
    bert = load_model("tiny-bert")
    given = batch()
    with torch.no_grad():
        assert given.image_features is not None
        states, mask, _ = net.joint_input(given, given.image_features[:, 1:])
        expected = bert.encoder(states, attention_mask=mask[:, None, None, :].bool()).last_hidden_state
        torch.testing.assert_close(net(given).features["text"], bert.pooler(expected), rtol=1e-4, atol=1e-5)


def test_one_joint_layer_is_the_last_pretrained_one_over_the_lower_ones_by_hand():
    net = lit_tirg(joint_layers=1)
    lower = load_encoder("text", Input("tiny-bert", is_locked=True, num_layers=1)).eval()
    bert = load_model("tiny-bert")
    whole = batch()
    with torch.no_grad():
        hidden = bert(
            input_ids=whole.input_ids, attention_mask=whole.attention_mask, output_hidden_states=True
        ).hidden_states[1]
        assert whole.input_ids is not None and whole.image_features is not None and whole.attention_mask is not None
        states, _ = lower(whole.input_ids, whole.attention_mask)
        torch.testing.assert_close(states, hidden)
        given = batch(input_ids=None, text_features=hidden)
        joint, mask, num_image = net.joint_input(given, whole.image_features[:, 1:])
        torch.testing.assert_close(joint[:, num_image:], hidden[:, 1:])
        image_ids = torch.tensor([[2], [2]]), torch.tensor([[3], [3]])
        word = bert.embeddings.word_embeddings
        block = torch.cat([word(image_ids[0]), net.projection(whole.image_features[:, 1:]), word(image_ids[1])], dim=1)
        block = block + bert.embeddings.position_embeddings.weight[:6] + bert.embeddings.token_type_embeddings.weight[0]
        torch.testing.assert_close(joint[:, :num_image], bert.embeddings.LayerNorm(block))
        last = bert.encoder.layer[1](joint, attention_mask=mask[:, None, None, :].bool())
        torch.testing.assert_close(net(given).features["text"], bert.pooler(last), rtol=1e-4, atol=1e-5)
    assert len(net.text_layers) == 1 and net.text_embeddings.word_embeddings.num_embeddings == 2


def test_what_the_text_encoder_cannot_do_is_said():
    with pytest.raises(ValueError, match="model.joint_layers: tiny-bert has 2 layers, 3 were asked for"):
        lit_tirg(joint_layers=3)
    with pytest.raises(ValueError, match="511 image tokens do not fit into the 512 positions of tiny-bert"):
        lit_tirg()(batch(image_features=torch.zeros(2, 512, 5)))


def test_a_text_encoder_that_is_no_bert_is_refused(tmp_path):
    from transformers import RobertaConfig

    RobertaConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="model.text_encoder: lit_tirg needs a BERT with two segments"):
        inputs(Config.model_validate({"text_encoder": str(tmp_path)}))


def test_ablations_leave_out_what_they_say():
    names = {fusion: {name.split(".")[0] for name, _ in lit_tirg(fusion=fusion).named_parameters()}
             for fusion in ("tirg", "none", "concat", "gmu")}  # fmt: skip
    assert "fuse" in names["tirg"] and "fuse" in names["gmu"]
    assert not names["none"] & {"fuse", "to_joint"} and "to_joint" in names["concat"] and "fuse" not in names["concat"]


# --- without a modality ------------------------------------------------------------------------------
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
